"""Bundle to restored image: the `Restorer` and what it gives and takes. Needs no torch."""

from __future__ import annotations

from runtime.restorer import Restorer
from runtime.result import Result
from textsr.errors import BundleError, DeviceError, EngineError, InputError, TextSRError
from textsr.linetext import LineText

__all__ = ["BundleError", "DeviceError", "EngineError", "InputError", "LineText", "Restorer", "Result", "TextSRError"]
