"""Real-CE (Ma et al. 2023): photographs of the same scene at 13, 26 and 52 mm, with lines of text marked in them.

Folders ``13mm``, ``26mm`` and ``52mm`` hold pictures of the same names: 13 to 52 mm is x4, 26 to 52 mm x2. Each picture
of 52 mm has a label file, its name with ``.txt``, beside it or in another folder below; rows are
``x1,y1,x2,y2,x3,y3,x4,y4,text`` in its pixels. The low resolution may have been enlarged to the size of the high one
(registered) or not: its lines are brought to 1/4 or 1/2 of the high ones' size. The data are for non-commercial use.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textsr.errors import InputError
from textsr.fit import resample
from textsr.images import SUFFIXES, image_size, load_image
from train.data.fitting import Raw
from train.data.quads import Rectangle, cut, rectangle
from train.data.records import BrokenRecord, Drop, Reason, text_of
from train.data.selection import Look

HIGH = "52mm"
LOW = {4: "13mm", 2: "26mm"}
ILLEGIBLE = "###"
SHAPE_TOLERANCE = 0.02
"""By how much the two sides' ratios of a low to a high picture may differ."""
LARGEST = 1 << 26  # pixels of a photograph
KEPT_PICTURES = 4  # decoded photographs that a process keeps: the lines of one come one after the other


@dataclass(frozen=True)
class Mark:
    """A row of a label file: corners (4, 2) and text as bytes, or what is wrong with it."""

    name: str
    picture: Path
    quad: NDArray[np.float64] | None = None
    text: bytes = b""
    drop: Drop | None = None


class RealCESource:
    """The marked lines of the folder. Raises InputError without 52mm pictures, or if ``scale`` is neither 4 nor 2."""

    kind = "real-ce"
    trusted = False

    def __init__(self, folder: Path, scale: int = 4) -> None:
        if scale not in LOW:
            raise InputError(f"Real-CE has scale 4 (13 to 52 mm) and 2 (26 to 52 mm), not {scale}")
        self.folder, self.scale, self.label = folder, scale, f"real-ce:{folder.name}"
        if not (folder / HIGH).is_dir():
            raise InputError(f"{folder}: no folder {HIGH} here: give the folder that holds 13mm, 26mm and 52mm")
        self._partners = _pictures(folder / LOW[scale])
        self._labels = _label_files(folder)
        self._marks = [mark for path in _pictures(folder / HIGH).values() for mark in self._read(path)]
        if not self._marks:
            raise InputError(f"{folder / HIGH}: no picture in this folder ({', '.join(sorted(SUFFIXES))})")

    def __len__(self) -> int:
        return len(self._marks)

    def name(self, number: int) -> str:
        """The picture's name and the row of its label file, from 1 on."""
        return self._marks[number].name

    def key(self, number: int) -> str:
        """The picture's name: its lines stay together."""
        return self._marks[number].picture.stem

    def look(self, number: int) -> Look:
        """Size of the line's rectangle, and its text."""
        mark, _ = self._sound(number)
        text = text_of(mark.text, mark.name)
        if text == ILLEGIBLE:
            raise BrokenRecord(Drop(mark.name, Reason.ILLEGIBLE))
        height, width = self._rectangle(mark).size
        return Look(height, width, text)

    def load(self, number: int) -> Raw:
        """The line in both pictures, and its text."""
        mark, partner = self._sound(number)
        found = self._rectangle(mark)
        try:
            high, low = (_photograph(path, _time(path)) for path in (mark.picture, partner))
        except InputError as error:
            raise BrokenRecord(Drop(mark.name, Reason.BAD_PICTURE, str(error))) from error
        y, x = (a / b for a, b in zip(low.shape[:2], high.shape[:2], strict=True))
        height, width = (max(1, round(side / self.scale)) for side in found.size)
        lr = resample(cut(low, found.scaled(x, y)), height, width)
        return Raw(
            cut(high, found), text_of(mark.text, mark.name), np.clip(np.rint(lr), 0, 255).astype(np.uint8), self.scale
        )

    def stamp(self) -> list[Any]:
        """Lines, and a hash of all that is marked."""
        marked = hashlib.blake2b(digest_size=8)
        for mark in self._marks:
            marked.update(f"{mark.name}\t{None if mark.quad is None else mark.quad.tolist()}\t".encode() + mark.text)
        return [len(self._marks), self.scale, marked.hexdigest()]

    def _read(self, picture: Path) -> list[Mark]:
        labels = self._labels.get(picture.stem)
        if labels is None:
            drop = Drop(picture.name, Reason.NO_TEXT, f"no label file {picture.stem}.txt")
            return [Mark(picture.name, picture, drop=drop)]
        try:
            rows = labels.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        except OSError as error:
            drop = Drop(picture.name, Reason.NO_TEXT, f"{labels.name} cannot be read: {error.strerror}")
            return [Mark(picture.name, picture, drop=drop)]
        return [
            _mark(f"{picture.name}#{number}", picture, row.rstrip(b"\r"))
            for number, row in enumerate(rows, 1)
            if row.strip()
        ]

    def _sound(self, number: int) -> tuple[Mark, Path]:
        """A mark that could be read, and the low picture, whose shape agrees."""
        mark = self._marks[number]
        if mark.drop is not None:
            raise BrokenRecord(mark.drop)
        partner = self._partners.get(mark.picture.stem)
        if partner is None:
            raise BrokenRecord(Drop(mark.name, Reason.NO_PARTNER, f"none in {LOW[self.scale]}"))
        (height, width), (low, wide) = _size(mark.picture, mark.name), _size(partner, mark.name)
        if abs(low / height - wide / width) > SHAPE_TOLERANCE * wide / width:
            detail = f"{width} x {height} against {wide} x {low} pixels"
            raise BrokenRecord(Drop(mark.name, Reason.BAD_PARTNER, detail))
        return mark, partner

    def _rectangle(self, mark: Mark) -> Rectangle:
        assert mark.quad is not None
        try:
            return rectangle(mark.quad, _size(mark.picture, mark.name))
        except InputError as error:
            raise BrokenRecord(Drop(mark.name, Reason.BAD_QUAD, str(error))) from error


