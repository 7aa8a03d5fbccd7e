"""Bundle to restored image: the `Restorer` and what it gives and takes. Needs no torch."""

from __future__ import annotations

import os

from runtime.events import Event
from runtime.guard import Guard, GuardOptions
from runtime.options import Gate, Split
from runtime.restorer import Restorer
from runtime.result import Result
from textsr.errors import BundleError, BusyError, DeviceError, EngineError, InputError, TextSRError
from textsr.linetext import LineText

__all__ = [
    "BundleError",
    "BusyError",
    "DeviceError",
    "EngineError",
    "Event",
    "Gate",
    "Guard",
    "GuardOptions",
    "InputError",
    "LineText",
    "Restorer",
    "Result",
    "Split",
    "TextSRError",
]

# ONNX Runtime 1.32 reports to its maker over the network and keeps an identifier under ~/.cache unless this is set
# before it is first imported. Who wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
