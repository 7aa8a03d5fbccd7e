"""What a page's lines say: those that the restorer had no cause to read, and the restored ones, are read here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from runtime import orientation
from runtime.gate import INPUT
from runtime.lines import lay, read, read_any, take
from runtime.options import Options
from runtime.orientation import sureness
from runtime.recognizer import LineReader
from runtime.result import Result
from textsr.config import Preset

After = tuple[str | None, float]
"""What a restored line reads, None where nobody read it, and how surely (0..1)."""


def heard(results: Sequence[Result]) -> list[After]:
    """What a guard has read in the restored lines."""
    found = [(result.evidence.get("after"), result.evidence.get("sure_after")) for result in results]
    return [
        (after, sure) if isinstance(after, str) and isinstance(sure, float) else (None, 0.0) for after, sure in found
    ]


def read_before(
    results: Sequence[Result], crops: Sequence[NDArray[np.uint8]], reader: LineReader, options: Options, preset: Preset
) -> list[Result]:
    """The results, those of lines that the gate did not even let read with what their crops say."""
    told = list(results)
    unread = [place for place, result in enumerate(results) if not result.reader and result.cause != INPUT]
    lines = lay([take(place, crops[place], None) for place in unread], reader, options, preset)
    for line in read(lines, reader, preset):
        if line.reading is not None:
            told[line.place] = replace(
                told[line.place], text=line.reading.text, confidence=sureness(line.reading), reader=line.reader,
                confidences=line.reading.confidences, centres=line.laid.centres(line.reading),
                turned=line.laid.turned, stacked=bool(line.laid.cells),
            )  # fmt: skip
    return told


def read_after(
    results: Sequence[Result], known: Sequence[After], reader: LineReader, preset: Preset
) -> list[After]:  # fmt: skip
    """What the restored lines read, where it is not ``known``."""
    found = list(known)
    unread = [place for place, result in enumerate(results) if result.applied and known[place][0] is None]
    pictures = [_upright(results[place], preset) for place in unread]
    for place, reading in zip(unread, read_any(reader, pictures, preset), strict=True):
        found[place] = reading.text, sureness(reading)
    return found


def _upright(result: Result, preset: Preset) -> NDArray[np.uint8]:
    """A restored line as it is read: a vertical one laid down as it was to be restored."""
    if result.turned:
        return orientation.turned(result.image, result.turned).image
    if result.stacked:
        return orientation.stacked(result.image, result.centres, preset).image
    return result.image
