"""One line on its way through the `Restorer`, and a batch of lines as the loop takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.recognizer import LineReader
from textsr import batch
from textsr.alphabet import Alphabet
from textsr.batch import GIVEN, remark
from textsr.config import SCALE, Preset
from textsr.errors import InputError
from textsr.fit import FittedLine, fit_line
from textsr.linetext import LineText, line_text
from textsr.loop import LineBatch
from textsr.noise import image_key
from textsr.reading import LineReading
from textsr.schedule import ResidualShiftSchedule

LARGEST_SCALE = 16.0


@dataclass(frozen=True)
class Line:
    """A good picture with what is known of it; ``place`` is its place in the caller's list."""

    place: int
    image: NDArray[np.uint8]
    fitted: FittedLine
    key: bytes
    reading: LineReading | None = None
    reader: str = ""
    seconds: float = 0.0  # spent on reading it

    def remark(self, preset: Preset) -> str:
        """What the restoration lacks; empty where it lacks nothing."""
        return remark(self.reading, preset.max_chars)


@dataclass(frozen=True)
class Options:
    """Options of one call, as `Restorer.__call__` documents them."""

    seed: int = 0
    steps: int | None = None
    text_sampler: Any = "fixed"
    batch_size: int = 8
    scale: float = SCALE

    def check(self, preset: Preset, *, samples_text: bool) -> None:
        """Raises InputError when one is out of range for the preset, or the bundle cannot sample text."""
        schedule = ResidualShiftSchedule.from_config(preset.schedule)
        schedule.kept(len(schedule) if self.steps is None else self.steps)
        if self.text_sampler not in ("fixed", "categorical"):
            raise InputError(f"text sampler {self.text_sampler!r}: choose fixed or categorical")
        if self.text_sampler == "categorical" and not samples_text:
            raise InputError("this bundle has no graphs for the categorical text sampler: use fixed")
        if self.batch_size < 1:
            raise InputError(f"batch size must be at least 1, not {self.batch_size}")
        if not 0 < self.scale <= LARGEST_SCALE:
            raise InputError(f"scale must be above 0 and at most {LARGEST_SCALE:g}, not {self.scale}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"seed must be a whole number, not {self.seed!r}")


def fit(place: int, image: object, text: str | LineText | None, preset: Preset) -> Line:
    """A picture fitted to the preset's size, with its text where one is given.

    :raises InputError: the picture or the text cannot be used.
    """
    if not isinstance(image, np.ndarray):
        raise InputError(f"images[{place}] must be an RGB array (h, w, 3) of type uint8, not {type(image).__name__}")
    line = Line(place, image, fit_line(image, preset), image_key(image))
    given = line_text(text, place)
    return line if given is None else replace(line, reading=given.reading(image), reader=GIVEN)


def line_batch(lines: Sequence[Line], alphabet: Alphabet, preset: Preset) -> LineBatch:
    """The arrays of `textsr.loop.LineBatch` for ``lines``, at least one."""
    fitted, keys, readings = zip(*((line.fitted, line.key, line.reading) for line in lines), strict=True)
    return batch.line_batch(fitted, keys, readings, alphabet, preset)


def read(lines: Sequence[Line], reader: LineReader | None) -> list[Line]:
    """The lines with readings; those that came with a text keep it."""
    unread = [line for line in lines if line.reader != GIVEN]
    if reader is None or not unread:
        return list(lines)
    found = reader.read([line.image for line in unread])
    readings = {line.place: reading for line, reading in zip(unread, found, strict=True)}
    return [
        replace(line, reading=readings[line.place], reader=reader.name) if line.place in readings else line
        for line in lines
    ]
