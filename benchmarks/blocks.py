"""Generated parts of Markdown: what stands between ``<!-- name -->`` and ``<!-- /name -->`` in README.md and docs/.

A benchmark gives each of its parts as text by file; ``--readme`` writes them, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from textsr.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results.md"
TRUST = ROOT / "docs" / "trust.md"


def counted(count: int, noun: str) -> str:
    """``1 step``, ``4 steps``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def put(text: str, name: str, made: str) -> str:
    """``text`` with ``made`` between its marks.

    :raises InputError: where ``text`` has no such marks.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise InputError(f"no {begin} and {end} to put the figures between")
    return f"{before}{begin}\n{made.strip()}\n{end}{after}"


def write(name: str, parts: Mapping[Path, str]) -> None:
    """Makes the part ``name`` of each file anew.

    :raises InputError: where a file is not there or has no such marks; then none is written.
    """
    made = {path: put(_read(path), name, text) for path, text in parts.items()}
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")


def stale(name: str, parts: Mapping[Path, str]) -> list[Path]:
    """The files whose part ``name`` says something else.

    :raises InputError: where a file is not there or has no such marks.
    """
    return [path for path, text in parts.items() if put(_read(path), name, text) != _read(path)]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
