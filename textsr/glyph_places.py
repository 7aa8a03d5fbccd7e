"""Fits the places of a line's characters to its picture, so that the canvas's glyphs lie where the strokes are.

A CTC recogniser tells a character's centre to about a third of its width and nothing of its height. A reference glyph
laid there crosses the strokes it should follow. Here each glyph is moved and stretched to where it correlates best with
the degraded line: first all of them together in height, which also tells which colour is ink, then in turns along and
across the line. Along it they are a chain: blurred strokes are much alike, so a glyph by itself would often choose
those of the character beside it, and both would lie on the same. Boxes that overlap cost something, and the best places
of all together are found by dynamic programming (Viterbi). Leaving the picture costs as much: there nothing would speak
against a glyph. Nothing is learnt and no colour or direction of contrast is taken for granted.

The search is in closed form: with the window's weights a product of two, the covariance of a picture with a glyph at K
places is one matrix product, and so is the glyph's variance. A line takes a few milliseconds of one core.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from textsr.atlas import SIZE, load_packed, unpack
from textsr.reading import PLACES, TextArrays

Array = NDArray[np.float32]

SIDE = 24
"""Samples a side of a glyph and of the window of the picture that it is compared with."""
SPAN = 1.5
"""A window shows so many times a character's box, each way, and counts by a Gaussian of FOCUS boxes."""
FOCUS = 0.42
PLACES_SEEN = ((np.arange(SIDE) + 0.5) / SIDE - 0.5) * SPAN
_GAUSSIAN = np.exp(-0.5 * np.square(PLACES_SEEN / FOCUS))
WEIGHTS = (_GAUSSIAN / _GAUSSIAN.sum()).astype(np.float32)
"""Of the window's samples, each way, and where these lie, in boxes from its middle."""
BLUR = 2.0
"""Glyphs are smoothed over so many samples: the picture is blurred, and fonts differ."""
SURROUNDINGS = 16
"""Columns of the degraded line, each way, whose mean is its background."""
MIDDLES = np.linspace(0.34, 0.66, 11)
HEIGHTS = np.geomspace(0.55, 1.2, 10)
"""Where the em boxes of a whole line are looked for, as shares of its height."""
ROUNDS = (1.0, 0.7, 0.4, 0.4)
"""Scale of the grid in each round of turns."""
CROWDING = 4.0
"""Correlation that overlapping neighbours must gain, times the square of the overlap in widths of the narrower one;
and boxes that leave the picture, times the square of the part outside."""
ALONG, ACROSS = (0.3, 0.28), (0.16, 0.18)
"""Reach of the first round's grid: shift in boxes, stretch on the log scale."""
SPREAD_ALONG, SPREAD_ACROSS = (0.4, 0.5), (0.08, 0.2)
"""How far from its first place a character is expected, likewise: a line's characters stand on one height."""
STIFFNESS = 0.04
"""Correlation that a place one such spread away must gain."""
FLOOR = 1e-4
"""Variance below which a glyph or a window counts as blank."""


@dataclass(frozen=True)
class _Candidates:
    """K places along one axis: middles and sizes (K,), and what ``count`` samples there take from a glyph's side:
    ``take`` (K, count * SIDE), the samples' weighted means (K, SIDE) and second moments (K, SIDE * SIDE)."""

    middles: NDArray[np.float64]
    sizes: NDArray[np.float64]
    take: Array
    means: Array
    moments: Array

    @classmethod
    def of(
        cls, middles: NDArray[np.float64], sizes: NDArray[np.float64], left: float, right: float, weights: Array
    ) -> _Candidates:
        """All ``middles`` with all ``sizes``, seen by samples (their weights) from ``left`` to ``right``."""
        middles, sizes = np.repeat(middles, len(sizes)), np.tile(sizes, len(middles))
        step = (right - left) / len(weights) / sizes
        take = taking(0.5 + (left - middles) / sizes, step, len(weights))
        moments = np.asarray((take.transpose(0, 2, 1) * weights) @ take, dtype=np.float32)
        return cls(middles, sizes, take.reshape(len(take), -1), weights @ take, moments.reshape(len(take), -1))


@dataclass
class _Boxes:
    """Em boxes of n characters, (n,) each, as shares of the line's width or height."""

    centres: NDArray[np.float64]
    widths: NDArray[np.float64]
    middles: NDArray[np.float64]
    heights: NDArray[np.float64]


