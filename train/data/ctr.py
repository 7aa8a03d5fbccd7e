"""CTR: the LMDB of Chinese text recognition that Yu et al. 2021 published.

Keys ``num-samples``, ``image-%09d`` (the bytes of a picture file) and ``label-%09d`` (UTF-8), from 1 on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textsr.errors import InputError
from textsr.images import decode_image, image_size
from train.data import lmdb_files
from train.data.fitting import Raw
from train.data.records import BrokenRecord, Drop, Reason, text_of
from train.data.selection import Look


class CTRSource:
    """The records of the LMDB in ``folder``. Raises InputError where there is none or it holds no num-samples."""

    kind = "ctr"
    trusted = False

    def __init__(self, folder: Path) -> None:
        self.folder, self.label = folder, f"ctr:{folder.name}"
        if not (folder / "data.mdb").is_file():
            raise InputError(f"{folder}: no LMDB here (a folder with data.mdb): give the folder of one part of CTR")
        found = lmdb_files.read(self.folder, "num-samples")
        if found is None or not found.isdigit():
            raise InputError(f"{folder}: the LMDB has no number under num-samples: not CTR's format, or damaged")
        self._count = int(found)

    def __len__(self) -> int:
        return self._count

    def name(self, number: int) -> str:
        """The key of its picture."""
        return f"image-{number + 1:09d}"

    def key(self, number: int) -> str:
        """Every record falls in its part alone."""
        return self.name(number)

    def look(self, number: int) -> Look:
        """Size and text."""
        picture, text = self._picture(number), self._text(number)
        try:
            height, width = image_size(picture)
        except InputError as error:
            raise BrokenRecord(Drop(self.name(number), Reason.BAD_PICTURE, str(error))) from error
        return Look(height, width, text)

    def load(self, number: int) -> Raw:
        """Picture and text."""
        try:
            return Raw(decode_image(self._picture(number)), self._text(number))
        except BrokenRecord:
            raise
        except InputError as error:
            raise BrokenRecord(Drop(self.name(number), Reason.BAD_PICTURE, str(error))) from error

    def stamp(self) -> list[Any]:
        """Records, and size and time of the file."""
        status = (self.folder / "data.mdb").stat()
        return [self._count, status.st_size, status.st_mtime_ns]

    def _picture(self, number: int) -> bytes:
        found = self._value(number, self.name(number))
        if not found:
            raise BrokenRecord(Drop(self.name(number), Reason.NO_PICTURE, f"no key {self.name(number)}"))
        return found

    def _text(self, number: int) -> str:
        key = f"label-{number + 1:09d}"
        found = self._value(number, key)
        if found is None:
            raise BrokenRecord(Drop(self.name(number), Reason.NO_TEXT, f"no key {key}"))
        return text_of(found, self.name(number))

    def _value(self, number: int, key: str) -> bytes | None:
        try:
            return lmdb_files.read(self.folder, key)
        except InputError as error:  # a damaged page costs its records, not the others
            raise BrokenRecord(Drop(self.name(number), Reason.BAD_PICTURE, str(error))) from error
