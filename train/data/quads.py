"""Cutting lines out of photographs: the smallest rectangle around four corners, turned upright."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from textsr.errors import InputError

FULLNESS = 0.4
"""Least share of its rectangle that a quadrilateral fills: one whose corners are in a wrong order fills none of it."""


@dataclass(frozen=True)
class Rectangle:
    """Corners (4, 2) float32 in the order top left, top right, bottom right, bottom left of the text; x, y in pixels.

    Pixel (i, j) covers the square from (j, i) to (j + 1, i + 1).
    """

    corners: NDArray[np.float32]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, rounded, at least 1."""
        width, height = (float(np.linalg.norm(self.corners[end] - self.corners[0])) for end in (1, 3))
        return max(1, round(height)), max(1, round(width))

    def scaled(self, x: float, y: float) -> Rectangle:
        """In a picture of other size."""
        return Rectangle(self.corners * np.array([x, y], np.float32))


def rectangle(quad: NDArray[np.float64], picture: tuple[int, int]) -> Rectangle:
    """The smallest rectangle around ``quad`` (4, 2), whose first corner is the text's top left.

    Raises InputError where the corners enclose nothing, cross, or lie outside ``picture`` (height, width) by more than
    half the line's height.
    """
    outside = f"it lies outside the picture of {picture[1]} x {picture[0]} pixels"
    if not (np.abs(quad) <= 4 * max(picture)).all():  # not finite, or too far out to reckon with
        raise InputError(outside)
    points = np.asarray(quad, dtype=np.float32)
    after = np.roll(points, -1, axis=0)
    area = float(np.sum(points[:, 0] * after[:, 1] - after[:, 0] * points[:, 1])) / 2
    if area < 0:  # counterclockwise on the screen: the same corners, the other way round
        points = points[[0, 3, 2, 1]]
    box = cv2.boxPoints(cv2.minAreaRect(points)).astype(np.float32)
    middle = box.mean(axis=0)
    box = box[np.argsort(np.arctan2(box[:, 1] - middle[1], box[:, 0] - middle[0]))]  # clockwise, as y points down
    turns = [np.roll(box, turn, axis=0) for turn in range(4)]
    best = Rectangle(min(turns, key=lambda turned: float(np.sum((turned - points) ** 2))))
    width, height = (float(np.linalg.norm(best.corners[end] - best.corners[0])) for end in (1, 3))
    if min(width, height) < 1 or abs(area) < FULLNESS * width * height:
        raise InputError(f"its corners enclose {abs(area):.0f} of {width * height:.0f} pixels: wrong order, or no area")
    limits, slack = np.array([picture[1], picture[0]]), min(width, height) / 2
    if (points < -slack).any() or (points > limits + slack).any():
        raise InputError(outside)
    return best


def cut(image: NDArray[np.uint8], found: Rectangle) -> NDArray[np.uint8]:
    """The line (h, w, 3) uint8 in ``found``, upright; what lies outside the picture repeats its border."""
    height, width = found.size
    target = np.array([[0, 0], [width, 0], [0, height]], np.float32)
    # OpenCV counts from pixel centres.
    warp = cv2.getAffineTransform(found.corners[[0, 1, 3]] - np.float32(0.5), target - np.float32(0.5))
    line = cv2.warpAffine(image, warp, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(line, dtype=np.uint8)