@dataclass(frozen=True)
class _Expected:
    """Where n boxes are along one axis by all that was known before: middles and sizes (n,), how far from them is far,
    and the share at which the picture ends."""

    middles: NDArray[np.float64]
    sizes: NDArray[np.float64]
    spread: tuple[float, float]
    end: float

    def cost(self, middles: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, K): the correlation that other places (n, K) must gain."""
        moved = (middles - self.middles[:, None]) / self.sizes[:, None] / self.spread[0]
        stretched = np.log(sizes / self.sizes[:, None]) / self.spread[1]
        outside = np.maximum(sizes / 2 - middles, middles + sizes / 2 - self.end).clip(0) / sizes
        return np.asarray(STIFFNESS * (np.square(moved) + np.square(stretched)) + CROWDING * np.square(outside))


def fit_places(text: TextArrays, lq: NDArray[np.float32], width_share: float) -> TextArrays:
    """``text`` of one line with its places fitted to ``lq`` (h,w,3), which the crop fills up to ``width_share``.

    The result depends on this line alone. Padding, spaces and symbols of weight 0 keep their places, and so does all
    where nothing was read or the picture is blank.
    """
    drawn = np.flatnonzero((text.weights > 0) & load_packed()[text.tokens].any(axis=1))
    drawn = drawn[np.argsort(text.centres[drawn], kind="stable")]
    filled = max(4, round(width_share * lq.shape[1]))
    picture = lq.transpose(2, 0, 1).astype(np.float32)
    if not len(drawn) or float(picture[..., :filled].std(axis=(1, 2)).max()) < FLOOR:
        return text
    glyphs = _glyphs(text.tokens[drawn])
    boxes = _Boxes(*(getattr(text, name)[drawn].astype(np.float64) for name in PLACES))
    boxes.widths = np.maximum(boxes.widths, 1 / lq.shape[1])
    ink = _line_height(glyphs * text.weights[drawn, None, None], boxes, picture, filled)
    _each(glyphs, boxes, ink, filled / lq.shape[1])
    found = {}
    for name, values in vars(boxes).items():
        found[name] = getattr(text, name).copy()
        found[name][drawn] = values
    return replace(text, **found)


def _glyphs(tokens: NDArray[np.int64]) -> Array:
    """(n, SIDE, SIDE) in [0, 1]."""
    factor = SIZE // SIDE
    return unpack(load_packed()[tokens]).reshape(-1, SIDE, factor, SIDE, factor).mean((2, 4), dtype=np.float32) / 15


def taking(
    first: NDArray[np.float64], step: NDArray[np.float64], count: int, side: int = SIDE, blur: float = BLUR
) -> Array:
    """(..., count, side): samples at first + (i + 1/2) step, in shares of a glyph's side, as means of its ``side``
    samples over ``blur`` steps."""
    at = (first[..., None] + (np.arange(count) + 0.5) * step[..., None]) * side
    shrink = np.maximum(1.0, step * side * blur)[..., None, None]
    distance = np.abs(at[..., None] - (np.arange(side) + 0.5))
    return np.asarray(((shrink + 1) / 2 - distance).clip(0, 1) / shrink, dtype=np.float32)


def _background(columns: Array) -> Array:
    """Means (..., w) of the columns around each of ``columns`` (..., w)."""
    sums = np.concatenate([np.zeros_like(columns[..., :1]), columns.cumsum(-1)], -1)
    place = np.arange(columns.shape[-1])
    low, high = np.maximum(place - SURROUNDINGS, 0), np.minimum(place + SURROUNDINGS + 1, len(place))
    return np.asarray((sums[..., high] - sums[..., low]) / (high - low))


@lru_cache(maxsize=4)
def _heights(rows: int) -> _Candidates:
    return _Candidates.of(MIDDLES, HEIGHTS, 0.0, 1.0, np.full(rows, 1 / rows, np.float32))


def _line_height(glyphs: Array, boxes: _Boxes, picture: Array, filled: int) -> Array:
    """Gives all ``boxes`` the middle and height that explain most of ``picture`` (3,h,w); returns its ink (h,w).

    That is the share of its variance that a line drawn in any one colour on a background of another explains, both less
    the mean of all rows and of the columns around.
    """
    rows, columns = picture.shape[1:]
    along = taking((boxes.widths / 2 - boxes.centres) / boxes.widths, 1 / columns / boxes.widths, columns)
    band = (glyphs @ along.transpose(0, 2, 1)).max(0)[:, :filled]  # (SIDE, filled)
    seen = picture[..., :filled] - _background(picture[..., :filled].mean(1))[:, None]
    tried = _heights(rows)
    drawn = tried.means @ band  # (K, filled), the candidates' means of all rows
    behind = _background(drawn)
    covariance = tried.take @ (seen @ band.T).reshape(3, -1).T - behind @ seen.sum(1).T
    variance = tried.moments @ (band @ band.T).ravel() + (behind * (behind - 2 * drawn)).sum(1)  # of a row
    best = int((np.square(covariance).sum(1) / (variance.clip(0) + FLOOR)).argmax())
    boxes.middles[:], boxes.heights[:] = tried.middles[best], tried.sizes[best]
    colour = covariance[best] / max(float(np.linalg.norm(covariance[best])), FLOOR)
    return np.asarray(np.tensordot(colour, picture, 1), dtype=np.float32)


def _each(glyphs: Array, boxes: _Boxes, ink: Array, end: float) -> None:
    """Moves and stretches each box, given from left to right, to where its glyph correlates best with ``ink`` (h,w),
    which ends at the share ``end``, in turns: along the line all of them together, across it each by itself."""
    still = _around(0.0, 0.0).take[0].reshape(SIDE, SIDE)
    upright, lying = still @ glyphs, still @ glyphs.transpose(0, 2, 1)
    each = np.arange(len(glyphs))
    along = _Expected(boxes.centres, boxes.widths, SPREAD_ALONG, end)
    across = _Expected(boxes.middles, boxes.heights, SPREAD_ACROSS, 1.0)
    for scale in ROUNDS:
        windows = _windows(ink, boxes)
        grid = _around(ALONG[0] * scale, ALONG[1] * scale)
        score, centres, widths = _scored(upright, windows, grid, (boxes.centres, boxes.widths), along)
        chosen = _chain(score, _crowding(centres, widths))
        boxes.centres, boxes.widths = centres[each, chosen], widths[each, chosen]
        windows = _windows(ink, boxes).transpose(0, 2, 1)
        grid = _around(ACROSS[0] * scale, ACROSS[1] * scale)
        score, middles, heights = _scored(lying, windows, grid, (boxes.middles, boxes.heights), across)
        chosen = score.argmax(1)
        boxes.middles, boxes.heights = middles[each, chosen], heights[each, chosen]


@lru_cache(maxsize=16)
def _around(shift: float, stretch: float) -> _Candidates:
    """Middles and sizes in boxes, seen by a window."""
    shifts, sizes = np.linspace(-shift, shift, 9), np.exp(np.linspace(-stretch, stretch, 5))
    return _Candidates.of(shifts, sizes, -SPAN / 2, SPAN / 2, WEIGHTS)


def _windows(ink: Array, boxes: _Boxes) -> Array:
    """(n, SIDE, SIDE): what each box and its surroundings show, interpolated, edges repeated."""

    def weights(middle: NDArray[np.float64], size: NDArray[np.float64], count: int) -> Array:
        at = ((middle[:, None] + PLACES_SEEN * size[:, None]) * count - 0.5).clip(0, count - 1)
        return np.maximum(0, 1 - np.abs(at[..., None] - np.arange(count))).astype(np.float32)

    down = weights(boxes.middles, boxes.heights, ink.shape[0])
    right = weights(boxes.centres, boxes.widths, ink.shape[1])
    return np.asarray(down @ ink @ right.transpose(0, 2, 1))


def _scored(
    glyphs: Array,
    windows: Array,
    grid: _Candidates,
    now: tuple[NDArray[np.float64], NDArray[np.float64]],
    expected: _Expected,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What each place of ``grid`` is worth to each of n glyphs, its middle and its size, (n, K) each.

    Places are along the last axis of ``glyphs`` and ``windows`` (n, SIDE, SIDE). ``now``: middles and sizes (n,) that
    the windows show.
    """
    count = len(glyphs)
    contrast = windows - ((WEIGHTS @ windows) @ WEIGHTS)[:, None, None]
    weighted = contrast * WEIGHTS[:, None] * WEIGHTS
    covariance = (weighted.transpose(0, 2, 1) @ glyphs).reshape(count, -1) @ grid.take.T
    moments = (glyphs.transpose(0, 2, 1) * WEIGHTS) @ glyphs
    variance = moments.reshape(count, -1) @ grid.moments.T - np.square((WEIGHTS @ glyphs) @ grid.means.T)
    spread = (weighted * contrast).sum((1, 2))
    score = covariance / np.sqrt((variance.clip(0) + FLOOR) * (spread + FLOOR)[:, None])
    middles = now[0][:, None] + grid.middles * now[1][:, None]
    sizes = now[1][:, None] * grid.sizes
    return score - expected.cost(middles, sizes), middles, sizes


def _crowding(centres: NDArray[np.float64], widths: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n-1, K, K): what it costs that a box at one place (n, K) and the next one at another overlap."""
    right, left = (centres + widths / 2)[:-1, :, None], (centres - widths / 2)[1:, None, :]
    narrower = np.minimum(widths[:-1, :, None], widths[1:, None, :])
    return np.asarray(CROWDING * np.square(((right - left) / narrower).clip(0)))


def _chain(scores: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.intp]:
    """The choice (n,) of one of K each with the highest sum of ``scores`` (n, K) less ``costs`` (n-1, K, K) between
    neighbours."""
    best, came = scores[0], []
    for score, cost in zip(scores[1:], costs, strict=True):
        ways = best[:, None] - cost
        came.append(ways.argmax(0))
        best = ways.max(0) + score
    chosen = [int(best.argmax())]
    for before in reversed(came):
        chosen.append(int(before[chosen[-1]]))
    return np.array(chosen[::-1])
