"""LMDB files open for reading: once a process each, and never across a fork.

LMDB forbids to open a file twice in one process and to use in a child what its parent opened. So all data sets share
the open files, and all are closed just before a fork: parent and child open them again when they next read.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import lmdb

from textsr.errors import InputError

_LOCK = threading.RLock()
_OPEN: dict[str, lmdb.Environment] = {}


def read(folder: Path, key: str) -> bytes | None:
    """The value of ``key`` in the LMDB in ``folder``; None: no such key. Raises InputError where it cannot be read."""
    try:
        with _LOCK, _environment(folder).begin() as transaction:
            found = transaction.get(key.encode())
            return None if found is None else bytes(found)
    except lmdb.Error as error:
        raise InputError(f"{folder}: the LMDB cannot be read: {error}") from error


def _environment(folder: Path) -> lmdb.Environment:
    name = os.path.realpath(folder)
    if name not in _OPEN:
        opened = lmdb.open(name, readonly=True, lock=False, readahead=False, max_spare_txns=4)
        whole = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
        there = os.path.getsize(os.path.join(name, "data.mdb"))
        if there < whole:  # a page that is not there would end the process, without an exception
            opened.close()
            raise InputError(f"{folder}: data.mdb is cut short: {there} of {whole} bytes; fetch it again")
        _OPEN[name] = opened
    return _OPEN[name]


def _before_fork() -> None:
    _LOCK.acquire()  # no thread reads while the files are closed
    for environment in _OPEN.values():
        environment.close()
    _OPEN.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_before_fork, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
