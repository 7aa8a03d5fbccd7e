"""Where to split a line that is too long for the network: at gaps between characters, with some overlap.

All here is in columns of the fitted line (`textsr.fit.wide_line`: 32 rows). A cut c lies before column c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textsr.errors import InputError

LONGEST = 16384
"""Columns of the longest line that is split (512:1); beyond, the crop is no line."""
_BALANCE, _TOO_MANY, _OFF_TARGET = 0.5, 100.0, 0.2
"""Costs beside that of a further window (1) and of a cut through ink (at most 1): windows of unlike length, each
character too many in one, and a window's end away from the overlap that was asked for."""


@dataclass(frozen=True)
class Window:
    """A piece of a line: the network sees columns left..right, of which core_left..core_right are its own.

    The cores of a line's windows tile it; what a window sees beyond is overlap.
    """

    left: int
    right: int
    core_left: int
    core_right: int


@dataclass(frozen=True)
class Limits:
    """``columns`` and ``chars`` that a window may have, and ``overlap``: columns it should see beyond each cut."""

    columns: int
    chars: int
    overlap: int

    def __post_init__(self) -> None:
        if self.columns < 4 * self.overlap or self.columns < 2:
            raise InputError(f"windows of {self.columns} columns have no room for an overlap of {self.overlap}")


def windows(wide: NDArray[np.float32], limits: Limits, centres: Sequence[float] = ()) -> tuple[Window, ...]:
    """The windows of a line (rows, columns, 3), from left to right; a single one where it is short enough.

    The cuts are those of the least cost in all (dynamic programming): few windows, cuts in gaps, windows of like
    length. No window is wider than ``limits`` allow; more characters than allowed happen only where even the
    narrowest window has them.

    :param centres: of the characters, in columns; without them gaps are found by the picture alone.
    :raises InputError: the line has more than `LONGEST` columns.
    """
    columns = wide.shape[1]
    if columns > LONGEST:
        raise InputError(f"a crop of {columns / wide.shape[0]:.0f}:1 is no text line: cut it into lines first")
    if columns <= limits.columns and len(centres) <= limits.chars:
        return (Window(0, columns, 0, columns),)
    cost = cut_cost(wide, centres)
    lefts, rights = _ends(cost, limits.overlap)
    cuts = [0, *_best_cuts(cost, lefts, rights, limits, centres), columns]
    last = len(cuts) - 2
    return tuple(
        Window(
            0 if n == 0 else int(lefts[cuts[n]]), columns if n == last else int(rights[cuts[n + 1]]), *cuts[n : n + 2]
        )
        for n in range(len(cuts) - 1)
    )


def cut_cost(wide: NDArray[np.float32], centres: Sequence[float] = ()) -> NDArray[np.float64]:
    """What a cut before each column (and after the last) costs, 0 to 1: the ink there, and how near a centre it is."""
    found = ink(wide)
    cost = np.zeros(len(found) + 1)
    cost[1:-1] = (found[:-1] + found[1:]) / 2
    if len(centres) < 2:
        return cost
    at = np.sort(np.asarray(centres, dtype=np.float64))
    places = np.arange(len(cost), dtype=np.float64)
    following = np.searchsorted(at, places).clip(1, len(at) - 1)
    left, right = at[following - 1], at[following]
    half = np.maximum((right - left) / 2, 1e-6)
    near = 1 - np.clip(np.minimum(np.abs(places - left), np.abs(places - right)) / half, 0, 1)
    near[(places < at[0]) | (places > at[-1])] = 0
    cost = (cost + near) / 2
    cost[[0, -1]] = 0
    return cost


def ink(wide: NDArray[np.float32]) -> NDArray[np.float64]:
    """How much each column's light varies from top to bottom: 0 as in the emptiest of the line, 1 as in the fullest."""
    varying = wide.mean(axis=2, dtype=np.float64).std(axis=0)
    smooth = np.convolve(np.pad(varying, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")
    low, high = np.percentile(smooth, (5, 95))
    return np.clip((smooth - low) / max(high - low, 1e-6), 0, 1)


def _ends(cost: NDArray[np.float64], overlap: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each cut where the window after it begins and where the one before it ends: in a gap if there is one from
    half to one and a half times the overlap away."""
    last = len(cost) - 1
    away = np.arange((overlap + 1) // 2, overlap * 3 // 2 + 1)
    unlike = _OFF_TARGET * np.abs(away - overlap) / max(overlap, 1)
    places = np.arange(last + 1)
    ends = []
    for side in (-1, 1):
        at = np.clip(places[:, None] + side * away, 0, last)
        ends.append(at[places, (cost[at] + unlike).argmin(axis=1)])
    return ends[0], ends[1]


def _best_cuts(
    cost: NDArray[np.float64],
    lefts: NDArray[np.int64],
    rights: NDArray[np.int64],
    limits: Limits,
    centres: Sequence[float],
) -> list[int]:
    """The cuts between the line's two ends, from left to right."""
    last = len(cost) - 1
    before = np.searchsorted(np.sort(np.asarray(centres, dtype=np.float64)), np.arange(last + 1))  # characters
    total, came = np.full(last + 1, np.inf), np.zeros(last + 1, dtype=np.int64)
    total[0] = 0
    for start in range(last):
        if not np.isfinite(total[start]):
            continue
        stops = np.arange(start + 1, min(last, start + limits.columns) + 1)
        begin = 0 if start == 0 else lefts[start]
        ends = np.where(stops == last, last, rights[stops])
        fits = ends - begin <= limits.columns
        stops, ends = stops[fits], ends[fits]
        many = np.maximum(before[ends] - before[begin] - limits.chars, 0)
        price = total[start] + 1 + cost[stops] + _BALANCE * ((stops - start) / limits.columns) ** 2 + _TOO_MANY * many
        better = price < total[stops]
        total[stops[better]] = price[better]
        came[stops[better]] = start
    cuts = [int(came[last])]
    while cuts[0] > 0:
        cuts.insert(0, int(came[cuts[0]]))
    return cuts[1:]
