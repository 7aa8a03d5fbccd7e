"""The lines that two executors restore, and what a recogniser reads on the results."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.lines import TEXTS, draw
from runtime import recognizer
from runtime.recognizer import LineReader, find_model
from textsr.alphabet import Alphabet
from textsr.batch import line_batch
from textsr.config import Preset
from textsr.errors import InputError
from textsr.fit import FittedLine, fit_line, unfit_line
from textsr.images import load_image
from textsr.inputs import collect
from textsr.linetext import LineText
from textsr.loop import LineBatch
from textsr.noise import image_key
from textsr.reading import LineReading

logger = logging.getLogger(__name__)

NOT_INSTALLED = "PP-OCRv6 is not installed (extra [ocr]): texts were not compared"


@dataclass(frozen=True)
class Lines:
    """Fitted lines, the batch that the loop takes, and what is told of them in reports."""

    fitted: Sequence[FittedLine]
    batch: LineBatch
    told: Mapping[str, Any]


def drawn_lines(preset: Preset, alphabet: Alphabet, count: int) -> Lines:
    """The first ``count`` of `export.lines.TEXTS`, drawn from the shipped glyph atlas."""
    texts = TEXTS[:count]
    images = [draw(text, alphabet, seed) for seed, text in enumerate(texts)]
    readings = [LineText(text).reading(image) for text, image in zip(texts, images, strict=True)]
    told = {"source": "drawn from the shipped glyph atlas, shaded, blurred, with noise", "texts": list(texts)}
    return _lines(images, readings, preset, alphabet, told)


def folder_lines(folder: Path, preset: Preset, alphabet: Alphabet, count: int) -> Lines:
    """The first ``count`` pictures of a folder, read with PP-OCRv6 where it is installed.

    :raises InputError: there is no picture, or one cannot be read.
    """
    found = collect([str(folder)])
    if not found.items:
        raise InputError(f"{folder}: holds no pictures of lines")
    paths = [item.path for item in found.items[:count]]
    images = [load_image(path) for path in paths]
    reader = open_reader()
    readings: Sequence[LineReading | None] = reader.read(images) if reader else [None] * len(images)
    texts = [reading.text if reading else "" for reading in readings]
    told = {"source": "pictures of a folder", "files": [path.name for path in paths], "texts": texts}
    return _lines(images, readings, preset, alphabet, told)


def _lines(
    images: Sequence[NDArray[np.uint8]],
    readings: Sequence[LineReading | None],
    preset: Preset,
    alphabet: Alphabet,
    told: Mapping[str, Any],
) -> Lines:
    fitted, keys = [fit_line(image, preset) for image in images], [image_key(image) for image in images]
    return Lines(fitted, line_batch(fitted, keys, readings, alphabet, preset), told)


def open_reader() -> LineReader | None:
    """The product's reader, or None where it is not installed."""
    return None if find_model() is None else recognizer.open_reader()


@dataclass(frozen=True)
class ReadLine:
    """What was read on a line of both results, and the edit distance; ``where`` is the text sampler."""

    where: str
    line: int
    reference: str
    candidate: str
    distance: int


def read_both(
    reader: LineReader, where: str, lines: Lines, a: NDArray[np.float32], b: NDArray[np.float32]
) -> list[ReadLine]:
    """Reads images (B,3,H,W) in [-1,1] of both sides as users get them; values that are not finite are black."""
    texts = [[reading.text for reading in reader.read(_pictures(images, lines))] for images in (a, b)]
    pairs = zip(*texts, strict=True)
    return [ReadLine(where, place, one, two, edit_distance(one, two)) for place, (one, two) in enumerate(pairs)]


def _pictures(images: NDArray[np.float32], lines: Lines) -> list[NDArray[np.uint8]]:
    shown = np.ascontiguousarray(np.nan_to_num(images, nan=-1, posinf=1, neginf=-1).transpose(0, 2, 3, 1))
    return [unfit_line(image, fitted) for image, fitted in zip(shown, lines.fitted, strict=True)]


def edit_distance(one: str, two: str) -> int:
    """Fewest characters to insert, delete or replace (Levenshtein)."""
    row = list(range(len(two) + 1))
    for place, character in enumerate(one, 1):
        previous, row[0] = row[0], place
        for column, other in enumerate(two, 1):
            previous, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, previous + (character != other)),
            )
    return row[-1]
