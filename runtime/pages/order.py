"""The order in which a page's lines are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.pages.geometry import sides

TALL = 1.5
"""Height over width from which a box holds a column of text."""
GAP, LINES, LONG = 1.0, 3, 6.0
"""What makes columns of a page: white between them, in line heights; lines in each; and their usual width over height.
Shorter lines side by side are cells of a table or words of a sign, which are read row by row."""


def reading_order(boxes: Sequence[NDArray[Any]]) -> list[int]:
    """Places of the ``boxes`` (4, 2) in reading order.

    Rows from top to bottom, each from left to right, along the direction in which the lines run; columns of a page
    one after the other; where most boxes are tall, columns of text from right to left.
    """
    if len(boxes) < 2:
        return list(range(len(boxes)))
    heights, widths = np.array([sides(box) for box in boxes]).T
    tall = heights >= TALL * widths
    if 2 * tall.sum() > len(boxes) and tall.sum() > 1:
        spans = _spans(boxes, 0.0)
        columns = _rows(-spans[:, 1::-1], range(len(boxes)))  # from the right, as rows are from the top
        return [place for column in columns for place in sorted(column, key=lambda place: spans[place, 2])]
    angle = _angle([box for box, stands in zip(boxes, tall, strict=True) if not stands])
    return _Order(_spans(boxes, angle), np.minimum(heights, widths), widths).of(range(len(boxes)))


def _angle(boxes: Sequence[NDArray[Any]]) -> float:
    """The median direction of the boxes' text in radians, long ones first."""
    along = [box[1] - box[0] + box[2] - box[3] for box in boxes]
    longest = max((float(np.hypot(*way)) for way in along), default=0.0)
    return float(np.median([np.arctan2(y, x) for x, y in along if np.hypot(x, y) >= longest / 2])) if longest else 0.0


def _spans(boxes: Sequence[NDArray[Any]], angle: float) -> NDArray[np.float64]:
    """(n, 4): each box's left, right, top and bottom on a page turned back by ``angle``."""
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    corners = np.stack(boxes).astype(np.float64) @ turn
    low, high = corners.min(axis=1), corners.max(axis=1)
    return np.column_stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]])


def _rows(extents: NDArray[np.float64], places: Sequence[int]) -> list[list[int]]:
    """``places`` in rows, from top to bottom: a box is in the row above where half of it, or of the row's first box,
    overlaps it. ``extents`` (n, 2): top and bottom."""
    rows: list[list[int]] = []
    for place in sorted(places, key=lambda place: extents[place].sum()):
        top, bottom = extents[place]
        first_top, first_bottom = extents[rows[-1][0]] if rows else (-np.inf, -np.inf)
        common = min(bottom, first_bottom) - max(top, first_top)
        if rows and 2 * common >= min(bottom - top, first_bottom - first_top):
            rows[-1].append(place)
        else:
            rows.append([place])
    return rows


class _Order:
    """The order of lines that run across; ``spans`` as of `_spans`."""

    def __init__(self, spans: NDArray[np.float64], heights: NDArray[np.float64], widths: NDArray[np.float64]) -> None:
        self.spans, self.heights, self.widths = spans, heights, widths

    def of(self, places: Sequence[int]) -> list[int]:
        """``places`` in order: what is above the first block of columns, its columns, and what is below."""
        rows = _rows(self.spans[:, 2:], places)
        for first in range(len(rows)):
            for last in range(len(rows), first + LINES - 1, -1):
                columns = self._columns([place for row in rows[first:last] for place in row])
                if columns:
                    middle = [place for column in columns for place in self.of(column)]
                    above = [place for row in rows[:first] for place in self._row(row)]
                    return above + middle + self.of([place for row in rows[last:] for place in row])
        return [place for row in rows for place in self._row(row)]

    def _row(self, row: Sequence[int]) -> list[int]:
        return sorted(row, key=lambda place: self.spans[place, 0])

    def _columns(self, places: Sequence[int]) -> list[list[int]]:
        """The columns that ``places`` stand in; none where it is a single one, or none has lines enough."""
        chosen = np.asarray(places)
        chosen = chosen[np.argsort(self.spans[chosen, 0], kind="stable")]
        reach = np.maximum.accumulate(self.spans[chosen, 1])
        white = self.spans[chosen[1:], 0] - reach[:-1] > GAP * np.median(self.heights[chosen])
        columns = [part.tolist() for part in np.split(chosen, np.flatnonzero(white) + 1)]
        return columns if len(columns) > 1 and all(self._is_column(column) for column in columns) else []

    def _is_column(self, places: Sequence[int]) -> bool:
        aspects = self.widths[list(places)] / np.maximum(self.heights[list(places)], 1e-6)
        return len(places) >= LINES and float(np.median(aspects)) >= LONG
