"""What is compared: functions from low-resolution lines to lines of four times their size."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.testset import enlarge
from textsr.errors import InputError


@dataclass(frozen=True)
class Output:
    """A method's line: ``image`` (4h, 4w, 3) uint8 RGB; ``text`` where the method read the line itself."""

    image: NDArray[np.uint8]
    text: str | None = None


Method = Callable[[Sequence[NDArray[np.uint8]]], Sequence[Output]]
"""From lines (h, w, 3) uint8 RGB to as many outputs, in order."""


@dataclass(frozen=True)
class MethodOptions:
    """What the built-in method ``ours`` is opened with."""

    bundle: str = "compact"
    device: str = "auto"
    seed: int = 0
    steps: int | None = None
    threads: int | None = None


def bicubic(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
    """Bicubic enlargement, a = -0.75."""
    return [Output(enlarge(image)) for image in images]


def ours(options: MethodOptions) -> Method:
    """The bundle, through the runtime's public door, reading the lines itself."""
    from runtime import Restorer

    restorer = Restorer.open(options.bundle, options.device, threads=options.threads)

    def run(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
        results = restorer(images, seed=options.seed, steps=options.steps)
        return [Output(result.image, result.text) for result in results]

    return run


def find_method(name: str, options: MethodOptions) -> Method:
    """A method by name: ``bicubic``, ``ours`` or ``module:function``.

    Such a function takes lines (h, w, 3) uint8 and returns as many arrays (4h, 4w, 3) uint8, or `Output`s.
    Raises InputError when there is none of that name.
    """
    if name == "bicubic":
        return bicubic
    if name == "ours":
        return ours(options)
    module, _, function = name.partition(":")
    if not function:
        raise InputError(f"unknown method {name!r}: use bicubic, ours or module:function")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"method {name}: {error}") from error
    return _wrapped(found)


def _wrapped(function: Callable[[Sequence[NDArray[np.uint8]]], Sequence[Any]]) -> Method:
    def run(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
        return [item if isinstance(item, Output) else Output(np.asarray(item)) for item in function(images)]

    return run
