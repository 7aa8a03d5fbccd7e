"""A page's lines and words as files with text describe them: where they lie in the written picture, and how sure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from runtime.pages.geometry import homography, project
from runtime.pages.result import PageLine, PageResult
from textsr.reading import spread

DESCENT = 0.2
"""Line heights from the lower side of a line's box to its baseline. Nobody measures that one; boxes are loose."""
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Word:
    """What stands between two spaces. ``corners`` (4, 2) in pixels of the written picture, clockwise from the top
    left in reading direction; ``confidence`` 0..1, the mean of its characters where each has one, else the line's."""

    text: str
    corners: NDArray[np.float64]
    confidence: float


@dataclass(frozen=True)
class TextLine:
    """A line with its ``words`` in order; ``corners`` as of a word."""

    corners: NDArray[np.float64]
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(word.text for word in self.words)

    @property
    def angle(self) -> float:
        """Degrees counterclockwise by which the text is turned, above -180 and at most 180."""
        (x, y), (right, below) = self.baseline
        return float(-np.degrees(np.arctan2(below - y, right - x)))

    @property
    def baseline(self) -> NDArray[np.float64]:
        """(2, 2): its two ends, in reading direction."""
        return baseline(self.corners)


def baseline(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """The baseline (2, 2) that a line or word with ``corners`` is taken to have."""
    upper, lower = corners[:2], corners[[3, 2]]
    return lower + DESCENT * (upper - lower)


def extent(corners: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the upright box around ``corners``, in whole pixels."""
    left, top = np.floor(corners.min(axis=0) + 1e-6).astype(int)
    right, bottom = np.ceil(corners.max(axis=0) - 1e-6).astype(int)
    return int(left), int(top), int(right), int(bottom)


def text_lines(page: PageResult) -> list[TextLine]:
    """The page's lines that say something, in reading order, in pixels of its picture."""
    height, width = page.image.shape[:2]
    found = []
    for line in page.lines:
        corners = np.clip(line.box.astype(np.float64) * page.scale, 0, (width, height))
        words = _words(line, corners)
        if words:
            found.append(TextLine(corners, words))
    return found


def _words(line: PageLine, corners: NDArray[np.float64]) -> tuple[Word, ...]:
    text = _NOT_IN_XML.sub("", line.text)
    result = line.result
    own = text == result.text  # else the characters' places and confidences are those of another text
    edges = _edges(_along(line) if own and len(result.centres) == len(text) else spread(text))
    matrix = homography(np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=np.float64), corners)
    words = []
    for match in re.finditer(r"\S+", text):
        first, last = edges[match.start()], edges[match.end()]
        place = project(matrix, np.array([(first, 0), (last, 0), (last, 1), (first, 1)]))
        sure = line.confidence
        if own and not line.placed and len(result.confidences) == len(text):
            sure = float(np.mean(result.confidences[match.start() : match.end()]))
        words.append(Word(match.group(), place, sure))
    return tuple(words)


def _along(line: PageLine) -> list[float]:
    """The characters' centres as shares of the box in reading direction; those of the result are shares of the
    picture with its margin, from the top where it is tall."""
    result = line.result
    corners = np.roll(line.corners, -_first(line), axis=0).astype(np.float64)
    inner = project(homography(corners, np.array([(0, 0), (1, 0), (1, 1), (0, 1)], dtype=np.float64)), line.box)
    left, right = float(inner[[0, 3], 0].mean()), float(inner[[1, 2], 0].mean())
    centres = [1 - centre for centre in result.centres] if result.turned == 270 else list(result.centres)
    return [min(max((centre - left) / max(right - left, 1e-6), 0.0), 1.0) for centre in centres]


def _first(line: PageLine) -> int:
    """Which of ``corners`` belongs to the first corner of ``box``."""
    return int(np.linalg.norm(line.corners - line.box[0], axis=1).argmin())


def _edges(centres: Sequence[float]) -> list[float]:
    """Where characters with these centres begin, and where the last one ends: in the middle between neighbours."""
    if not centres:
        return [0.0]
    at = sorted(centres)
    if len(at) == 1:
        return [0.0, 1.0]
    middles = [(left + right) / 2 for left, right in pairwise(at)]
    half = float(np.median(np.diff(at))) / 2
    return [max(0.0, at[0] - half), *middles, min(1.0, at[-1] + half)]
