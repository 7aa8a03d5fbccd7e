"""What has to be built for a bundle on this machine, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.bundle import Bundle, GraphSpec
from runtime.engines.build import Tuning
from runtime.engines.cache import EngineCache, Entry, digest
from runtime.engines.gpu import GpuFacts, find_gpu
from runtime.engines.library import Library, open_library
from runtime.engines.profiles import BATCHES, Profile, batch_classes, profiles, written
from textsr.errors import DeviceError, InputError

PRECISIONS = ("fp32", "fp16")
State = Literal["ready", "missing", "stale", "damaged"]
PORTABLE = frozenset({(8, 0), (8, 6), (8, 9), (12, 0), (12, 1)})
"""Compute capabilities that TensorRT-RTX's engines are for by default, as its documentation lists them ("8.0, 8.6, 8.9,
12.0, and later") and its ``ComputeCapability`` names them. 7.5 has to be asked for; 9.0 (Hopper) and 10.x are not
named, so for these an engine is built on the machine itself and the library has the last word."""
TURING = (7, 5)
NOWHERE = "none"
"""In the key of an engine that was built without regard to a GPU."""
_GRAPH_PARTS = {"graph_sha256": "graph", "weights_sha256": "weights"}


@dataclass(frozen=True)
class Settings:
    """What is asked of the engines.

    ``precision``: fp32, or fp16, the typed half graphs of the bundle.
    ``batches``: batch classes, one profile each.
    """

    precision: str = "fp32"
    batches: tuple[int, ...] = BATCHES
    tf32: bool = False
    level: int = 3

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"unknown precision {self.precision!r}: choose one of {', '.join(PRECISIONS)}")
        if self.level not in range(6):
            raise InputError(f"builder level {self.level}: choose 0 (fast to build) to 5 (fast to run)")
        object.__setattr__(self, "batches", batch_classes(self.batches))


@dataclass(frozen=True)
class Target:
    """Where engines are for: a library, and a GPU or None for any that the library calls portable."""

    library: Library
    gpu: GpuFacts | None

    @classmethod
    def here(cls, library: str | None = None, device: int = 0) -> Target:
        """The library that is installed (or named) and this machine's GPU.

        :raises DeviceError: no GPU, and the library is TensorRT, which times kernels on one.
        """
        return cls(open_library(library), find_gpu(device)).checked()

    def checked(self) -> Target:
        """Itself. Raises DeviceError where the library needs a GPU and there is none."""
        if self.gpu is None and not self.library.builds_without_gpu:
            raise DeviceError(
                f"{self.library.name} chooses kernels by timing them on a GPU and finds none: run it on the machine "
                "that is to use the engines, or build portable ones with tensorrt-rtx"
            )
        return self

    def words(self) -> dict[str, str]:
        """The target's part of a key."""
        gpu = self.gpu
        return {
            "library": self.library.name,
            "version": self.library.version,
            "gpu": gpu.name if gpu else NOWHERE,
            "capability": f"{gpu.capability[0]}.{gpu.capability[1]}" if gpu else NOWHERE,
            "driver": gpu.driver if gpu else NOWHERE,
        }


@dataclass(frozen=True)
class PlannedEngine:
    """One graph's engine. ``reason`` says why it is not ready; ``size`` is in bytes, 0 where there is none yet."""

    graph: str
    onnx: Path
    profiles: tuple[Profile, ...]
    key: str
    parts: Mapping[str, str]
    state: State
    reason: str
    size: int
    replaces: frozenset[str] = frozenset()


@dataclass(frozen=True)
class EnginePlan:
    """Engines of a bundle, in the bundle's order."""

    bundle: Bundle
    target: Target
    settings: Settings
    cache: EngineCache
    engines: tuple[PlannedEngine, ...]

    @property
    def to_build(self) -> tuple[PlannedEngine, ...]:
        """Engines that are not ready."""
        return tuple(engine for engine in self.engines if engine.state != "ready")

    @property
    def tuning(self) -> Tuning:
        """What the builder is told."""
        turing = self.target.gpu is not None and self.target.gpu.capability == TURING
        return Tuning(self.settings.tf32, self.settings.level, turing)


