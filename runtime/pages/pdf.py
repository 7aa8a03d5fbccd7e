"""A page as a searchable PDF (extra [pdf]): its picture, and its text in its place, invisible."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.pages.font import UNITS, WIDTH, add_font, codes
from runtime.pages.result import PageResult
from runtime.pages.words import TextLine, Word, baseline, text_lines
from textsr.errors import InputError

QUALITY = 92
"""Of the picture's JPEG."""
LARGEST = 14400.0
"""Points (1/72 inch): longer sides viewers do not show."""
LEVEL = 0.25
"""Font sizes that a word's baseline may rise or fall and be written level all the same."""
INVISIBLE = 3
"""PDF's text rendering mode."""


def check_pdf() -> None:
    """Raises InputError where pypdf is not installed."""
    if find_spec("pypdf") is None:
        raise InputError("a searchable PDF is written with pypdf: install the extra [pdf]")


def pdf(page: PageResult) -> bytes:
    """The file's bytes: one pixel of the input is one point. Text is what `PageLine.text` says: read in the restored
    line where that is shown, else in the input; it can be searched and copied, whatever its script.

    :raises InputError: pypdf is not installed.
    """
    check_pdf()
    from pypdf import PdfReader, PdfWriter
    from pypdf.generic import DictionaryObject, NameObject

    height, width = page.image.shape[:2]
    point = min(1 / page.scale, LARGEST / max(height, width))  # of a pixel of the picture
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(_picture(page, 72 / point))))
    sheet = writer.pages[0]
    lines = text_lines(page)
    if lines:
        characters = codes(" ".join(line.text for line in lines))
        contents = sheet.get_contents()
        assert contents is not None  # Pillow's page shows its picture
        contents.set_data(b"q\n" + contents.get_data() + b"\nQ\n" + _layer(lines, characters, height, point))
        sheet.replace_contents(contents)
        resources = sheet["/Resources"].get_object()
        assert isinstance(resources, DictionaryObject)
        resources[NameObject("/Font")] = DictionaryObject({NameObject("/F"): add_font(writer, characters)})
    writer.compress_identical_objects()
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def _picture(page: PageResult, resolution: float) -> bytes:
    """A PDF with the picture alone."""
    written = io.BytesIO()
    Image.fromarray(page.image).save(written, "PDF", resolution=resolution, quality=QUALITY, subsampling=0)
    return written.getvalue()


def _layer(lines: Sequence[TextLine], characters: Mapping[str, int], height: int, point: float) -> bytes:
    """Operators that show the lines' words, each with a space behind it but for the last of a line."""
    shown = [
        _word(word, word.text + " " * (place < len(line.words)), characters, height, point)
        for line in lines
        for place, word in enumerate(line.words, 1)
    ]
    return "\n".join(["BT", f"{INVISIBLE} Tr", *shown, "ET"]).encode()


def _word(word: Word, text: str, characters: Mapping[str, int], height: int, point: float) -> str:
    """Operators that show ``text`` along a word's baseline, so stretched that the word has its length."""
    start, end = (baseline(word.corners) - (0, height)) * (point, -point)
    side = word.corners[[3, 2]] - word.corners[[0, 1]]
    size = max(float(np.linalg.norm(side, axis=1).mean()) * point, 0.1)
    start, end = _straight(start, end, LEVEL * size)
    along = float(np.hypot(*(end - start))) or 1.0
    cosine, sine = (end - start) / along
    stretch = 100 * along / (size * WIDTH / UNITS * len(word.text))
    matrix = " ".join(f"{value:.4f}" for value in (cosine, sine, -sine, cosine, *start))
    shown = "".join(f"{characters[character]:04X}" for character in text)
    return f"/F {size:.2f} Tf {stretch:.2f} Tz {matrix} Tm <{shown}> Tj"


def _straight(
    start: NDArray[np.float64], end: NDArray[np.float64], most: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A baseline's ends, level or upright where they are off that by ``most`` points: readers take words apart whose
    characters stand even slightly higher and higher."""
    off = np.abs(end - start)
    level = int(off.argmin())
    if off[level] > most:
        return start, end
    ends = np.stack([start, end])
    ends[:, level] = ends[:, level].mean()
    return ends[0], ends[1]
