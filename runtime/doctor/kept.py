"""The bundle and the engine cache, as they are found on disk. Nothing is made or changed."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from runtime.bundle import Bundle
from textsr.errors import BundleError, EngineError


@dataclass(frozen=True)
class BundleFound:
    """A bundle. ``weights`` is the precision that its weights are stored in; ``half`` counts graphs typed in half.

    ``problem`` says why it cannot be used; then ``verified`` is False and all but ``path`` is empty. ``bytes`` are
    those of all its files, hashed where ``verified``.
    """

    path: str
    preset: str = ""
    weights: str = ""
    recognizer: str | None = None
    graphs: tuple[str, ...] = ()
    half: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    verified: bool = False
    problem: str = ""

    @property
    def all_half(self) -> bool:
        """Whether every graph is there in half precision, so that fp16 executors can be used."""
        return bool(self.graphs) and set(self.graphs) == set(self.half)


def find_bundle(path_or_name: str | Path) -> tuple[BundleFound, Bundle | None]:
    """The bundle, opened with every file hashed; None where it cannot be opened."""
    try:
        bundle = Bundle.open(path_or_name)
    except BundleError as error:
        return BundleFound(str(path_or_name), problem=str(error)), None
    half = tuple(name for name, graph in bundle.graphs.items() if graph.half is not None)
    size = sum((bundle.path / name).stat().st_size for name in bundle.files)
    found = BundleFound(
        str(bundle.path), bundle.preset.name, bundle.precision, bundle.recognizer, tuple(bundle.graphs), half,
        len(bundle.files), size, True,
    )  # fmt: skip
    return found, bundle


@dataclass(frozen=True)
class CacheFound:
    """The engine cache. ``mode`` is its permissions in octal, empty where it is not there yet; ``engines`` counts all,
    of whatever bundle; ``strangers`` are files in it that are not ours. ``problem`` says why it is not used.
    """

    folder: str
    mode: str = ""
    engines: int = 0
    bytes: int = 0
    strangers: tuple[str, ...] = ()
    problem: str = ""


def find_cache() -> CacheFound:
    """The default engine cache, with what its own checks say of it."""
    try:
        engines: Any = import_module("runtime.engines.cache")
    except ImportError as error:  # fcntl is missing on Windows
        return CacheFound("", problem=f"engines cannot be kept on this system ({error})")
    folder: Path = engines.default_folder()
    mode = ""
    try:
        mode = f"{stat.S_IMODE(folder.lstat().st_mode):o}"
        cache = engines.EngineCache()
        entries = cache.entries().values()
        strangers = cache.strangers()
    except FileNotFoundError:
        return CacheFound(str(folder), problem=_untrusted(engines))
    except (EngineError, OSError) as error:
        return CacheFound(str(folder), mode, problem=str(error))
    ours = [entry for entry in entries if entry.parts.get("kind") == "engine"]
    return CacheFound(str(folder), mode, len(ours), sum(entry.size for entry in ours), strangers)


def _untrusted(engines: Any) -> str:
    """Why a cache that is not there yet would be refused: what lies above it."""
    try:
        engines.EngineCache()
    except (EngineError, OSError) as error:
        return str(error)
    return ""
