"""Fitted lines and their readings as the loop takes them. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textsr.alphabet import Alphabet
from textsr.config import Preset
from textsr.fit import FittedLine
from textsr.loop import LineBatch
from textsr.painting import fit_batch
from textsr.reading import LineReading, conditions, stacked
from textsr.resize import bicubic_x4

GIVEN = "given"
"""The reader's name of texts that the caller supplied."""
NO_READER = "no recogniser: restored from the picture alone"
NO_TEXT = "no text: restored from the picture alone"


def line_batch(
    fitted: Sequence[FittedLine],
    keys: Sequence[bytes],
    readings: Sequence[LineReading | None],
    alphabet: Alphabet,
    preset: Preset,
    windows: Sequence[int] | None = None,
) -> LineBatch:
    """The arrays of `textsr.loop.LineBatch` for lines, at least one, fitted for ``preset``.

    ``keys`` (`textsr.noise.image_key`) and ``readings`` have one entry for each, and so have ``windows``: the number
    of each among the windows of its line, 0 where a line is whole.
    """
    pairs = zip(fitted, readings, strict=True)
    texts = [conditions(reading, alphabet, line.place, preset.max_chars) for line, reading in pairs]
    enlarged = [bicubic_x4(line.lq) for line in fitted]
    if preset.clamp_enlarged:
        enlarged = [np.clip(image, -1, 1) for image in enlarged]
    planes = (2, 0, 1)
    lq = np.stack([line.lq.transpose(planes) for line in fitted])
    text = fit_batch(stacked(texts), lq, [line.width_share for line in fitted], preset)
    return LineBatch(
        lq=lq,
        image=np.stack([image.transpose(planes) for image in enlarged]),
        **vars(text),
        keys=list(keys),
        windows=[0] * len(fitted) if windows is None else list(windows),
    )


def remark(reading: LineReading | None, max_chars: int) -> str:
    """What a restoration guided by ``reading`` lacks; empty where it lacks nothing."""
    if reading is None:
        return NO_READER
    if not reading.text:
        return NO_TEXT
    count = len(reading.text)
    return f"text of {count} characters: only {max_chars} are used" if count > max_chars else ""
