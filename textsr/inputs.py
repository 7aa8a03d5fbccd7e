"""What a command line is given and leaves: files, folders and globs, names of results, reports."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from textsr.errors import InputError
from textsr.files import atomic
from textsr.images import SUFFIXES

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
    what exists under its very name is no glob. Hidden files and folders are left out of searches, links to folders are
    not followed below the first wildcard, and the folder ``out`` of earlier results is left out. A picture that several
    inputs name in the same way counts once.
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
    try:
        is_folder, is_there = path.is_dir(), path.exists() or path.is_symlink()
    except OSError as error:  # a name too long, a folder that may not be looked into
        found.failures.append((given, f"cannot be looked up: {error.strerror}"))
        return
    if not given:
        found.failures.append((given, "is no name"))
    elif is_folder:
        yield from _search(path, given, found, out)
    elif is_there:
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
    below = [part if part == "**" else part.replace("**", "*") for part in parts[fixed:]]
    if below[-1] == "**":
        below.append("*")
    hidden = any(part.startswith(".") for part in below)  # where they are asked for
    files = [
        path
        for path in sorted(root.glob(str(Path(*below))))  # unlike glob.glob, goes through no link more than once
        if path.suffix.lower() in SUFFIXES and not _below(path, out) and path.is_file()
        if hidden or not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
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
    sources = _sources(items)
    for item in items:
        further = [item.beside(folder, suffix) for suffix in also]
        for target in [item.output(folder), *([item.comparison(folder)] if compare else []), *further]:
            if target in owners:
                raise InputError(f"{owners[target].path} and {item.path} would both be written to {target}")
            if _real(target) in sources:
                raise InputError(f"{target} would replace an input: choose another folder with -o")
            owners[target] = item
    for target, item in owners.items():
        above = next((parent for parent in target.parents if parent in owners), None)
        if above is not None:
            raise InputError(f"{above} would be the result of {owners[above].path} and a folder for {item.path}")
    existing = [target for target in owners if os.path.lexists(target)]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise InputError(f"{existing[0]} exists already{more}: use --overwrite, or another folder with -o")


def check_report(
    report: Path, items: Iterable[Item], folder: Path, *, compare: bool, overwrite: bool, sidecar: Path | None
) -> None:
    """Refuses, before any work, a report that would replace an input, a sidecar or a result, or a file unasked.

    :raises InputError: naming the file.
    """
    items = list(items)
    targets = {item.output(folder) for item in items} | {item.comparison(folder) for item in items if compare}
    kept = _sources(items) | {_real(target) for target in targets} | ({_real(sidecar)} if sidecar else set())
    if report.is_dir():
        raise InputError(f"{report} is a folder: --report needs the name of a file")
    if _real(report) in kept or Path(os.path.realpath(report)) in kept:
        raise InputError(f"the report {report} would replace an input or a result: give it another name")
    if os.path.lexists(report) and not overwrite:
        raise InputError(f"{report} exists already: use --overwrite or another name")


def _real(path: Path) -> Path:
    """The entry that writing to ``path`` replaces: links in its folders followed, the last name as it is."""
    return Path(os.path.realpath(path.parent)) / path.name


def _sources(items: Iterable[Item]) -> set[Path]:
    """The inputs, and what those that are links lead to."""
    return {place for item in items for place in (_real(item.path), Path(os.path.realpath(item.path)))}


def write_report(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line; what of a file's name is no Unicode is escaped. Raises InputError if it cannot be."""
    with atomic(path) as stream:
        for record in records:
            stream.write(
                json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
            )
