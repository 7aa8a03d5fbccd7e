"""A bundle's folder on disk: built beside its target, swapped in whole, described by bundle.json."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from runtime.manifest import FORMAT, MANIFEST, sealed
from textsr.errors import InputError


def check_target(out: Path) -> None:
    """Raises InputError when ``out`` is there and is neither empty nor a bundle without foreign files."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out}: is a file; give a folder for the bundle")
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    if not found:
        return
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        known = {MANIFEST, *manifest["files"]} if manifest["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        known = None
    if known is None:
        raise InputError(f"{out}: holds files but is not a bundle, so it is not overwritten; give another --out")
    if found - known:
        foreign = min(found - known)
        raise InputError(f"{out}: holds {foreign}, which is not of its bundle; move it away or give another --out")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A fresh folder beside ``out`` that takes its place when the block ends well, and vanishes when it does not.

    :raises InputError: ``out`` must not be overwritten, see `check_target`.
    """
    out = out.resolve()
    check_target(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".unfinished", dir=out.parent))
    try:
        fresh, old = place / "new", place / "old"
        fresh.mkdir()
        yield fresh
        if out.exists():
            out.rename(old)
        try:
            fresh.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the folder but bundle.json, by name, sorted."""
    bar = tqdm(sorted(folder.iterdir()), desc="hash", unit="file", disable=None)
    return {path.name: digest(path) for path in bar if path.name != MANIFEST}


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write bundle.json with its digest. The order of keys is kept; numbers that JSON does not know are an error."""
    text = json.dumps(sealed(manifest), ensure_ascii=False, indent=1, allow_nan=False)
    unfinished = folder / f".{MANIFEST}"
    unfinished.write_text(text + "\n", encoding="utf-8")
    os.replace(unfinished, folder / MANIFEST)
