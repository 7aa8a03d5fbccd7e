"""Degraded pages of known text: test lines laid out on paper, and what an OCR product's boxes say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.testset import TestLine

COLUMNS, MARGIN, GAP = 2, 24, 20
"""Of the layout; the others in pixels of the low resolution."""
FADE = 8
"""Pixels beyond a line in which its own background goes over into the paper: a cut edge would be sharper than it."""
COLUMN_WIDTH = 128
"""Pixels: the widest test line in low resolution."""
PAPERS = ("white", "textured")


@dataclass(frozen=True)
class Placed:
    """A line on a page: its text, and its quad (4, 2) in the page's pixels, clockwise from the upper left."""

    text: str
    quad: NDArray[np.float64]


@dataclass(frozen=True)
class Page:
    """A page (h, w, 3) uint8 RGB with the lines on it."""

    image: NDArray[np.uint8]
    lines: tuple[Placed, ...]
    paper: str


def compose(lines: Sequence[TestLine], paper: str, seed: int) -> Page:
    """A page of degraded lines, as they are in low resolution, in two columns. Deterministic in ``seed``."""
    rng = np.random.default_rng((seed, len(lines)))
    rows = [lines[start : start + COLUMNS] for start in range(0, len(lines), COLUMNS)]
    heights = [max(line.lr.shape[0] for line in row) for row in rows]
    height = 2 * MARGIN + sum(heights) + GAP * (len(rows) - 1)
    image = _paper(rng, height, 2 * MARGIN + COLUMNS * COLUMN_WIDTH + (COLUMNS - 1) * 2 * GAP, paper)
    placed: list[Placed] = []
    top = MARGIN
    for row, tallest in zip(rows, heights, strict=True):
        for column, line in enumerate(row):
            h, w = line.lr.shape[:2]
            left = MARGIN + column * (COLUMN_WIDTH + 2 * GAP) + int(rng.integers(0, max(1, COLUMN_WIDTH - w + 1)))
            _lay(image, line.lr, top, left)
            corners = ((left, top), (left + w, top), (left + w, top + h), (left, top + h))
            placed.append(Placed(line.entry.text, np.array(corners, dtype=np.float64)))
        top += tallest + GAP
    return Page(image, tuple(placed), paper)


def _lay(image: NDArray[np.uint8], line: NDArray[np.uint8], top: int, left: int) -> None:
    """Puts a line on the paper as it is, its border continued outwards and fading."""
    h, w = line.shape[:2]
    wide = np.pad(line, ((FADE, FADE), (FADE, FADE), (0, 0)), mode="edge").astype(np.float64)
    away = [np.maximum(FADE - np.arange(n + 2 * FADE), np.arange(n + 2 * FADE) - (n + FADE - 1)) for n in (h, w)]
    share = (1 - np.clip(np.maximum(away[0][:, None], away[1][None]), 0, FADE) / FADE)[:, :, None]
    place = image[top - FADE : top + h + FADE, left - FADE : left + w + FADE]
    place[:] = np.rint(share * wide + (1 - share) * place).astype(np.uint8)


def _paper(rng: np.random.Generator, height: int, width: int, paper: str) -> NDArray[np.uint8]:
    """White, or stained: coarse waves of brightness and a fine grain."""
    if paper == "white":
        return np.full((height, width, 3), 255, dtype=np.uint8)
    y, x = np.mgrid[:height, :width]
    waves = sum(
        8 * np.sin(2 * np.pi * (x * a + y * b) / 160 + phase) for a, b, phase in rng.uniform(-1, 1, (4, 3)) * (1, 1, 3)
    )
    shade = np.array([226.0, 219.0, 203.0]) + np.asarray(waves)[:, :, None] + rng.normal(0, 4, (height, width, 1))
    return np.clip(np.rint(shade), 0, 255).astype(np.uint8)


def match(page: Page, boxes: Sequence[NDArray[np.float64]], texts: Sequence[str]) -> tuple[list[str], int]:
    """What was read of each line of the page, and how many boxes lie on no line.

    A line's reading is that of all boxes whose centre lies in its quad, joined from left to right; empty without any.
    """
    centres = np.array([np.asarray(box, dtype=np.float64).mean(axis=0) for box in boxes]).reshape(-1, 2)
    taken = np.zeros(len(centres), dtype=bool)
    readings = []
    for line in page.lines:
        low, high = line.quad.min(axis=0), line.quad.max(axis=0)
        inside = np.flatnonzero(((centres >= low) & (centres <= high)).all(axis=1) & ~taken)
        taken[inside] = True
        readings.append(
            "".join(texts[place] for place in sorted(map(int, inside), key=lambda place: centres[place][0]))
        )
    return readings, int((~taken).sum())
