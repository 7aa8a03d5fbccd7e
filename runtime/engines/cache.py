"""The engine cache: a folder of this user's with engines, the library's own caches, and a manifest of their hashes.

Nothing is given out whose SHA-256 the manifest does not hold, and nothing from a folder or file that others may write.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runtime.engines.trust import open_trusted, trusted_folder
from runtime.engines.writing import PARTIAL, make_private, sweep, write_private
from textsr.errors import EngineError

logger = logging.getLogger(__name__)

MANIFEST = "engines.json"
LOCK = ".lock"
FORMAT = 1
PATIENCE = 1800.0
"""Seconds to wait for another process that builds."""
_NAME = re.compile(r"[a-z0-9_-]{1,64}-[0-9a-f]{16}\.(engine|timing|kernels)")
_POLL = 0.05


@dataclass(frozen=True)
class Entry:
    """A file of the cache. ``parts`` are the plain words that its key was made of; ``facts`` what the build told."""

    file: str
    sha256: str
    size: int
    parts: Mapping[str, str]
    facts: Mapping[str, float] = field(default_factory=dict)


def digest(parts: Mapping[str, str]) -> str:
    """The cache's key for these parts: SHA-256 in hexadecimal."""
    return hashlib.sha256(json.dumps(dict(sorted(parts.items()))).encode()).hexdigest()


def default_folder() -> Path:
    """``$TEXTSR_CACHE/engines``, else ``textsr/engines`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    own, xdg = os.environ.get("TEXTSR_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own).expanduser().absolute() / "engines"
    return (Path(xdg) if xdg else Path.home() / ".cache").absolute() / "textsr" / "engines"


class EngineCache:
    """The cache in ``folder``. Reading makes nothing; the folder appears, for its owner alone, at the first write."""

    def __init__(self, folder: Path | str | None = None, patience: float = PATIENCE) -> None:
        """Raises EngineError where other users could have written the folder."""
        self.folder = trusted_folder(Path(folder).absolute() if folder is not None else default_folder())
        self.patience = patience

    def entries(self) -> dict[str, Entry]:
        """What the manifest holds, by key; nothing where there is no manifest yet.

        :raises EngineError: the folder or the manifest is not this user's alone, or the manifest is damaged.
        """
        trusted_folder(self.folder)
        path = self.folder / MANIFEST
        try:
            with open_trusted(path) as stream:
                manifest = json.load(stream)
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise EngineError(f"{path} is damaged ({error}): remove {self.folder}, engines are built again") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise EngineError(f"{path} is not of format {FORMAT}: remove {self.folder}, engines are built again")
        return {str(key): _entry(path, value) for key, value in manifest["entries"].items()}

    def problem(self, key: str) -> str:
        """Why the entry ``key`` cannot be used; empty where it can. Reads the whole file to hash it."""
        try:
            self.read(key)
        except EngineError as error:
            return str(error)
        return ""

    def read(self, key: str) -> bytes:
        """The bytes of entry ``key``, hashed as they were read, so that they are what the manifest says.

        :raises EngineError: there is no such entry, its file is missing, changed, or not this user's alone.
        """
        entry = self.entries().get(key)
        if entry is None:
            raise EngineError(f"{self.folder / MANIFEST} knows no {key[:16]}")
        path = self.folder / entry.file
        try:
            with open_trusted(path) as stream:
                data = stream.read()
        except FileNotFoundError as error:
            raise EngineError(f"{path} is missing") from error
        found = hashlib.sha256(data).hexdigest()
        if found != entry.sha256:
            raise EngineError(f"{path} has SHA-256 {found[:12]}..., our manifest says {entry.sha256[:12]}...: not read")
        return data

    def strangers(self) -> tuple[str, ...]:
        """Names in the folder that the manifest does not hold: never read, never removed."""
        if not self.folder.is_dir():
            return ()
        known = {MANIFEST, LOCK, *(entry.file for entry in self.entries().values())}
        names = (path.name for path in self.folder.iterdir())
        return tuple(sorted(name for name in names if name not in known and not name.startswith(PARTIAL)))

    @contextmanager
    def lock(self) -> Iterator[CacheWriter]:
        """Hold the cache against all other processes and threads; the kernel lets go of it if this process dies.

        :raises EngineError: the lock was not to be had within ``patience`` seconds.
        """
        trusted_folder(self.folder)
        make_private(self.folder)
        trusted_folder(self.folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.folder / LOCK, flags, 0o600)
        try:
            self._wait(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            sweep(self.folder)
            yield CacheWriter(self)
        finally:
            os.close(descriptor)

    def _wait(self, descriptor: int) -> None:
        end, told = time.monotonic() + self.patience, False
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
            if time.monotonic() >= end:
                raise EngineError(
                    f"{self.folder} is locked by process {holder} for more than {self.patience:g} s: "
                    "wait for it or end it"
                )
            if not told:
                logger.warning("%s: waiting for process %s, which builds engines there", self.folder, holder)
                told = True
            time.sleep(_POLL)


class CacheWriter:
    """Changes a cache while its lock is held."""

    def __init__(self, cache: EngineCache) -> None:
        self._cache = cache

    def write(
        self, kind: str, name: str, parts: Mapping[str, str], data: Any, facts: Mapping[str, float] | None = None
    ) -> str:
        """Store ``data`` under the key of ``parts``, which is given back. File first, manifest second, both at once.

        :param kind: engine, timing (TensorRT's times) or kernels (what TensorRT-RTX compiled).
        :param name: begins the file's name: lower-case letters, digits, - and _.
        """
        key = digest(parts)
        view = memoryview(data).cast("B")
        entry = Entry(
            f"{name}-{key[:16]}.{kind}", hashlib.sha256(view).hexdigest(), view.nbytes, dict(parts), dict(facts or {})
        )
        _entry(self._cache.folder / MANIFEST, asdict(entry))
        write_private(self._cache.folder / entry.file, view)
        self._save({**self._cache.entries(), key: entry})
        return key

    def remove(self, keys: set[str]) -> None:
        """Forget entries, then remove their files."""
        entries = self._cache.entries()
        self._save({key: entry for key, entry in entries.items() if key not in keys})
        for key in keys & entries.keys():
            (self._cache.folder / entries[key].file).unlink(missing_ok=True)

    def _save(self, entries: Mapping[str, Entry]) -> None:
        manifest = {"format": FORMAT, "entries": {key: asdict(entry) for key, entry in sorted(entries.items())}}
        write_private(self._cache.folder / MANIFEST, memoryview(json.dumps(manifest, indent=1).encode()))


def _entry(path: Path, value: Any) -> Entry:
    try:
        entry = Entry(**value)
        right = _NAME.fullmatch(entry.file) and len(entry.sha256) == 64 and entry.size >= 0
        words = isinstance(entry.parts, dict) and all(isinstance(part, str) for part in entry.parts.values())
    except TypeError as error:
        raise EngineError(f"{path} is damaged ({error}): remove {path.parent}, engines are built again") from error
    if not right or not words:
        raise EngineError(f"{path} is damaged (entry {entry.file!r}): remove {path.parent}, engines are built again")
    return entry
