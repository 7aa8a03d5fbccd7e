"""Rasterises the reference glyphs of an alphabet from a font; part of ``python -m train.assets``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTCollection
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from textsr.atlas import SIZE
from textsr.errors import InputError

FONT = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
FACE = "Noto Sans CJK SC"
OVERSAMPLED = 8
BASELINE = 0.88
"""Share of the em above the baseline in a CJK em box."""


def face_index(path: Path, face: str) -> int:
    """Place of a face in a font collection. Raises InputError when it is not there."""
    with TTCollection(path, lazy=True) as collection:
        names = [font["name"].getDebugName(1) for font in collection.fonts]
    if face not in names:
        raise InputError(f"{path} holds no face {face!r}, only {', '.join(map(str, names))}")
    return names.index(face)


def missing_symbols(path: Path, index: int, symbols: Sequence[str]) -> list[str]:
    """Symbols that the font has no glyph for."""
    with TTCollection(path, lazy=True) as collection:
        cmap = collection.fonts[index].getBestCmap()
        return [symbol for symbol in symbols if ord(symbol) not in cmap]


def glyph(font: ImageFont.FreeTypeFont, symbol: str) -> NDArray[np.uint8]:
    """(48, 48) of 0..15: the em box of ``symbol``, stretched so that its advance fills the width.

    What hangs below the em box (g, y, brackets) is squeezed into the part below the baseline.
    """
    em = int(font.size)
    baseline = round(BASELINE * em)
    advance = max(1, round(font.getlength(symbol)))
    page = Image.new("L", (advance, 2 * em))
    ImageDraw.Draw(page).text((0, baseline), symbol, font=font, fill=255, anchor="ls")
    lowest = max(em, (page.getbbox() or (0, 0, 0, em))[3])
    below = page.resize((advance, em - baseline), Image.Resampling.BOX, box=(0, baseline, advance, lowest))
    page.paste(below, (0, baseline))
    box = page.resize((SIZE, SIZE), Image.Resampling.BOX, box=(0, 0, advance, em))
    return np.rint(np.asarray(box, dtype=np.float32) / 17).astype(np.uint8)


def rasterise(symbols: Sequence[str], path: Path = FONT, face: str = FACE) -> NDArray[np.uint8]:
    """(n, 48, 48) bitmaps of 0..15 of all ``symbols``. Raises InputError when the font lacks some."""
    index = face_index(path, face)
    missing = missing_symbols(path, index, symbols)
    if missing:
        raise InputError(f"{face} lacks {len(missing)} symbols of the alphabet: {''.join(missing[:40])}")
    font = ImageFont.truetype(str(path), SIZE * OVERSAMPLED, index=index)
    return np.stack([glyph(font, symbol) for symbol in tqdm(symbols, desc="glyphs", unit="glyph")])
