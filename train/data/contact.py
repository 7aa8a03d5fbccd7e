"""Contact sheets: lines of a data set, each with its label at the places where its characters are thought to be."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from textsr.alphabet import Alphabet
from textsr.atlas import load_atlas
from train.data.records import Line

COLUMNS = 3
WIDTH, HEIGHT = 384, 96  # of a line on the sheet; the low resolution is enlarged to it without smoothing
GLYPH, CAPTION, GAP = 22, 14, 8


def contact_sheet(lines: Sequence[Line], low: Sequence[NDArray[np.uint8]]) -> Image.Image:
    """Cells of name, label in reference glyphs, high and low resolution. ``low``: (32, 128, 3) of each line.

    Characters without a reference glyph are a red box.
    """
    cell = CAPTION + GLYPH + 2 * HEIGHT + GAP
    rows = -(-len(lines) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * (WIDTH + GAP) + GAP, rows * cell + GAP), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(11)
    for place, (line, small) in enumerate(zip(lines, low, strict=True)):
        left, top = GAP + place % COLUMNS * (WIDTH + GAP), GAP + place // COLUMNS * cell
        told = f"{line.source} {line.name}" + (f" x{line.scale}" if line.scale else "")
        draw.text((left, top), told.encode("ascii", "replace").decode()[-64:], "grey", font)
        _label(page, line, left, top + CAPTION)
        below = top + CAPTION + GLYPH
        page.paste(Image.fromarray(line.image).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS), (left, below))
        enlarged = Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
        page.paste(enlarged, (left, below + HEIGHT))
        edge = left + round(line.width / line.image.shape[1] * WIDTH)
        draw.line((edge, below, edge, below + 2 * HEIGHT), "red" if edge < left + WIDTH else "white")
    return page


@lru_cache(maxsize=1)
def _glyphs() -> tuple[Alphabet, NDArray[np.uint8]]:
    return Alphabet.load(), load_atlas()


def _label(page: Image.Image, line: Line, left: int, top: int) -> None:
    alphabet, atlas = _glyphs()
    tokens, _ = alphabet.encode(alphabet.fold(line.text), max(1, len(line.text)))
    for token, centre, width, character in zip(tokens, line.centres, line.widths, line.text, strict=False):
        side = max(4, min(GLYPH, round(float(width) * WIDTH)))
        x = left + round(float(centre) * WIDTH - side / 2)
        if int(token) == alphabet.padding and not character.isspace():
            ImageDraw.Draw(page).rectangle((x, top + 4, x + side - 2, top + GLYPH - 4), outline="red")
            continue
        glyph = Image.fromarray(255 - atlas[int(token)]).resize((side, GLYPH), Image.Resampling.LANCZOS)
        page.paste(glyph, (x, top))
