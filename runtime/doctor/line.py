"""The built-in line, drawn from the glyph atlas, and its restoration through one executor. Needs no fonts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.options import Gate, Split
from textsr.alphabet import Alphabet
from textsr.atlas import SIZE, load_atlas
from textsr.errors import TextSRError
from textsr.fit import resample_uint8

TEXT = "清晰文字 Text 42"
HEIGHT = 20
"""Pixels of the drawn line, small enough that restoring it means something."""
STEPS = 2
ENOUGH_DB = 40.0
"""PSNR to the reference that a result must reach."""
IDENTICAL_DB = 100.0
"""PSNR that is told where there is no difference."""
FLATTEST = 8
"""Grey levels: a picture whose values span fewer is blank."""
PASSES = 2
"""An executor that captures passes runs the first as it comes and the second captured: both are judged."""
FAILURES = (TextSRError, RuntimeError, OSError, ImportError, AttributeError, MemoryError)
"""What opening or running an executor may raise: ours, those of CUDA libraries and torch, those of loading them, and
AttributeError where only an empty folder is left of a package."""
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Trial:
    """A self-test of one executor.

    ``name`` is what its results say, empty where it could not be opened. ``psnr`` is in dB against the reference
    (None where there is none, as for the reference itself). ``opened`` and ``seconds`` are those of opening it and of
    its last pass; None where it did not come so far.
    """

    executor: str
    device: str
    name: str = ""
    passed: bool = False
    reason: str = ""
    reference: bool = False
    psnr: float | None = None
    opened: float | None = None
    first: float | None = None
    seconds: float | None = None
    images: tuple[Image, ...] = field(default=(), repr=False, compare=False)


def draw_line(text: str = TEXT, height: int = HEIGHT) -> Image:
    """``text`` in dark ink on light paper, RGB (height, w, 3) uint8, the same on every machine.

    Each character takes its ink and a small gap, a space a third of an em.
    """
    alphabet, atlas = Alphabet.load(), load_atlas()
    gap = np.zeros((SIZE, 4), np.uint8)
    parts = [gap, gap]
    for character in text:
        glyph = atlas[alphabet.symbols.index(character)]
        columns = np.flatnonzero(glyph.any(axis=0))
        parts += [
            glyph[:, columns[0] : columns[-1] + 1] if columns.size else np.zeros((SIZE, SIZE // 3), np.uint8),
            gap,
        ]
    ink = np.pad(np.concatenate([*parts, gap], axis=1), ((6, 6), (0, 0))).astype(np.float32) / 255
    paper, dark = np.array([232, 228, 214], np.float32), np.array([40, 44, 66], np.float32)
    picture = (paper + ink[:, :, None] * (dark - paper)).astype(np.float32)
    width = round(picture.shape[1] * height / picture.shape[0])
    return resample_uint8(picture, height, width, _rounded)


def _rounded(part: NDArray[np.float32]) -> Image:
    return np.clip(np.rint(part), 0, 255).astype(np.uint8)


def psnr(image: Image, other: Image) -> float:
    """dB between two pictures of 0..255 of one shape; at most `IDENTICAL_DB`."""
    error = float(np.mean((image.astype(np.float64) - other.astype(np.float64)) ** 2))
    return min(IDENTICAL_DB, 10 * math.log10(255**2 / error)) if error else IDENTICAL_DB


def blank(image: Image) -> bool:
    """Whether a picture is black, or all of one shade."""
    return image.size == 0 or int(image.max()) - int(image.min()) < FLATTEST


def try_executor(
    executor: str,
    device: str,
    open_restorer: Callable[[], Any],
    line: Image,
    steps: int,
    reference: Image | None,
    *,
    is_reference: bool = False,
) -> Trial:
    """Restores ``line`` twice and judges both results.

    :param open_restorer: opens a `runtime.Restorer`; what it raises is the trial's reason.
    :param reference: what to compare with; None where there is none, as for the trial that ``is_reference``.
    """
    begin = time.perf_counter()
    try:
        restorer = open_restorer()
    except FAILURES as error:
        return Trial(executor, device, reason=told(error))
    opened = time.perf_counter() - begin
    name = str(restorer.executor.name)
    try:
        results, times = _passes(restorer, line, steps)
        close(restorer.executor)
    except FAILURES as error:
        return Trial(executor, device, name, reason=told(error), opened=opened)
    images = tuple(result.image for result in results)
    reason = next((why for why in map(_wrong, results) if why), "")
    worst = None if reason or reference is None else min(psnr(image, reference) for image in images)
    if not reason and reference is None and not is_reference:
        reason = "there is no reference to compare with: ONNX Runtime on the CPU did not pass"
    if worst is not None and worst < ENOUGH_DB:
        reason = f"differs from ONNX Runtime's float32 on the CPU: {worst:.1f} dB, {ENOUGH_DB:g} are needed"
    return Trial(
        executor, device, results[-1].executor or name, not reason, reason, is_reference, worst, opened,
        times[0], times[-1], images,
    )  # fmt: skip


def told(error: BaseException) -> str:
    """An error as one line, with its kind where that is not one of ours."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return lines[0] if isinstance(error, TextSRError) else f"{type(error).__name__}: {lines[0]}"


def _passes(restorer: Any, line: Image, steps: int) -> tuple[list[Any], list[float]]:
    results, times = [], []
    for _ in range(PASSES):
        begin = time.perf_counter()
        results += restorer([line], [TEXT], steps=steps, batch_size=1, split=Split(enabled=False), gate=Gate.off())
        times.append(time.perf_counter() - begin)
    return results, times


def _wrong(result: Any) -> str:
    """What is wrong with a result by itself; a result that was not applied is one that was not finite."""
    if not result.applied:
        return str(result.reason)
    return "the restored line is blank: black, or all of one shade" if blank(result.image) else ""


def close(executor: Any) -> None:
    """Closes an executor that has something to close."""
    closing = getattr(executor, "close", None)
    if closing is not None:
        closing()
