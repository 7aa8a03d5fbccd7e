"""Files for their owner alone, that appear complete or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PARTIAL = ".partial-"
"""Begins the names of files that are being written. One left over by a killed process goes at the next write."""


def make_private(folder: Path) -> None:
    """Make the folder, and those above it that are missing, for the owner alone."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, data: memoryview) -> None:
    """Write ``data`` to ``path`` (mode 0600), replacing what is there in one step once it is on the disk."""
    descriptor, name = tempfile.mkstemp(prefix=PARTIAL, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written. Only with the folder's lock held."""
    for path in folder.glob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)
