"""Restored lines put back into the enlarged page: in their places, in the page's colours, without seams.

What is put back is a line's detail (`detail`): the difference to the line as the enlarged page shows it, as far as it
is finer than half the line's height, lies in colours that the line has, and is more than a shade. So slow changes of
colour, the paper and its grain are those of the page, and a line that nothing was done to changes nothing. Towards the
edges of what was cut out the detail fades. Where lines overlap, each counts as much as it does not fade there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.pages.geometry import Homography, bounds, homography, inverted, rectangle, scaling, shift, warped
from textsr.fit import resample

CELL = 0.5
"""Line heights: what changes more slowly than over this is the page's, not the network's. The characters' strokes are
finer, so shading, paper and the colour of ink are kept, and blur is not."""
RARE = 0.1
"""Share of the colours' largest variance below which a direction of colour counts less, and the less the rarer."""
SHADE = 12.0
"""Grey levels: smaller differences between restored and enlarged line are taken the less the smaller they are. Strokes
differ by more; the paper, whose grain goes on beyond the line, does not."""
BAND = 256
"""Rows of the page that are worked on at a time."""


@dataclass(frozen=True)
class Placing:
    """A restored line ``image`` (H, W, 3) of the ``crop`` (h, w, 3) whose corners (4, 2) lie at ``corners`` in the
    input; it fades over ``feather`` pixels of the crop."""

    image: NDArray[np.uint8]
    crop: NDArray[np.uint8]
    corners: NDArray[np.float32]
    feather: float


@dataclass(frozen=True)
class _Placed:
    """A placing as the enlarged page sees it: ``inverse`` maps the page's places to the crop's (height, width)."""

    placing: Placing
    inverse: Homography
    bounds: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.placing.crop.shape[:2]
        return height, width

    def touches(self, left: int, top: int, right: int, bottom: int) -> bool:
        """Whether it may show in these pixels of the page."""
        mine = self.bounds
        return mine[0] < right and mine[2] > left and mine[1] < bottom and mine[3] > top


def placed(page: NDArray[np.uint8], placings: Sequence[Placing], across: float, down: float) -> NDArray[np.uint8]:
    """``page``, the input enlarged by ``across`` and ``down``, with the restored lines in it; a new picture.

    The order of the lines is of no account.
    """
    found = [_on_page(placing, page, across, down) for placing in placings]
    result = page.copy()
    for number, one in enumerate(found):
        left, top, right, bottom = one.bounds
        if left >= right or top >= bottom:
            continue
        others = [other for place, other in enumerate(found) if place != number and other.touches(*one.bounds)]
        more = detail(one.placing.image, one.placing.crop)
        for first in range(top, bottom, BAND):
            band = left, first, right, min(first + BAND, bottom)
            _add(result, one, more, others, band)
    return result


def detail(restored: NDArray[np.uint8], crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What ``restored`` (H, W, 3) adds to ``crop`` (h, w, 3) enlarged, in grey levels: no slow change of colour, no
    direction of colour in which the crop's own pixels do not differ, and no more of it than there is of a shade."""
    height, width = restored.shape[:2]
    found = restored.astype(np.float32) - np.clip(np.rint(resample(crop, height, width)), 0, 255)
    fine = (found - slow(found)) @ palette(crop)
    return np.asarray(fine * eased(np.abs(fine).max(axis=2, keepdims=True) / SHADE), dtype=np.float32)


def eased(share: NDArray[np.float32]) -> NDArray[np.float32]:
    """From 0 at 0 and below, smoothly, to 1 at 1 and beyond."""
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def palette(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(3, 3): keeps differences of colour that the pixels of ``crop`` (h, w, 3) have among each other, the more so the
    commoner they are. Of a line in one ink on one paper it keeps those from ink to paper and damps all others."""
    values, axes = np.linalg.eigh(np.cov(crop.reshape(-1, 3).astype(np.float64), rowvar=False, bias=True))
    gains = np.clip(values / max(RARE * values[-1], 1e-9), 0, 1)
    return np.asarray((axes * gains) @ axes.T, dtype=np.float32)


def slow(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """What of ``image`` (h, w, c) is left when it is shrunk to `CELL`s, at its own size again."""
    height, width = image.shape[:2]
    cell = CELL * min(height, width)
    small = resample(image, max(1, round(height / cell)), max(1, round(width / cell)))
    return resample(small, height, width)


def opacity(
    x: NDArray[np.float64], y: NDArray[np.float64], size: tuple[int, int], feather: float
) -> NDArray[np.float32]:
    """How much (0..1) of the line shows at ``x`` and ``y`` (any shape) of a crop of ``size`` (h, w): from 0 at its
    edges and beyond, smoothly, to 1 where they are ``feather`` pixels away."""
    height, width = size
    inside = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y))
    return eased(np.asarray(inside / max(feather, 1e-6), dtype=np.float32))


def _on_page(placing: Placing, page: NDArray[np.uint8], across: float, down: float) -> _Placed:
    height, width = placing.crop.shape[:2]
    at = homography(rectangle(width, height), placing.corners)
    inverse = inverted(scaling(across, down) @ at)
    left, top, right, bottom = bounds(placing.corners * (across, down))
    rows, columns = page.shape[:2]
    return _Placed(placing, inverse, (max(0, left), max(0, top), min(columns, right), min(rows, bottom)))


def _opacity(one: _Placed, band: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """Of a line at the pixels of a band of the page: (rows, columns)."""
    left, top, right, bottom = band
    x, y = np.arange(left, right)[None, :] + 0.5, np.arange(top, bottom)[:, None] + 0.5
    across, down, depth = ((row[0] * x + row[2]) + row[1] * y for row in one.inverse)
    ahead = depth * np.sign(one.inverse[2] @ (*_middle(one), 1)) > 0  # what lies behind the horizon shows nothing
    depth = np.where(ahead, depth, 1)
    return np.where(ahead, opacity(across / depth, down / depth, one.size, one.placing.feather), 0)


def _middle(one: _Placed) -> tuple[float, float]:
    """A place of the page that shows the line."""
    height, width = one.size
    x, y, depth = inverted(one.inverse) @ (width / 2, height / 2, 1)
    return float(x / depth), float(y / depth)


def _add(
    result: NDArray[np.uint8],
    one: _Placed,
    more: NDArray[np.float32],
    others: Sequence[_Placed],
    band: tuple[int, int, int, int],
) -> None:
    """Adds a line's detail to a band of ``result``."""
    left, top, right, bottom = band
    mine = _opacity(one, band)
    if not mine.any():
        return
    total = mine + sum(_opacity(other, band) for other in others if other.touches(*band))
    height, width = one.size
    to_picture = scaling(more.shape[1] / width, more.shape[0] / height) @ one.inverse @ shift(left, top)
    shown = warped(more, to_picture, bottom - top, right - left)
    target = result[top:bottom, left:right]
    target[:] = np.clip(np.rint(target + (mine / np.maximum(total, 1))[:, :, None] * shown), 0, 255).astype(np.uint8)
