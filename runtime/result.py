"""What a caller gets for one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textsr.fit import resample_uint8


@dataclass(frozen=True)
class ResultPiece:
    """A piece of a line that was split; columns are those of the upright crop, in its own pixels.

    The network saw left..right; the result shows core_left..core_right of it, and the cores of a line tile it.
    ``text`` are the characters in the core: those of all pieces make up the line's.
    """

    left: int
    right: int
    core_left: int
    core_right: int
    text: str = ""


@dataclass(frozen=True)
class Result:
    """One line's outcome.

    ``image``: RGB uint8, ``scale`` (4) times the input's size: restored where ``applied``, else enlarged bicubically
    (0 x 0 where the input was no picture at all). ``reason`` says why it was not restored, or what a restored line
    lacked; empty when there is nothing to say. ``cause`` is the same for programs: empty where applied, else input
    (no picture or text that can be used), blank, too_low, sharp, read_well (`runtime.gate`), deadline, not_finite or
    guard. ``text`` is what the restoration was told the line says, ``confidences`` one number a character,
    ``confidence`` their mean (0 without text) and ``centres`` their places, as shares of the crop's width, or of its
    height from the top where it was laid down. ``tokens`` are the ids after the text sampler. ``timings``: seconds of
    reading, restoring, proofreading, finishing and judging, a batch's divided evenly.

    ``pieces``: how the line was split, from left to right; one where it was not. ``turned``: degrees counterclockwise
    by which a vertical line was turned to be restored, 0, 90 or 270; ``stacked``: its characters stood upright and
    were laid out as a row. ``evidence`` is what a guard found.

    ``executor`` and ``reader``: what ran the graphs, as onnxruntime:cpu, and what read the line, as PP-OCRv6+degraded,
    "given" for a text of the caller's; empty where none did. ``seed``, ``steps``, ``strength`` and ``paint`` are those
    of the call.
    """

    image: NDArray[np.uint8]
    text: str = ""
    confidence: float = 0.0
    confidences: tuple[float, ...] = ()
    applied: bool = False
    reason: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    executor: str = ""
    reader: str = ""
    tokens: tuple[int, ...] = ()
    seed: int = 0
    steps: int = 0
    strength: float = 0.0
    paint: float = 0.0
    cause: str = ""
    centres: tuple[float, ...] = ()
    pieces: tuple[ResultPiece, ...] = ()
    turned: int = 0
    stacked: bool = False
    evidence: Mapping[str, Any] = field(default_factory=dict)


def enlarged(image: object, scale: float) -> NDArray[np.uint8]:
    """``image`` at ``scale`` times its size, bicubic, as RGB uint8; 0 x 0 where it is no uint8 picture.

    Grey (h, w) and RGBA (h, w, 4) arrays are shown too, though nothing restores them.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3) or image.size == 0:
        return np.zeros((0, 0, 3), dtype=np.uint8)
    planes = image[:, :, None] if image.ndim == 2 else image
    rgb = planes[:, :, :3] if planes.shape[2] >= 3 else np.repeat(planes[:, :, :1], 3, axis=2)
    height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
    return resample_uint8(rgb, height, width, lambda part: np.clip(np.rint(part), 0, 255).astype(np.uint8))
