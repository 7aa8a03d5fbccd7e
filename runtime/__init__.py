"""Bundle to restored image: the `Restorer` and what it gives and takes. Needs no torch."""

from __future__ import annotations

from runtime.restorer import Restorer
from runtime.result import LineText, Result
from textsr.errors import BundleError, DeviceError, EngineError, InputError, TextSRError

__all__ = ["BundleError", "DeviceError", "EngineError", "InputError", "LineText", "Restorer", "Result", "TextSRError"]
