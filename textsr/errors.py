"""Errors a caller can meet. Every message says what was wrong, with which file or value, and what to do."""

from __future__ import annotations


class TextSRError(Exception):
    """Base of all errors raised on purpose by this project."""


class InputError(TextSRError):
    """An image, text, option or file given by the caller cannot be used."""


class BundleError(TextSRError):
    """A bundle or checkpoint is missing, damaged, of another format or fails its hashes."""


class EngineError(TextSRError):
    """An executor or engine could not be built, loaded or run."""


class DeviceError(TextSRError):
    """The device asked for is not there or cannot be used."""


class BusyError(TextSRError):
    """As many calls are running and waiting as were allowed: this one was refused, nothing of it was done."""
