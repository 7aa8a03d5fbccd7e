"""Engines are code: only what this user alone can have written is read. For POSIX systems."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from textsr.errors import EngineError

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def trusted_folder(path: Path) -> Path:
    """``path`` with the links above it resolved; it, where it exists, and all above it must be safe from other users.

    :raises EngineError: the folder is a link, no folder, another user's, or others may write it; or a folder above it
        belongs to neither root nor this user, or lets others replace what is in it.
    """
    path = Path(os.path.realpath(path.parent)) / path.name
    for above in path.parents:
        _check_above(above)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return path
    if stat.S_ISLNK(found.st_mode):
        raise EngineError(f"engine cache {path} is a symbolic link: name the folder itself")
    if not stat.S_ISDIR(found.st_mode):
        raise EngineError(f"engine cache {path} is not a folder")
    _check_own(path, found)
    return path


def open_trusted(path: Path) -> BinaryIO:
    """Open a file to read. What was checked is what is read: the checks are on the open file, not on its name.

    :raises FileNotFoundError: there is none.
    :raises EngineError: it is a link or no plain file, another user's, or others may write it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = "is a symbolic link" if path.is_symlink() else f"cannot be opened ({error.strerror})"
        raise EngineError(f"{path} {reason}: it is not read") from error
    stream = os.fdopen(descriptor, "rb")
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise EngineError(f"{path} is no plain file: it is not read")
        _check_own(path, found)
    except EngineError:
        stream.close()
        raise
    return stream


def _check_own(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise EngineError(f"{path} belongs to user {found.st_uid}, not to this one ({os.geteuid()}): it is not used")
    if found.st_mode & _OTHERS:
        raise EngineError(f"{path} may be written by other users: run chmod go-w on it once you have emptied it")


def _check_above(path: Path) -> None:
    """A folder above the cache: whoever may write it could put another cache in place, unless it is sticky (/tmp)."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if found.st_uid not in (0, os.geteuid()):
        raise EngineError(f"{path}, above the engine cache, belongs to user {found.st_uid}: use another cache folder")
    if found.st_mode & _OTHERS and not found.st_mode & stat.S_ISVTX:
        raise EngineError(f"{path}, above the engine cache, may be written by other users: use another cache folder")
