"""Pictures of lines side by side, each with what the judge reads in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ROWS = 6
"""Lines in a picture."""
CELL = (524, 166)
COLUMNS = 5
"""Pictures beside each other at most."""
HEADING, MARGIN, RULE = 30, 12, 14
RIGHT, WRONG, GREY = (0, 110, 50), (190, 30, 30), (90, 90, 90)


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


def choose(ranked: Sequence[int]) -> dict[str, list[int]]:
    """The best, median and worst lines, `ROWS` of each; ``ranked``: places of the lines from best to worst."""
    rows = min(ROWS, len(ranked))
    middle = max(0, (len(ranked) - rows) // 2)
    return {"best": [*ranked[:rows]], "median": [*ranked[middle : middle + rows]], "worst": [*ranked[::-1][:rows]]}


def write_pictures(
    out: Path, name: str, panels: Mapping[str, Mapping[int, Panel]], choices: Mapping[str, Sequence[int]]
) -> list[Path]:
    """``NAME-best.png``, ``NAME-median.png`` and ``NAME-worst.png``.

    ``panels``: for each heading its panels by line; ``choices``: for each picture the places of its lines.
    """
    out.mkdir(parents=True, exist_ok=True)
    font, paths = label_font(), []
    for kind, places in choices.items():
        paths.append(out / f"{name}-{kind}.png")
        sheet(panels, places, font).save(paths[-1], optimize=True)
    return paths


def sheet(
    panels: Mapping[str, Mapping[int, Panel]],
    places: Sequence[int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> Image.Image:
    """A column for each heading and a block of rows for each of the lines ``places``.

    More than `COLUMNS` headings are spread over several rows of the block, each over its own picture.
    """
    headings = [*panels]
    depth = math.ceil(len(headings) / COLUMNS)
    columns = math.ceil(len(headings) / depth)
    width, height = CELL[0], CELL[1] + (HEADING if depth > 1 else 0)
    page = Image.new("RGB", (width * columns + MARGIN, 34 + len(places) * (depth * height + RULE)), "white")
    draw = ImageDraw.Draw(page)
    for number, heading in enumerate(headings):
        left, below = MARGIN + number % columns * width, number // columns * height
        if depth == 1:
            draw.text((left, 6), heading, "black", font)
        for row, place in enumerate(places):
            top = 34 + row * (depth * height + RULE) + below
            if depth > 1:
                draw.text((left, top), heading, GREY, font)
                top += HEADING
            panel = panels[heading][place]
            page.paste(Image.fromarray(panel.image), (left, top))
            draw.text((left, top + 131), panel.reading or "-", RIGHT if panel.right else WRONG, font)
    for row in range(1, len(places)) if depth > 1 else ():
        rule = 34 + row * (depth * height + RULE) - RULE // 2 - 2
        draw.line((MARGIN, rule, page.width - MARGIN, rule), GREY)
    return page
