"""Rendered lines: pools on disk, and lines that are rendered when they are asked for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from textsr.config import Preset
from textsr.errors import InputError
from train.data.fitting import Raw
from train.data.records import BrokenRecord, Drop, Line, Reason
from train.data.selection import Look
from train.pool import SPLITS, LinePool, PoolLine, fit_line, line_generator
from train.render import RenderAssets, RenderSpec, render_line
from train.render_colour import DEFAULT_PICTURES
from train.words import default_symbols


class PoolSource:
    """The lines of a pool that `train.pool` wrote. Raises InputError where there is none."""

    kind = "pool"
    trusted = True

    def __init__(self, folder: Path, preset: Preset) -> None:
        self.folder, self.label, self._preset = folder, f"pool:{folder.name}", preset
        self._pool = LinePool(folder)
        self._count = len(self._pool)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: not the pixels."""
        return {name: value for name, value in self.__dict__.items() if name != "_pool"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pool = LinePool(self.folder)

    def __len__(self) -> int:
        return self._count

    def name(self, number: int) -> str:
        """Its number."""
        return f"line-{number:06d}"

    def key(self, number: int) -> str:
        """Its number."""
        return self.name(number)

    def look(self, number: int) -> Look:
        """Size before the padding, and text."""
        line = self._pool[number]
        return Look(line.image.shape[0], line.width, line.text)

    def load(self, number: int) -> Raw:
        """The line as it is in the pool."""
        line = placed_line(self._pool[number], self._preset, self.name(number), self.label)
        return Raw(line.image, line.text, line=line)

    def stamp(self) -> list[Any]:
        """Lines."""
        return [self._count]


class RenderSource:
    """``lines`` lines of ``split`` (train, val or test), as in a pool of ``seed``, but made when asked for.

    Raises InputError on another split, or where no fonts are found.
    """

    kind = "render"
    trusted = True

    def __init__(self, split: str, lines: int, seed: int, preset: Preset) -> None:
        if split not in SPLITS or lines < 1:
            raise InputError(f"render:{split}: needs a split of {', '.join(SPLITS)} and at least one line")
        self.split, self.seed, self._count, self._preset = split, seed, lines, preset
        self.label = f"render:{split}"
        _assets(split)

    def __len__(self) -> int:
        return self._count

    def name(self, number: int) -> str:
        """Seed and number."""
        return f"line-{self.seed}-{number:06d}"

    def key(self, number: int) -> str:
        """Seed and number."""
        return self.name(number)

    def look(self, number: int) -> Look:
        """Size and text: the line is rendered."""
        line = self._render(number)
        return Look(line.image.shape[0], line.width, line.text)

    def load(self, number: int) -> Raw:
        """The line."""
        line = placed_line(self._render(number), self._preset, self.name(number), self.label)
        return Raw(line.image, line.text, line=line)

    def stamp(self) -> list[Any]:
        """All that the lines depend on, but for fonts and pictures."""
        return [self.split, self.seed, self._count]

    def _render(self, number: int) -> PoolLine:
        try:
            line = render_line(line_generator(self.seed, self.split, number), _assets(self.split), RenderSpec())
        except InputError as error:
            raise BrokenRecord(Drop(self.name(number), Reason.NO_PICTURE, str(error))) from error
        image = fit_line(line.image)
        share = line.image.shape[1] / image.shape[1]
        centres, widths = (np.asarray(values * share, np.float32) for values in (line.centres, line.widths))
        return PoolLine(image, line.text, centres, widths, line.image.shape[1], line.font, line.kind)


@lru_cache(maxsize=2)
def _assets(split: str) -> RenderAssets:
    """Once a process."""
    return RenderAssets.load(split, default_symbols(), (), DEFAULT_PICTURES)


def placed_line(line: PoolLine, preset: Preset, name: str, source: str) -> Line:
    """A pool's line, whose characters' places are known, fitted as ``preset`` fits."""
    image, centres, widths, width = line.image, line.centres, line.widths, line.width
    whole = image.shape[1]
    if preset.fit == "stretch" and width < whole:
        shown = Image.fromarray(np.ascontiguousarray(image[:, :width]))
        image = np.asarray(shown.resize((preset.width, preset.height), Image.Resampling.BICUBIC))
        centres, widths, width = centres * np.float32(whole / width), widths * np.float32(whole / width), whole
    return Line(image, line.text, centres, widths, width, line.font, line.kind, name, source, placed=True)
