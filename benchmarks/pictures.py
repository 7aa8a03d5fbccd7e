"""Pictures of lines side by side, each with what the judge reads in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ROWS = 6
"""Lines in a picture."""
CELL = (524, 166)
RIGHT, WRONG = (0, 110, 50), (190, 30, 30)


@dataclass(frozen=True)
class Panel:
    """A line of up to 128 x 512 pixels with a reading below it, green where it is right."""

    image: NDArray[np.uint8]
    reading: str
    right: bool


def label_font(size: int = 20) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font with Chinese where one is installed, else Pillow's own (Chinese readings then show as boxes)."""
    from train.fonts import discover

    for face in discover(split="train"):
        if face.family in ("noto-sans-cjk", "wqy-zenhei", "droid-fallback"):
            return ImageFont.truetype(face.path, size, index=face.index)
    return ImageFont.load_default(size)


def write_pictures(
    out: Path, name: str, columns: Sequence[Sequence[Panel]], headings: Sequence[str], ranked: Sequence[int]
) -> list[Path]:
    """``NAME-best.png``, ``NAME-median.png`` and ``NAME-worst.png``, `ROWS` lines each.

    ``columns``: for each heading its panels by line; ``ranked``: places of the lines from best to worst.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = min(ROWS, len(ranked))
    middle = max(0, (len(ranked) - rows) // 2)
    choices = {"best": ranked[:rows], "median": ranked[middle : middle + rows], "worst": ranked[::-1][:rows]}
    font, paths = label_font(), []
    for kind, places in choices.items():
        paths.append(out / f"{name}-{kind}.png")
        sheet(columns, headings, places, font).save(paths[-1])
    return paths


def sheet(
    columns: Sequence[Sequence[Panel]],
    headings: Sequence[str],
    places: Sequence[int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> Image.Image:
    """A column for each heading and a row for each of the lines ``places``."""
    width, height = CELL
    page = Image.new("RGB", (width * len(columns) + 12, 34 + height * len(places)), "white")
    draw = ImageDraw.Draw(page)
    for column, (panels, heading) in enumerate(zip(columns, headings, strict=True)):
        left = 12 + column * width
        draw.text((left, 6), heading, "black", font)
        for row, place in enumerate(places):
            top = 34 + row * height
            page.paste(Image.fromarray(panels[place].image), (left, top))
            draw.text((left, top + 131), panels[place].reading or "-", RIGHT if panels[place].right else WRONG, font)
    return page
