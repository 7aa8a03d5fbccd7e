"""What a caller who knows says that a line reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textsr.errors import InputError
from textsr.reading import LineReading, spread


@dataclass(frozen=True)
class LineText:
    """What a line says, from a caller who knows; an empty ``text`` restores from the picture alone.

    ``confidences`` (0..1, default 1) and ``centres`` (shares 0..1 of the picture's width, default spread evenly
    over the inked part) have one entry for each character: what Python counts, so a combining sign is one of its own.
    Centres may be in any order. A network is shown 24 characters; a longer line is split or its text cut, and says so.
    """

    text: str
    confidences: tuple[float, ...] | None = None
    centres: tuple[float, ...] | None = None

    def reading(self, image: NDArray[np.uint8]) -> LineReading:
        """The text as a reading of ``image``. Raises InputError when types, lengths or ranges are wrong."""
        self.check()
        count = len(self.text)
        confidences = (1.0,) * count if self.confidences is None else numbers(self.confidences, "confidences")
        centres = spread(self.text, *inked(image)) if self.centres is None else numbers(self.centres, "centres")
        return LineReading(self.text, confidences, centres)

    def check(self) -> None:
        """Raises InputError when ``text`` is no text. Any character may be in it: what is outside of the alphabet is
        restored from the picture alone."""
        if not isinstance(self.text, str):
            raise InputError(f"a line's text must be a string, not {type(self.text).__name__}")
        halves = [character for character in self.text if "\ud800" <= character <= "\udfff"]
        if halves:
            raise InputError(f"a line's text holds {halves[0]!a}, half a surrogate pair, which is no character")


def numbers(values: object, name: str) -> tuple[float, ...]:
    """A caller's sequence of numbers, an array too. Raises InputError when it is none."""
    try:
        return tuple(float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} of a line's text must be numbers from 0 to 1, one for each character") from error


def inked(image: NDArray[np.uint8]) -> tuple[float, float]:
    """Left and right end (shares of the width) of the columns that hold ink: whose light varies most from top down."""
    light = image.astype(np.float32).mean(axis=2)
    contrast = light.max(axis=0) - light.min(axis=0)
    columns = np.flatnonzero(contrast > 0.35 * np.percentile(contrast, 95))
    if columns.size == 0 or contrast.max() < 8:
        return 0.0, 1.0
    return float(columns[0] / len(contrast)), float((columns[-1] + 1) / len(contrast))


def line_text(value: str | LineText | None, place: int) -> LineText | None:
    """A caller's ``texts[place]`` as LineText. Raises InputError on another type."""
    if value is None or isinstance(value, LineText):
        return value
    if isinstance(value, str):
        return LineText(value)
    raise InputError(f"texts[{place}] must be None, a string or LineText, not {type(value).__name__}")
