"""Putting a split line together again: its restored windows, and what was read in them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from runtime.split import Window
from textsr.config import SCALE
from textsr.reading import LineReading

SAME = 0.5
"""Two readings of one character lie at most this share of the characters' usual distance apart."""


def fades(windows: Sequence[Window], blend: float) -> list[NDArray[np.float32]]:
    """The weight of each window at each of its restored columns (4 a column of the line): they sum to 1 everywhere.

    Around a cut the windows fade into each other over ``blend`` columns, fewer where they overlap less or a core is
    narrow; each character thus comes from one window but for its rim.
    """
    made = []
    halves = [_half(left, right, blend) for left, right in pairwise(windows)]
    for place, window in enumerate(windows):
        at = (np.arange(window.left * SCALE, window.right * SCALE) + 0.5) / SCALE
        weight = np.ones(len(at))
        if place > 0:
            weight *= _rise(at, window.core_left, halves[place - 1])
        if place < len(windows) - 1:
            weight *= 1 - _rise(at, window.core_right, halves[place])
        made.append(weight.astype(np.float32))
    return made


def _half(left: Window, right: Window, blend: float) -> float:
    cut = left.core_right
    cores = (cut - left.core_left) / 2, (right.core_right - cut) / 2
    return min(blend / 2, left.right - cut, cut - right.left, *cores)


def _rise(at: NDArray[np.float64], cut: int, half: float) -> NDArray[np.float64]:
    """From 0 to 1 around ``cut``, smoothly; at once where ``half`` is 0."""
    if half <= 0:
        return (at > cut).astype(np.float64)
    share = np.clip((at - cut + half) / (2 * half), 0, 1)
    return share * share * (3 - 2 * share)


def blended(parts: Sequence[NDArray[np.float32]], windows: Sequence[Window], blend: float) -> NDArray[np.float32]:
    """The line (H, 4 columns, 3) of its restored windows (H, 4 n, 3)."""
    if len(parts) == 1:
        return parts[0]
    whole = np.zeros((parts[0].shape[0], windows[-1].right * SCALE, parts[0].shape[2]), dtype=np.float32)
    for part, window, weight in zip(parts, windows, fades(windows, blend), strict=True):
        whole[:, window.left * SCALE : window.right * SCALE] += part * weight[None, :, None]
    return whole


def seen(reading: LineReading, window: Window, columns: int) -> tuple[LineReading, range]:
    """What of a line's reading a window sees, centres as shares of the window; and which of those characters are its
    own (`own`), as places among the seen ones."""
    at = np.asarray(reading.centres, dtype=np.float64) * columns
    inside = np.flatnonzero((at >= window.left) & ((at < window.right) | (window.right == columns)))
    width = window.right - window.left
    shares = tuple(float(np.clip((at[place] - window.left) / width, 0, 1)) for place in inside)
    part = LineReading(
        "".join(reading.text[place] for place in inside),
        tuple(reading.confidences[place] for place in inside),
        shares,
    )
    mine = [place for place, whole in enumerate(inside) if owns(window, float(at[whole]), columns)]
    return part, range(mine[0], mine[-1] + 1) if mine else range(0)


def owns(window: Window, centre: float, columns: int) -> bool:
    """Whether a character at ``centre`` (columns) is the window's own: each is exactly one window's."""
    return window.core_left <= centre < window.core_right or (centre >= columns == window.core_right)


def merged(readings: Sequence[LineReading], windows: Sequence[Window], columns: int) -> LineReading:
    """One reading of the windows' readings: each character from the window that owns its place.

    A character that two windows place on different sides of their cut is neither doubled nor lost.
    """
    parts = []
    for reading, window in zip(readings, windows, strict=True):
        width = window.right - window.left
        at = [window.left + centre * width for centre in reading.centres]
        parts.append(list(zip(reading.text, reading.confidences, at, strict=True)))
    gaps = [abs(b[2] - a[2]) for part in parts for a, b in pairwise(part)]
    close = SAME * float(np.median(gaps)) if gaps else 0.0
    line = [entry for entry in parts[0] if len(windows) == 1 or entry[2] < windows[0].core_right]
    for place, part in enumerate(parts[1:], 1):
        cut, end = windows[place].core_left, windows[place].core_right
        before = [entry for entry in parts[place - 1] if entry[2] >= cut]
        mine = [entry for entry in part if entry[2] >= cut]
        lost = [entry for entry in part if entry[2] < cut]
        if line and mine and _same(line[-1], mine[0], close):  # both have it
            mine = mine[1:]
        elif before and lost and _same(before[0], lost[-1], close):  # each left it to the other
            mine = [lost[-1], *mine]
        line += [entry for entry in mine if place == len(parts) - 1 or entry[2] < end]
    text = "".join(character for character, _, _ in line)
    shares = tuple(float(np.clip(at / columns, 0, 1)) for _, _, at in line)
    return LineReading(text, tuple(confidence for _, confidence, _ in line), shares)


def _same(one: tuple[str, float, float], other: tuple[str, float, float], close: float) -> bool:
    return one[0] == other[0] and abs(one[2] - other[2]) <= close
