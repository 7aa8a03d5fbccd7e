"""Files that others give and files that we leave: read once and within bounds, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO

from textsr.errors import InputError

_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """The file at ``path`` to be read. What is checked is what was opened, so it cannot be swapped in between.

    :raises OSError: it is not there or may not be read; it is a folder, a device or a pipe (a pipe is not waited for);
        no file can have this name.
    """
    try:
        number = os.open(path, _OPEN)
    except ValueError as error:  # a NUL, or half a surrogate pair
        raise OSError(errno.EINVAL, "no file can have this name") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "this is no file")
    with open(number, "rb") as stream:
        yield stream


def require_regular(path: Path) -> None:
    """Raises OSError as `open_regular` does, for readers that open a path themselves and would wait for a pipe."""
    with open_regular(path):
        pass


def read_regular(path: Path, most: int) -> bytes:
    """All bytes of a file of at most ``most`` bytes, in one reading. Raises OSError as `open_regular` does, and where
    there are more."""
    with open_regular(path) as stream:
        fits = os.fstat(stream.fileno()).st_size <= most
        data = stream.read(most + 1) if fits else b""
    if not fits or len(data) > most:  # or it has grown meanwhile
        raise OSError(errno.EFBIG, f"it has more than {most} bytes")
    return data


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears at ``path`` only once it is written whole: temporary name in the same folder, then rename.

    :raises InputError: the folder cannot be made or written to.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