def plan(
    bundle: Bundle,
    settings: Settings | None = None,
    target: Target | None = None,
    *,
    cache: EngineCache | None = None,
    graphs: Iterable[str] | None = None,
) -> EnginePlan:
    """Which engines are ready in the cache, and which have to be built. Writes nothing.

    :param graphs: names of graphs; None for all of the bundle.
    :raises InputError: unknown graph, or the bundle has no half graphs and ``settings`` ask for them.
    :raises EngineError: the library is not there, or the cache cannot be trusted.
    :raises DeviceError: TensorRT without a GPU.
    """
    settings = settings or Settings()
    target = (target or Target.here()).checked()
    cache = cache or EngineCache()
    names = tuple(graphs) if graphs is not None else tuple(bundle.graphs)
    unknown = [name for name in names if name not in bundle.graphs]
    if unknown:
        raise InputError(f"{bundle.path} has no graph {', '.join(unknown)}; it has {', '.join(bundle.graphs)}")
    entries = cache.entries()
    found = [_planned(bundle, bundle.graphs[name], settings, target, cache, entries) for name in names]
    return EnginePlan(bundle, target, settings, cache, tuple(found))


def graph_file(bundle: Bundle, graph: GraphSpec, precision: str) -> Path:
    """The ONNX file of a graph in this precision. Raises InputError where the bundle lacks it."""
    if precision == "fp32":
        return graph.path
    if graph.half is None:
        raise InputError(
            f"{bundle.path} has no half-precision graph {graph.name}: build the bundle with "
            "python -m export.build --precision fp16"
        )
    return graph.half


def _planned(
    bundle: Bundle,
    graph: GraphSpec,
    settings: Settings,
    target: Target,
    cache: EngineCache,
    entries: Mapping[str, Entry],
) -> PlannedEngine:
    onnx = graph_file(bundle, graph, settings.precision)
    shapes = profiles(graph, settings.batches)
    parts = {
        "kind": "engine",
        "preset": bundle.preset.name,
        "graph": graph.name,
        "graph_sha256": bundle.files[onnx.relative_to(bundle.path).as_posix()],
        "weights_sha256": _weights(bundle),
        "precision": settings.precision,
        "profiles": written(shapes),
        "tf32": str(settings.tf32),
        "level": str(settings.level),
        **target.words(),
    }
    key, state, reason = _state(parts, target, cache, entries)
    size = entries[key].size if key in entries and state == "ready" else 0
    old = frozenset() if state == "ready" else _outlived(parts, entries)
    return PlannedEngine(graph.name, onnx, shapes, key, parts, state, reason, size, old)


def _weights(bundle: Bundle) -> str:
    """One word for everything that a graph may read beside itself."""
    return digest({name: found for name, found in bundle.files.items() if not name.endswith(".onnx")})


def _state(
    parts: Mapping[str, str], target: Target, cache: EngineCache, entries: Mapping[str, Entry]
) -> tuple[str, State, str]:
    """The key of the entry that serves (or would), its state, and the reason."""
    key, portable = digest(parts), digest({**parts, "gpu": NOWHERE, "capability": NOWHERE, "driver": NOWHERE})
    gpu = target.gpu
    if gpu is not None and target.library.builds_without_gpu and gpu.capability in PORTABLE and key not in entries:
        key = portable if portable in entries else key
    if key in entries:
        problem = cache.problem(key)
        return (digest(parts), "damaged", problem) if problem else (key, "ready", "")
    others = [entry.parts for entry in entries.values() if _same(parts, entry.parts, ("kind", "preset", "graph"))]
    if not others:
        return key, "missing", "none in the cache"
    return key, "stale", "; ".join(_differences(parts, min(others, key=lambda other: len(_differing(parts, other)))))


def _same(parts: Mapping[str, str], other: Mapping[str, str], names: Iterable[str]) -> bool:
    return all(parts[name] == other.get(name) for name in names)


def _differing(parts: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return [name for name in parts if parts[name] != other.get(name)]


def _differences(parts: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """In words, against the closest engine of the same graph."""
    told = []
    for name in _differing(parts, other):
        if name in _GRAPH_PARTS:
            told.append(f"built from another {_GRAPH_PARTS[name]}")
        elif name == "profiles":
            told.append("built for other shapes")
        else:
            told.append(f"{name} was {other.get(name, 'not told')}, is {parts[name]}")
    return told


def _outlived(parts: Mapping[str, str], entries: Mapping[str, Entry]) -> frozenset[str]:
    """Entries that nothing can use any more once this one is built: only version, driver or capability differ."""
    moves = {"version", "driver", "capability"}
    same = [name for name in parts if name not in moves]
    return frozenset(key for key, entry in entries.items() if _same(parts, entry.parts, same))
