"""Quadrilaterals of lines: straight pictures cut out of them, and the way back.

Coordinates are x and y, and count from the upper left corner of the first pixel, whose centre is (0.5, 0.5). A
homography (3, 3) maps (x, y, 1) to what is (x, y) after division by the third number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Quad = NDArray[np.float64]
Homography = NDArray[np.float64]

_RIM = 3
"""Pixels kept around a quadrilateral, more than the bicubic kernel sees."""


def rectangle(width: float, height: float, margin: float = 0.0) -> Quad:
    """Corners (4, 2), clockwise from the upper left, of a rectangle at the origin, grown by ``margin``."""
    left, right, top, bottom = -margin, width + margin, -margin, height + margin
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)


def sides(quad: NDArray[Any]) -> tuple[float, float]:
    """Height and width of the straight picture of a quadrilateral: the longer of opposite sides."""
    top, right, bottom, left = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
    return float(max(left, right)), float(max(top, bottom))


def usable(quad: NDArray[Any]) -> bool:
    """Whether corners (4, 2) are numbers that go clockwise around a convex quadrilateral with an area."""
    if quad.shape != (4, 2) or not np.isfinite(quad).all():
        return False
    along = np.roll(quad, -1, axis=0) - quad
    following = np.roll(along, -1, axis=0)
    turn = along[:, 0] * following[:, 1] - along[:, 1] * following[:, 0]
    return bool((turn > 1e-6 * np.abs(along).max() ** 2).all())


def homography(source: NDArray[Any], target: NDArray[Any]) -> Homography:
    """The one that maps the corners (4, 2) ``source`` to ``target``; both `usable`."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source.astype(np.float64), target.astype(np.float64), strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    return np.append(np.linalg.solve(np.array(rows), np.array(values)), 1.0).reshape(3, 3)


def inverted(matrix: Homography) -> Homography:
    """The homography that goes back."""
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def scaling(across: float, down: float) -> Homography:
    """The homography that multiplies x by ``across`` and y by ``down``."""
    return np.diag((across, down, 1.0))


def shift(across: float, down: float) -> Homography:
    """The homography that adds ``across`` to x and ``down`` to y."""
    return np.array([(1.0, 0.0, across), (0.0, 1.0, down), (0.0, 0.0, 1.0)])


def project(matrix: Homography, points: NDArray[Any]) -> NDArray[np.float64]:
    """``points`` (n, 2) mapped."""
    found = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(found[:, :2] / found[:, 2:], dtype=np.float64)


def grown(quad: NDArray[Any], margin: float) -> Quad:
    """The quadrilateral grown by ``margin`` pixels of its straight picture on each side, in its own perspective; as it
    is where that would reach the horizon."""
    height, width = sides(quad)
    matrix = homography(rectangle(width, height), quad)
    outer = rectangle(width, height, margin)
    depths = np.column_stack([outer, np.ones(4)]) @ matrix[2]
    return project(matrix, outer) if depths.min() > 0.25 * depths.max() else quad.astype(np.float64)


def bounds(quad: NDArray[Any]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the whole pixels that hold a quadrilateral."""
    left, top = np.floor(quad.min(axis=0)).astype(int)
    right, bottom = np.ceil(quad.max(axis=0)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def cut_out(image: NDArray[np.uint8], quad: NDArray[Any]) -> NDArray[np.uint8]:
    """The straight picture (h, w, 3) of a quadrilateral of ``image``, bicubic; beyond the image its edge repeats."""
    height, width = (max(1, round(side)) for side in sides(quad))
    left, top, right, bottom = bounds(quad)
    left, top, right, bottom = left - _RIM, top - _RIM, right + _RIM, bottom + _RIM
    rows = np.arange(top, bottom).clip(0, image.shape[0] - 1)
    columns = np.arange(left, right).clip(0, image.shape[1] - 1)
    around = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][rows - rows[0]][:, columns - columns[0]]
    return warped(around, homography(rectangle(width, height), quad - (left, top)), height, width)


def warped(image: NDArray[Any], matrix: Homography, height: int, width: int) -> NDArray[Any]:
    """A picture (height, width, 3) whose every place shows that place of ``image`` (h, w, 3), uint8 or float32, which
    ``matrix`` maps it to; bicubic, 0 beyond the image."""
    factors = tuple(float(factor) for factor in (matrix / matrix[2, 2]).reshape(-1)[:8])

    def transformed(picture: NDArray[Any]) -> NDArray[Any]:
        made = Image.fromarray(np.ascontiguousarray(picture)).transform(
            (width, height), Image.Transform.PERSPECTIVE, factors, Image.Resampling.BICUBIC
        )
        return np.asarray(made)

    if image.dtype == np.uint8:
        return transformed(image)
    return np.stack([transformed(image[:, :, channel]) for channel in range(image.shape[2])], axis=-1)
