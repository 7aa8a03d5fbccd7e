"""Texts that come beside pictures: from a command line, or from a file with one picture a line."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath

from textsr.errors import InputError
from textsr.files import read_regular
from textsr.inputs import Item
from textsr.linetext import LineText

logger = logging.getLogger(__name__)

MAX_SIDECAR = 64 << 20
"""Bytes of a file with texts: a million lines."""


def read_texts(value: str | None, items: Sequence[Item]) -> list[LineText | None]:
    """The text of each item from ``--text``: a string for a single picture, or the path of a sidecar ``.tsv``.

    :raises InputError: a string for several pictures; a sidecar that is missing or malformed, with its line.
    """
    if value is None:
        return [None] * len(items)
    if not value.lower().endswith(".tsv"):
        if value and len(items) > 1:
            raise InputError(f"--text {value!r} is one line's text, but there are {len(items)} pictures: give a .tsv")
        text = LineText(value)
        text.check()
        return [text] * len(items)
    return read_sidecar(Path(value), items)


def read_sidecar(path: Path, items: Sequence[Item]) -> list[LineText | None]:
    """The text of each item from a sidecar: path, text and perhaps confidences, separated by tabs; None where it has
    none. Raises InputError when the file is missing or malformed, with its line.
    """
    rows = _rows(path)
    names: dict[str, set[int]] = defaultdict(set)  # of each item; an item goes by several
    for place, item in enumerate(items):
        for name in (os.path.abspath(item.path), f"./{item.relative}", f"./{item.relative}{item.path.suffix}"):
            names[name].add(place)
    texts: list[LineText | None] = [None] * len(items)
    for number, (name, text) in rows.items():
        keys = {os.path.abspath(name), os.path.abspath(path.parent / name), f"./{PurePath(name)}"}
        places = sorted({place for key in keys if key in names for place in names[key]})
        if not places:
            logger.warning("%s, line %d: %s is none of the pictures given", path, number, name)
        for place in places:
            if texts[place] is not None:
                raise InputError(f"{path}, line {number}: a second text for {name}")
            texts[place] = text
    return texts


def _rows(path: Path) -> dict[int, tuple[str, LineText]]:
    """Line number to path and text of a sidecar; blank lines and lines that start with ``#`` are skipped."""
    try:
        lines = read_regular(path, MAX_SIDECAR).decode("utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    rows = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        if "\0" in line:
            raise InputError(f"{path}, line {number}: holds a NUL; save the file as UTF-8")
        cells = line.rstrip("\r").split("\t")
        if not 2 <= len(cells) <= 3:
            raise InputError(f"{path}, line {number}: needs path, text and perhaps confidences, separated by tabs")
        rows[number] = cells[0], LineText(cells[1], _confidences(cells[2:], len(cells[1]), f"{path}, line {number}"))
    return rows


def _confidences(cells: Sequence[str], count: int, where: str) -> tuple[float, ...] | None:
    if not cells or not cells[0].strip():
        return None
    try:
        values = tuple(float(value) for value in cells[0].replace(",", " ").split())
    except ValueError as error:
        raise InputError(f"{where}: confidences are numbers from 0 to 1 separated by commas or spaces") from error
    if len(values) == 1:
        values *= count
    if len(values) != count or not all(0 <= value <= 1 for value in values):
        raise InputError(f"{where}: needs {count} confidences from 0 to 1 (or one for all), not {cells[0]!r}")
    return values
