"""Pictures of lines with their texts, and perhaps their real low resolution: a TSV, or a folder hr/ with lines.tsv.

The TSV has a header. Columns ``hr`` (or ``image``) and ``text``, perhaps ``lr``; paths are relative to the TSV. In a
folder with ``hr/`` (and ``lr/``, same names) the column ``hr`` may be a name in it, with or without the suffix, or
``index``: a number, written with leading zeros or without.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textsr.errors import InputError
from textsr.images import SUFFIXES, image_size, load_image
from train.data.fitting import Raw
from train.data.records import BrokenRecord, Drop, Reason, text_of
from train.data.selection import Look

TABLE = "lines.tsv"
PICTURE_COLUMNS = ("hr", "image", "name", "index")
SCALE_TOLERANCE = 0.1
"""How far the low resolution's aspect may be from the high one's, as a share."""


@dataclass(frozen=True)
class Row:
    """A row of the table: what its picture is called there, its text as bytes, its low resolution; or what is wrong."""

    name: str
    hr: Path
    text: bytes
    lr: Path | None = None
    drop: Drop | None = None


class PairsSource:
    """The rows of a table. Raises InputError where it is missing or has no columns for picture and text."""

    kind = "pairs"
    trusted = False

    def __init__(self, path: Path) -> None:
        table = path / TABLE if path.is_dir() else path
        self.label = f"pairs:{path.name}"
        try:
            data = table.read_bytes()
        except OSError as error:
            wanted = f"a TSV with a header (hr, text, perhaps lr), or a folder with hr/ and {TABLE}"
            raise InputError(f"{table}: cannot be read ({error.strerror}): give {wanted}") from error
        self._table = table
        self._rows = list(_Reader(table).rows(data))

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, number: int) -> str:
        """The picture's path as the table has it."""
        return self._rows[number].name

    def key(self, number: int) -> str:
        """The picture's path."""
        return self._rows[number].name

    def look(self, number: int) -> Look:
        """Size and text."""
        row, text = self._sound(number)
        try:
            height, width = image_size(row.hr)
        except InputError as error:
            raise BrokenRecord(Drop(row.name, Reason.BAD_PICTURE, str(error))) from error
        if row.lr is not None:
            try:
                low, wide = image_size(row.lr)
            except InputError as error:
                raise BrokenRecord(Drop(row.name, Reason.BAD_PICTURE, f"low resolution {error}")) from error
            scale_of((height, width), (low, wide), row.name)
        return Look(height, width, text)

    def load(self, number: int) -> Raw:
        """Pictures and text."""
        row, text = self._sound(number)
        try:
            hr = load_image(row.hr)
            lr = None if row.lr is None else load_image(row.lr)
        except InputError as error:
            raise BrokenRecord(Drop(row.name, Reason.BAD_PICTURE, str(error))) from error
        if lr is None:
            return Raw(hr, text)
        return Raw(hr, text, lr, scale_of((hr.shape[0], hr.shape[1]), (lr.shape[0], lr.shape[1]), row.name))

    def stamp(self) -> list[Any]:
        """Size and time of the table."""
        status = self._table.stat()
        return [status.st_size, status.st_mtime_ns]

    def _sound(self, number: int) -> tuple[Row, str]:
        row = self._rows[number]
        if row.drop is not None:
            raise BrokenRecord(row.drop)
        for path, reason in ((row.hr, Reason.NO_PICTURE), (row.lr, Reason.NO_PARTNER)):
            if path is not None and not path.is_file():
                raise BrokenRecord(Drop(row.name, reason, path.name))
        return row, text_of(row.text, row.name)


def scale_of(high: tuple[int, int], low: tuple[int, int], name: str) -> int:
    """The enlargement of two sizes (height, width), rounded. Raises BrokenRecord where their shapes do not agree."""
    tall, wide = high[0] / low[0], high[1] / low[1]
    scale = max(1, round(tall))
    # A side of a few pixels is rounded by up to half a pixel.
    slack = SCALE_TOLERANCE * scale + scale * 0.5 / min(low)
    if abs(tall - scale) > slack or abs(wide - scale) > slack:
        detail = f"{high[1]} x {high[0]} against {low[1]} x {low[0]} pixels"
        raise BrokenRecord(Drop(name, Reason.BAD_PARTNER, detail))
    return scale


class _Reader:
    """Rows of a table; bytes until a row's text is asked for, so that a bad byte costs one row."""

    def __init__(self, table: Path) -> None:
        self._table, self._folder = table, table.parent
        self._paired = (table.parent / "hr").is_dir()
        self._low = (table.parent / "lr").is_dir()
        self._names = _by_stem(table.parent / "hr") if self._paired else {}

    def rows(self, data: bytes) -> list[Row]:
        lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        columns = [cell.strip().decode("utf-8", "replace") for cell in lines[0].rstrip(b"\r").split(b"\t")]
        picture = next((name for name in PICTURE_COLUMNS if name in columns), None)
        if picture is None or "text" not in columns:
            found = ", ".join(columns) or "nothing"
            raise InputError(f"{self._table}: the first line must name the columns hr and text (and lr), not {found}")
        at = columns.index(picture), columns.index("text"), columns.index("lr") if "lr" in columns else None
        return [
            self._row(number, line.rstrip(b"\r").split(b"\t"), at, len(columns))
            for number, line in enumerate(lines[1:], 2)
            if line.strip()
        ]

    def _row(self, number: int, cells: list[bytes], at: tuple[int, int, int | None], width: int) -> Row:
        where = f"line {number}"
        if len(cells) != width:
            drop = Drop(where, Reason.BAD_ROW, f"{len(cells)} cells, the header has {width}")
            return Row(where, self._folder, b"", drop=drop)
        try:
            given = cells[at[0]].decode("utf-8")
            low = None if at[2] is None else cells[at[2]].decode("utf-8")
        except UnicodeDecodeError as error:
            return Row(where, self._folder, b"", drop=Drop(where, Reason.BAD_ROW, str(error)))
        hr = self._high(given)
        lr = self._folder / low if low else None
        if low is None and self._low and hr.parent.name == "hr":
            lr = self._folder / "lr" / hr.name
        return Row(given if at[2] is not None or not self._paired else f"hr/{hr.name}", hr, cells[at[1]], lr)

    def _high(self, given: str) -> Path:
        if self._paired and not (self._folder / given).is_file():
            known = self._names.get(given.lstrip("0") or "0") or self._names.get(Path(given).stem)
            return known or self._folder / "hr" / given
        return self._folder / given


def _by_stem(folder: Path) -> dict[str, Path]:
    """Pictures by their names without suffix, and numbers without leading zeros."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            found[path.stem] = path
            if path.stem.isdigit():
                found[path.stem.lstrip("0") or "0"] = path
    return found
