"""The picture as a witness: how far a restored line, shrunk again, is from the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from textsr.fit import resample

SIGMA, RADIUS = 1.5, 5
"""Pixels: the Gaussian window of Wang et al. 2004, 11 wide."""
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
ROWS = 32
"""Lines that are higher are compared at this height, at which the network saw them."""
NARROWEST = 0.25
"""Line heights: a character's columns are at least so wide."""


@dataclass(frozen=True)
class Similarity:
    """SSIM (-1..1) over the whole line and over the columns of its least similar character."""

    whole: float
    column: float


def similarity(image: NDArray[np.uint8], restored: NDArray[np.uint8], centres: Sequence[float] = ()) -> Similarity:
    """Of ``restored`` (H, W, 3), shrunk to the size of ``image`` (h, w, 3), and ``image``; both upright uint8 RGB.

    ``centres``: the characters' places as shares of the width; without them columns of half a line height are taken.
    """
    height, width = image.shape[:2]
    rows = min(height, ROWS)
    columns = max(1, round(width * rows / height))
    found = ssim_map(_light(image, rows, columns), _light(restored, rows, columns)).mean(axis=0)
    return Similarity(float(found.mean()), min(float(found[a:b].mean()) for a, b in spans(columns, rows, centres)))


def ssim_map(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """SSIM of two pictures (h, w) in 0..255 at every pixel; edges repeat outwards."""
    mean_one, mean_other = _blur(one), _blur(other)
    var_one = np.maximum(_blur(one * one) - mean_one**2, 0)
    var_other = np.maximum(_blur(other * other) - mean_other**2, 0)
    both = _blur(one * other) - mean_one * mean_other
    above = (2 * mean_one * mean_other + C1) * (2 * both + C2)
    return np.asarray(above / ((mean_one**2 + mean_other**2 + C1) * (var_one + var_other + C2)), dtype=np.float32)


def spans(columns: int, rows: int, centres: Sequence[float]) -> list[tuple[int, int]]:
    """Each character's first column and the one behind its last: it reaches to the middle between neighbours."""
    least = max(1, round(NARROWEST * rows))
    if not centres:
        count = min(columns, max(1, round(2 * columns / rows)))
        edges = np.linspace(0, columns, count + 1).round().astype(int)
        return [(int(a), max(int(a) + 1, int(b))) for a, b in pairwise(edges)]
    at = sorted(centre * columns for centre in centres)
    middles = [(left + right) / 2 for left, right in pairwise(at)]
    half = max(least / 2, min((b - a for a, b in pairwise(at)), default=rows) / 2)
    lefts, rights = [max(0.0, at[0] - half), *middles], [*middles, min(float(columns), at[-1] + half)]
    made = []
    for centre, left, right in zip(at, lefts, rights, strict=True):
        first, last = min(left, centre - least / 2), max(right, centre + least / 2)
        begin = int(np.clip(round(first), 0, columns - 1))
        made.append((begin, int(np.clip(round(last), begin + 1, columns))))
    return made


def _light(image: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.float32]:
    light = image.mean(axis=2, keepdims=True, dtype=np.float32)
    return np.clip(resample(light, rows, columns)[:, :, 0], 0, 255)


def _blur(image: NDArray[np.float32]) -> NDArray[np.float32]:
    taps = np.exp(-((np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2) / 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        around = np.pad(image, [(RADIUS, RADIUS) if axis == here else (0, 0) for here in (0, 1)], mode="edge")
        length = image.shape[axis]
        parts = (np.take(around, range(k, k + length), axis=axis) * tap for k, tap in enumerate(taps))
        image = np.sum(list(parts), axis=0)
    return image
