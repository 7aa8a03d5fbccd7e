"""Laying tall crops down for the network, which knows lines from left to right alone, and standing them up again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from runtime.options import Vertical
from runtime.split import cut_cost
from textsr.config import SCALE, Preset
from textsr.fit import resample_uint8, wide_line
from textsr.reading import LineReading

TALL = 1.5
"""Height over width from which a crop may be a vertical line, as for PP-OCR."""
SURELY_TALL = 3.0
"""... from which it is no single narrow character."""
ALIKE = 0.5
"""Share of the characters in which the reading of a column laid out as a row must agree with that of the turned column:
then its characters stand upright; turned ones read as others."""
MARGIN = 0.05
"""What a reading of a turned crop must be surer by than the one of the crop as it is."""

_CELL = 0.75  # half of a character's cell at most, in distances between characters


@dataclass(frozen=True)
class Laid:
    """A crop laid down: ``image`` (h, w, 3) uint8 is what is restored, ``size`` the crop's own height and width.

    ``turned``: by so many degrees counterclockwise. ``cells``: else, the rows at which a column of upright characters
    was cut, whose parts stand side by side in ``image``.
    """

    image: NDArray[np.uint8]
    size: tuple[int, int]
    turned: int = 0
    cells: tuple[int, ...] = ()

    def back(self, restored: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
        """The crop at ``scale`` times its size out of the restored ``image`` at that size; at `SCALE` with cells."""
        if not self.cells:
            return np.ascontiguousarray(np.rot90(restored, -self.turned // 90)) if self.turned else restored
        highest = restored.shape[0] // SCALE
        width = self.size[1] * SCALE
        parts = []
        for place, (top, bottom) in enumerate(pairwise(self.cells)):
            above = (highest - (bottom - top)) // 2 * SCALE
            cell = restored[above : above + (bottom - top) * SCALE, place * width : (place + 1) * width]
            parts.append(cell)
        whole = np.concatenate(parts)
        if scale == SCALE:
            return whole
        height, width = (max(1, round(side * scale)) for side in self.size)
        return resample_uint8(whole, height, width, lambda part: np.clip(np.rint(part), 0, 255).astype(np.uint8))

    @property
    def restored_scale(self) -> float | None:
        """The scale at which ``back`` wants the restored picture, where that is not the result's."""
        return float(SCALE) if self.cells else None

    def centres(self, reading: LineReading) -> tuple[float, ...]:
        """The reading's centres as shares of the crop's width, or from its top where it was laid down."""
        if not self.cells:
            flip = self.turned == 270
            return tuple(1 - centre if flip else centre for centre in reading.centres)
        count = len(self.cells) - 1
        along = np.asarray(reading.centres) * count
        return tuple(float(np.interp(at, np.arange(count + 1), self.cells) / self.size[0]) for at in along)


def whole(image: NDArray[np.uint8]) -> Laid:
    """A crop as it is."""
    return Laid(image, (image.shape[0], image.shape[1]))


def is_tall(image: NDArray[np.uint8], vertical: Vertical) -> bool:
    """Whether a crop may have to be laid down."""
    return vertical != "off" and image.shape[0] >= TALL * image.shape[1] and image.shape[0] > 1


def turned(image: NDArray[np.uint8], degrees: int) -> Laid:
    """A crop turned counterclockwise by 90 or 270 degrees."""
    return Laid(np.ascontiguousarray(np.rot90(image, degrees // 90)), (image.shape[0], image.shape[1]), degrees)


def stacked(image: NDArray[np.uint8], centres: Sequence[float], preset: Preset) -> Laid:
    """A column cut between its characters and laid out as a row, each character upright.

    :param centres: of the characters, as shares of the height from the top; without two of them the column is cut
        into cells about as high as wide.
    """
    height, width = image.shape[:2]
    if len(centres) < 2:
        count = max(2, round(height / width))
        centres = [(place + 0.5) / count for place in range(count)]
    wide = wide_line(np.ascontiguousarray(np.rot90(image)), preset)
    rows = _borders(cut_cost(wide), sorted(centres))
    cells = _distinct([round(row * height / wide.shape[1]) for row in rows], height)
    highest = max(bottom - top for top, bottom in pairwise(cells))
    parts = []
    for top, bottom in pairwise(cells):
        above = (highest - (bottom - top)) // 2
        below = highest - (bottom - top) - above
        parts.append(np.pad(image[top:bottom], ((above, below), (0, 0), (0, 0)), mode="edge"))
    return Laid(np.concatenate(parts, axis=1), (height, width), cells=cells)


def _borders(cost: NDArray[np.float64], centres: Sequence[float]) -> list[float]:
    """Where to cut a column (of len(cost) - 1) with characters at ``centres``: between them, and before and after
    what is too far from any to be one."""
    last = len(cost) - 1
    at = np.asarray(centres) * last
    reach = _CELL * float(np.median(np.diff(at)))
    found: list[float] = [0.0]
    if at[0] > 1.5 * reach:
        found.append(at[0] - reach)
    for above, below in pairwise(at):
        if below - above > 3 * reach:
            found += [above + reach, below - reach]
            continue
        low, high = int(np.ceil(above + (below - above) / 4)), int(below - (below - above) / 4)
        middle = (above + below) / 2
        places = np.arange(low, max(high, low) + 1).clip(0, last)
        found.append(float(places[(cost[places] + 0.02 * np.abs(places - middle)).argmin()]))
    if last - at[-1] > 1.5 * reach:
        found.append(at[-1] + reach)
    return [*found, float(last)]


def _distinct(rows: Sequence[int], height: int) -> tuple[int, ...]:
    """Borders as whole rows in order, each once, long stretches without characters cut to the length of the others."""
    cells = sorted({0, height, *(row for row in rows if 0 < row < height)})
    longest = max(2, round(1.6 * float(np.median(np.diff(cells)))))
    out = [0]
    for top, bottom in pairwise(cells):
        parts = -(-(bottom - top) // longest)
        out += [top + round((bottom - top) * part / parts) for part in range(1, parts + 1)]
    return tuple(out)


def sureness(reading: LineReading) -> float:
    """Mean confidence of a reading, 0 without text."""
    return float(np.mean(reading.confidences)) if reading.confidences else 0.0


def choose_turn(image: NDArray[np.uint8], readings: Sequence[LineReading]) -> int:
    """0, 90 or 270 degrees, by ``readings`` of the crop turned by each: the surest; as it is only where it may be a
    single narrow character."""
    as_is, left, right = (sureness(reading) for reading in readings)
    turn, best = (90, left) if left >= right - MARGIN else (270, right)
    narrow = image.shape[0] < SURELY_TALL * image.shape[1]
    return 0 if narrow and as_is and as_is >= best - MARGIN else turn


def stands_upright(row: LineReading, column: LineReading) -> bool:
    """Whether a column's characters are upright: laid out as a row they read as in the turned column."""
    return bool(row.text) and SequenceMatcher(None, row.text, column.text, autojunk=False).ratio() >= ALIKE
