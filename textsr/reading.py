"""What a recogniser says about a line, and the arrays that the text modules make of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from textsr.alphabet import MAX_CHARS, Alphabet
from textsr.config import Preset
from textsr.errors import InputError
from textsr.fit import Place

NEIGHBOUR_SHARE = 0.92
"""A character's width is this share of the distance to its nearer neighbour, ..."""
WIDE_SHARE = 0.86
"""... at most this share of the line's height where it is Chinese, ..."""
NARROW_SHARE = 0.62
"""... or this one where it is Latin, a digit or other half-width sign."""
SMALLEST = 4.0
"""Pixels: characters whose centres coincide are drawn this wide."""
EM_SHARE = 0.86
"""Height of a character's em box as a share of the line's, in its middle, as long as nobody looked at the picture."""


@dataclass(frozen=True)
class LineReading:
    """Text of a line with a confidence (0..1) and a centre (share 0..1 of the crop's width) for each character."""

    text: str
    confidences: tuple[float, ...]
    centres: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.text) == len(self.confidences) == len(self.centres):
            raise InputError(
                f"a reading has one confidence and one centre for each of its {len(self.text)} characters, "
                f"not {len(self.confidences)} and {len(self.centres)}"
            )
        if not all(0 <= value <= 1 for value in (*self.confidences, *self.centres)):
            raise InputError("confidences and centres of a reading must be numbers from 0 to 1")


PLACES = ("centres", "widths", "middles", "heights")
"""Where characters are drawn, by the names of the graphs' inputs."""
PAINT = ("contrasts", "softness")
"""How they are painted onto the line, likewise."""


@dataclass(frozen=True)
class TextArrays:
    """Graph inputs of one line: tokens int64, the others float32, each (max_chars,) but for the last two.

    Centres and widths are shares of the fitted line's whole width W, padding included; middles and heights, those of
    the characters' em boxes, are shares of its height H. contrasts (max_chars, 3) are what full ink of a character adds
    to the picture's RGB in [-1,1], its weight included; softness (1,) is the width in pixels of the restored line that
    the degraded one's edges are blurred over. Both are zero where nothing is painted (`textsr.painting`).
    """

    tokens: NDArray[np.int64]
    weights: NDArray[np.float32]
    centres: NDArray[np.float32]
    widths: NDArray[np.float32]
    middles: NDArray[np.float32]
    heights: NDArray[np.float32]
    contrasts: NDArray[np.float32]
    softness: NDArray[np.float32]

    def take(self, lines: int | slice) -> TextArrays:
        """Of arrays (B, max_chars), those of one line or of several."""
        return TextArrays(*(getattr(self, field.name)[lines] for field in fields(self)))


def stacked(rows: Sequence[TextArrays]) -> TextArrays:
    """The arrays of several lines, at least one, as (B, max_chars)."""
    return TextArrays(*(np.stack([getattr(row, field.name) for row in rows]) for field in fields(TextArrays)))


def unseen(shape: tuple[int, ...]) -> tuple[NDArray[np.float32], ...]:
    """Middles, heights, contrasts and softness of characters (..., max_chars) as long as nobody looked at the picture:
    in the middle of its height, and not painted."""
    places = np.full(shape, 0.5, np.float32), np.full(shape, EM_SHARE, np.float32)
    return *places, np.zeros((*shape, 3), np.float32), np.zeros((*shape[:-1], 1), np.float32)


def spread(text: str, left: float = 0.0, right: float = 1.0) -> tuple[float, ...]:
    """Centres for text that came without places: evenly between ``left`` and ``right``, wide characters double."""
    units = np.array([2.0 if is_wide(character) else 1.0 for character in text])
    if not units.size:
        return ()
    ends = np.cumsum(units)
    return tuple(float(left + (right - left) * c) for c in (ends - units / 2) / ends[-1])


def is_wide(character: str) -> bool:
    """Whether the character takes a full Chinese em (East Asian width W, F or A)."""
    return unicodedata.east_asian_width(character) in "WFA"


def conditions(reading: LineReading | None, alphabet: Alphabet, place: Place, max_chars: int = MAX_CHARS) -> TextArrays:
    """The text arrays of a line.

    Folds and encodes the first ``max_chars`` characters; the weight is the confidence, 0 for symbols outside the
    alphabet and 1 for padding. Without a reading, or with an empty one, everything is padding with weight 0.
    """
    tokens, known = alphabet.encode("", max_chars)
    empty = np.zeros(max_chars, dtype=np.float32)
    if reading is None or not reading.text:
        return TextArrays(tokens, empty, empty.copy(), empty.copy(), *unseen(empty.shape))
    text = alphabet.fold(reading.text[:max_chars])
    count = len(text)
    tokens, known = alphabet.encode(text, max_chars)
    weights = np.ones(max_chars, dtype=np.float32)
    weights[:count] = reading.confidences[:count]
    centres, widths = empty.copy(), empty.copy()
    centres[:count] = np.asarray(reading.centres[:count]) * place.width_share
    all_centres = np.asarray(reading.centres, dtype=np.float64) * place.width_share * place.width
    widths[:count] = character_widths(reading.text, all_centres, place.height)[:count] / place.width
    return TextArrays(tokens, weights * known, centres, widths, *unseen(empty.shape))


def used_text(
    tokens: NDArray[np.int64], weights: NDArray[np.float32], preset: Preset
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Tokens and weights (..., N) as a model of ``preset`` is given them, in training and in the loop.

    Without text everything is padding of weight 0; without confidence a symbol weighs 1, padding what it did.
    """
    if not preset.text:
        return np.full_like(tokens, preset.padding), np.zeros_like(weights)
    if not preset.confidence:
        return tokens, np.where(tokens == preset.padding, weights, np.float32(1))
    return tokens, weights


def character_widths(text: str, centres: NDArray[np.float64], height: int) -> NDArray[np.float64]:
    """Widths (n,) in pixels of characters at ``centres`` (n,) pixels on a line of ``height`` pixels."""
    caps = np.array([(WIDE_SHARE if is_wide(character) else NARROW_SHARE) * height for character in text])
    gaps = np.full(len(text) + 1, np.inf)
    gaps[1:-1] = np.abs(np.diff(centres))
    return np.minimum(np.maximum(NEIGHBOUR_SHARE * np.minimum(gaps[:-1], gaps[1:]), SMALLEST), caps)