def _mark(name: str, picture: Path, row: bytes) -> Mark:
    """A row; the text is all behind the eighth comma, commas included."""
    cells = row.split(b",", 8)
    if len(cells) < 9:
        reason = Reason.NO_TEXT if len(cells) == 8 else Reason.BAD_ROW
        return Mark(name, picture, drop=Drop(name, reason, f"{len(cells)} cells, not 8 numbers and a text"))
    try:
        quad = np.array([float(cell) for cell in cells[:8]]).reshape(4, 2)
    except ValueError as error:
        return Mark(name, picture, drop=Drop(name, Reason.BAD_ROW, str(error)))
    if not np.isfinite(quad).all():
        return Mark(name, picture, drop=Drop(name, Reason.BAD_ROW, "a coordinate is not finite"))
    return Mark(name, picture, quad, cells[8])


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures of a folder by name without suffix."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def _label_files(folder: Path) -> dict[str, Path]:
    """Label files by the picture's name: beside the pictures of 52 mm first, never beside the low ones."""
    low = {folder / name for name in LOW.values()}
    files = [path for path in sorted(folder.rglob("*.txt")) if path.parent not in low]
    files.sort(key=lambda path: path.parent != folder / HIGH)
    found: dict[str, Path] = {}
    for path in files:
        found.setdefault(path.stem, path)
    return found


def _time(picture: Path) -> int:
    """When the file last changed: what is kept of it is of that time."""
    try:
        return picture.stat().st_mtime_ns
    except OSError as error:
        raise InputError(f"{picture.parent.name}: cannot be read: {error.strerror}") from error


@lru_cache(maxsize=4096)
def _header(picture: Path, changed: int) -> tuple[int, int]:
    return image_size(picture)


def _size(picture: Path, name: str) -> tuple[int, int]:
    try:
        return _header(picture, _time(picture))
    except InputError as error:
        raise BrokenRecord(Drop(name, Reason.BAD_PICTURE, f"{picture.parent.name}: {error}")) from error


@lru_cache(maxsize=KEPT_PICTURES)
def _photograph(picture: Path, changed: int) -> NDArray[np.uint8]:
    try:
        return load_image(picture, LARGEST)
    except InputError as error:
        raise InputError(f"{picture.parent.name}: {error}") from error
