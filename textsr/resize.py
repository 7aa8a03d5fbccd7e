"""Resizing in NumPy, equal to torch's: half-pixel centres, clamped edges, no antialias; bicubic with a = -0.75."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from textsr.config import SCALE
from textsr.errors import InputError

A = -0.75
"""The free coefficient of the cubic convolution kernel; Pillow and Matlab use -0.5."""


def _near(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return ((A + 2) * x - (A + 3)) * x * x + 1


def _far(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return ((A * x - 5 * A) * x + 8 * A) * x - 4 * A


@lru_cache(maxsize=64)
def _taps(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(new, 4) source indices, clamped to the edge, and their weights."""
    place = (np.arange(new, dtype=np.float64) + 0.5) * (old / new) - 0.5
    base = np.floor(place)
    x = place - base
    weights = np.stack([_far(x + 1), _near(x), _near(1 - x), _far(2 - x)], axis=1)
    indices = base.astype(np.int64)[:, None] + np.arange(-1, 3)
    return np.clip(indices, 0, old - 1), weights.astype(np.float32)


def _along(image: NDArray[np.float32], new: int, axis: int) -> NDArray[np.float32]:
    if image.shape[axis] == new:
        return image
    indices, weights = _taps(image.shape[axis], new)
    shape = [1] * image.ndim
    shape[axis] = new
    result = np.zeros((), dtype=np.float32)
    for tap in range(4):
        result = result + np.take(image, indices[:, tap], axis=axis) * weights[:, tap].reshape(shape)
    return np.asarray(result, dtype=np.float32)


def bicubic_resize(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """``image`` (H, W, C) or (H, W) float32 resampled to ``height`` x ``width``; values are not clamped.

    Equals torch's ``interpolate(mode="bicubic", align_corners=False, antialias=False)``. Raises InputError on
    sizes below 1.
    """
    if min(height, width, *image.shape[:2]) < 1:
        raise InputError(f"cannot resize an image of {image.shape[:2]} to {(height, width)}: sizes must be at least 1")
    return _along(_along(np.asarray(image, dtype=np.float32), width, 1), height, 0)


def bicubic_x4(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """``image`` (H, W, C) float32 enlarged four times, the network's idea of a low-resolution line at full size."""
    return bicubic_resize(image, image.shape[0] * SCALE, image.shape[1] * SCALE)


def bilinear_resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """``image`` (h, w, C) at another size, float32 in the range of its values; no filter when shrinking.

    Equals torch's ``interpolate(mode="bilinear", align_corners=False, antialias=False)``.
    """
    rows, next_rows, down = _pair(image.shape[0], height)
    columns, next_columns, right = _pair(image.shape[1], width)
    upper, lower = (image[index].astype(np.float32) for index in (rows, next_rows))
    tall = upper + (lower - upper) * down[:, None, None]
    left = tall[:, columns]
    return left + (tall[:, next_columns] - left) * right[None, :, None]


def _pair(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """(new,) indices of two neighbours and the share of the second."""
    place = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    first = np.floor(place).astype(np.int64)
    return first, np.minimum(first + 1, old - 1), (place - first).astype(np.float32)


def nearest_resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """``image`` (h, w, C) at another size, no value mixed. Equals torch's ``interpolate(mode="nearest")``.

    That rounds down from the pixels' corners, not from their centres, and counts in single precision.
    """
    rows, columns = (_corner(old, new) for old, new in zip(image.shape[:2], (height, width), strict=True))
    return image[rows[:, None], columns]


def _corner(old: int, new: int) -> NDArray[np.int64]:
    places = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    return np.minimum(np.floor(places).astype(np.int64), old - 1)
