"""What a caller gets for one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from textsr.fit import resample_uint8


@dataclass(frozen=True)
class Result:
    """One line's outcome.

    ``image``: RGB uint8, ``scale`` (4) times the input's size: restored where ``applied``, else enlarged bicubically
    (0 x 0 where the input was no picture at all). ``reason`` says why it was not restored, or what a restored line
    lacked; empty when there is nothing to say. ``text`` is what the restoration was told the line says,
    ``confidences`` one number a character and ``confidence`` their mean (0 without text). ``tokens`` are the ids
    after the text sampler. ``timings``: seconds of reading, restoring and finishing, a batch's divided evenly.
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
