"""What a command line is given and leaves: files, folders and globs, names of results, sidecars with texts, reports."""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from textsr.errors import InputError
from textsr.images import SUFFIXES, atomic
from textsr.linetext import LineText

logger = logging.getLogger(__name__)

_MAGIC = frozenset("*?[")


@dataclass(frozen=True)
class Item:
    """One input picture; ``relative`` is its path below the given folder, without suffix."""

    path: Path
    relative: PurePath

    def output(self, folder: Path) -> Path:
        """Where the restored picture goes."""
        return folder / self.relative.with_name(self.relative.name + ".png")

    def comparison(self, folder: Path) -> Path:
        """Where the picture with before and after goes."""
        return self.beside(folder, ".compare.png")

    def beside(self, folder: Path, suffix: str) -> Path:
        """Where another file goes that comes with the restored picture."""
        return folder / self.relative.with_name(self.relative.name + suffix)


@dataclass
class Found:
    """Pictures found, and the inputs that gave none with the reason."""

    items: list[Item] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)


def collect(inputs: Sequence[str], out: Path | None = None) -> Found:
    """The pictures that ``inputs`` name, in the order given, folders and globs sorted by name.

    A file is taken whatever it is called, a folder is searched with its subfolders for pictures by suffix, and
    what exists under its very name is no glob. Hidden files and folders are left out of searches, and so is
    the folder ``out`` of earlier results. A picture that several inputs name in the same way counts once.
    """
    found = Found()
    seen: set[tuple[Path, PurePath]] = set()
    for given in inputs:
        for item in _expand(given, found, out):
            key = (Path(os.path.abspath(item.path)), item.relative)
            if key not in seen:
                seen.add(key)
                found.items.append(item)
    return found


def _expand(given: str, found: Found, out: Path | None) -> Iterator[Item]:
    path = Path(given)
    if path.is_dir():
        yield from _search(path, given, found, out)
    elif path.exists() or path.is_symlink():
        yield Item(path, PurePath(path.stem or path.name))
    elif _MAGIC & set(given):
        yield from _match(given, found, out)
    else:
        found.failures.append((given, "is not there"))


def _search(folder: Path, given: str, found: Found, out: Path | None) -> Iterator[Item]:
    count = 0
    for path in _walk(folder, found, os.path.abspath(out) if out is not None else ""):
        count += 1
        yield Item(path, path.relative_to(folder).with_suffix(""))
    if not count:
        found.failures.append((given, f"no picture in this folder ({', '.join(sorted(SUFFIXES))})"))


def _walk(folder: Path, found: Found, out: str) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        found.failures.append((str(error.filename), f"cannot be searched: {error.strerror}"))

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and os.path.abspath(os.path.join(parent, name)) != out
        )
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent, name)


def _match(pattern: str, found: Found, out: Path | None) -> Iterator[Item]:
    """Files that a glob matches; their names keep the path below the last folder before the first wildcard."""
    parts = Path(pattern).parts
    fixed = next(place for place, part in enumerate(parts) if _MAGIC & set(part))
    root = Path(*parts[:fixed]) if fixed else Path()
    files = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if Path(name).is_file()]
    files = [path for path in files if path.suffix.lower() in SUFFIXES and not _below(path, out)]
    if not files:
        found.failures.append((pattern, "matches no picture"))
    for path in files:
        yield Item(path, path.relative_to(root).with_suffix(""))


def _below(path: Path, folder: Path | None) -> bool:
    return folder is not None and Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def check_outputs(
    items: Iterable[Item], folder: Path, *, compare: bool, overwrite: bool, also: Sequence[str] = ()
) -> None:
    """Refuses, before any work, results that would share a name, replace an input, or replace a file unasked.

    ``also``: suffixes of further files that come with each picture.

    :raises InputError: naming the files.
    """
    owners: dict[Path, Item] = {}
    items = list(items)
    sources = {Path(os.path.abspath(item.path)) for item in items}
    for item in items:
        further = [item.beside(folder, suffix) for suffix in also]
        for target in [item.output(folder), *([item.comparison(folder)] if compare else []), *further]:
            if target in owners:
                raise InputError(f"{owners[target].path} and {item.path} would both be written to {target}")
            if Path(os.path.abspath(target)) in sources:
                raise InputError(f"{target} would replace an input: choose another folder with -o")
            owners[target] = item
    for target, item in owners.items():
        above = next((parent for parent in target.parents if parent in owners), None)
        if above is not None:
            raise InputError(f"{above} would be the result of {owners[above].path} and a folder for {item.path}")
    existing = [target for target in owners if target.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise InputError(f"{existing[0]} exists already{more}: use --overwrite, or another folder with -o")


def write_report(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line; what of a file's name is no Unicode is escaped. Raises InputError if it cannot be."""
    with atomic(path) as stream:
        for record in records:
            stream.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")


def read_texts(value: str | None, items: Sequence[Item]) -> list[LineText | None]:
    """The text of each item from ``--text``: a string for a single picture, or the path of a sidecar ``.tsv``.

    :raises InputError: a string for several pictures; a sidecar that is missing or malformed, with its line.
    """
    if value is None:
        return [None] * len(items)
    if not value.lower().endswith(".tsv"):
        if value and len(items) > 1:
            raise InputError(f"--text {value!r} is one line's text, but there are {len(items)} pictures: give a .tsv")
        return [LineText(value)] * len(items)
    return read_sidecar(Path(value), items)


def read_sidecar(path: Path, items: Sequence[Item]) -> list[LineText | None]:
    """The text of each item from a sidecar: path, text and perhaps confidences, separated by tabs; None where it has
    none. Raises InputError when the file is missing or malformed, with its line.
    """
    rows = _rows(path)
    names = [
        {os.path.abspath(item.path), f"./{item.relative}", f"./{item.relative}{item.path.suffix}"} for item in items
    ]
    texts: list[LineText | None] = [None] * len(items)
    for number, (name, text) in rows.items():
        keys = {os.path.abspath(name), os.path.abspath(path.parent / name), f"./{PurePath(name)}"}
        places = [place for place, known in enumerate(names) if keys & known]
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
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    rows = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
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
