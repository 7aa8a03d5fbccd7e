"""Bundle to restored image: the `Restorer` and what it gives and takes. Needs no torch."""

from __future__ import annotations

from runtime.events import Event
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
    "InputError",
    "LineText",
    "Restorer",
    "Result",
    "Split",
    "TextSRError",
]
