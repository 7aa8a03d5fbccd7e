"""The library that builds and runs engines: TensorRT, or TensorRT for RTX, which has the same API.

They differ in where kernels are chosen. TensorRT times them on the GPU it builds on, keeps the times in a timing cache,
and its engine is for that GPU. TensorRT-RTX needs no GPU to build (its timing cache API has no effect and asks for
one, so it is left alone); it compiles kernels when the engine runs and can keep them in a runtime cache.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from textsr.errors import EngineError, InputError

logger = logging.getLogger(__name__)

TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt-rtx"
MODULES = {TENSORRT: "tensorrt", TENSORRT_RTX: "tensorrt_rtx"}
"""Python module of each library; the first that is installed is taken where none is named."""
OLDEST = {TENSORRT: 11, TENSORRT_RTX: 1}
"""Major versions. Older TensorRT has networks that are not strongly typed."""
_HARMLESS = ("has Int64 binding",)
"""Warnings that tell what we know: tokens are int64 in the graphs and in the executors' buffers."""


@dataclass(frozen=True)
class Library:
    """An imported library. ``name`` is a key of `MODULES`, ``version`` as the module says."""

    name: str
    version: str
    module: Any = field(repr=False, compare=False)

    @property
    def builds_without_gpu(self) -> bool:
        """Whether engines can be built on a machine without a GPU, for any that the library supports."""
        return self.name == TENSORRT_RTX

    @property
    def has_timing_cache(self) -> bool:
        """Whether building gains from a timing cache."""
        return self.name == TENSORRT


def open_library(name: str | None = None) -> Library:
    """Import the library called ``name``, or the first of `MODULES` that is installed.

    :raises InputError: unknown name.
    :raises EngineError: not installed, too old, or installed and broken (its own libraries are missing, say).
    """
    if name is not None and name not in MODULES:
        raise InputError(f"unknown engine library {name!r}: choose one of {', '.join(MODULES)}")
    for choice in (name,) if name is not None else MODULES:
        module = _import(choice)
        if module is not None:
            return _checked(Library(choice, str(module.__version__), module))
    raise EngineError(
        f"{name or ' and '.join(MODULES)} not installed: install the extra [tensorrt] for tensorrt-rtx, "
        "or tensorrt 11 as NVIDIA describes"
    )


def _import(name: str) -> Any | None:
    """The module; None where it is not installed. One that is there and cannot be loaded is an error, not a None."""
    try:
        return import_module(MODULES[name])
    except ModuleNotFoundError as error:
        if error.name == MODULES[name]:
            return None
        raise EngineError(f"{name} is installed but lacks {error.name}: install it again") from error
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(f"{name} is installed but cannot be loaded: {error}") from error


def _checked(library: Library) -> Library:
    major = library.version.split(".")[0]
    if not major.isdecimal() or int(major) < OLDEST[library.name]:
        raise EngineError(f"{library.name} {library.version} is too old: {OLDEST[library.name]} or newer is needed")
    return library


@cache
def log_of(library: Library) -> Any:
    """The ``ILogger`` that passes the library's messages to `logging` and keeps the errors in ``failures``.

    One for each library, kept for good: a library holds on to the first logger that it is given.
    """
    kind = library.module.ILogger
    levels = {
        kind.INTERNAL_ERROR: logging.ERROR,
        kind.ERROR: logging.ERROR,
        kind.WARNING: logging.WARNING,
        kind.INFO: logging.DEBUG,
    }

    class Bridge(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            kind.__init__(self)
            self.failures: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            """Called by the library, from its own threads too."""
            level = levels.get(severity, logging.DEBUG)
            if level == logging.ERROR:
                self.failures.append(msg.strip())
            elif any(known in msg for known in _HARMLESS):
                level = logging.DEBUG
            logger.log(level, "%s: %s", library.name, msg.strip())

    return Bridge()


def refusal(library: Library, data: bytes) -> str:
    """What TensorRT-RTX has against loading this engine on this machine's GPU; empty where it would load it.

    It reads the engine's header alone, so that a GPU it does not support is named before anything is loaded. TensorRT
    has no such check: always empty.
    """
    if not library.builds_without_gpu:
        return ""
    trt = library.module
    validity, found = trt.Runtime(log_of(library)).get_engine_validity(data)
    if validity == trt.EngineValidity.VALID:
        return ""
    reasons = [name for name, value in trt.EngineInvalidityDiagnostics.__members__.items() if int(value) & int(found)]
    told = ", ".join(reasons) or "it finds no GPU"
    if validity == trt.EngineValidity.SUBOPTIMAL:
        logger.warning("%s: the engine runs on this GPU, but not at its best (%s)", library.name, told)
        return ""
    return told
