"""Engines for a bundle, taken from the cache or built."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from tqdm import tqdm

from runtime.bundle import file_sha256
from runtime.engines.build import build_engine
from runtime.engines.cache import EngineCache, digest
from runtime.engines.planning import EnginePlan, PlannedEngine, plan
from runtime.engines.progress import Progress
from textsr.errors import BundleError, EngineError, InputError

logger = logging.getLogger(__name__)

OnMismatch = Literal["rebuild", "refuse"]
KERNELS_PATIENCE = 10.0
"""Seconds that a program which is about to end waits for others to store its kernels."""


@dataclass(frozen=True)
class ReadyEngine:
    """An engine in the cache, of ``size`` bytes.

    ``batches`` are its batch classes, one profile each, in the profiles' order. ``layers`` and ``seconds`` (of the
    build) are 0 where the manifest does not tell.
    """

    graph: str
    key: str
    batches: tuple[int, ...]
    size: int
    layers: int
    seconds: float
    built: bool
    cache: EngineCache

    def read(self) -> bytes:
        """The serialised engine, proven by its hash to be what this user built; what alone may be deserialised.

        :raises EngineError: the file has changed since, is missing, or could have been written by others.
        """
        return self.cache.read(self.key)


def prepare(wanted: EnginePlan, *, on_mismatch: OnMismatch = "rebuild") -> Mapping[str, ReadyEngine]:
    """Build what a plan lacks; every engine of the plan by graph name.

    :param on_mismatch: what to do about engines that are missing, stale or damaged: ``rebuild`` them, or ``refuse``,
        which builds nothing and tells each one's reason.
    :raises EngineError: refused; a graph cannot be built; the cache is locked for too long or cannot be trusted.
    :raises BundleError: a file of the bundle is no longer what the bundle says.
    """
    if on_mismatch not in ("rebuild", "refuse"):
        raise InputError(f"on_mismatch {on_mismatch!r}: choose rebuild or refuse")
    if wanted.to_build and on_mismatch == "refuse":
        reasons = "; ".join(f"{engine.graph} is {engine.state}: {engine.reason}" for engine in wanted.to_build)
        raise EngineError(f"engines of {wanted.bundle.path} are not ready ({reasons}); run python -m export.engines")
    if wanted.to_build:
        _prove(wanted)
    ready = {}
    for engine in tqdm(wanted.engines, desc="engines", unit="engine", disable=None if wanted.to_build else True):
        ready[engine.graph] = _ready(wanted, engine, False) if engine.state == "ready" else _made(wanted, engine)
    return MappingProxyType(ready)


def _prove(wanted: EnginePlan) -> None:
    """The files that are about to be read must be those whose hashes are in the keys."""
    bundle = wanted.bundle
    graphs = {engine.onnx for engine in wanted.to_build}
    for name, expected in bundle.files.items():
        path = bundle.path / name
        if name.endswith(".onnx") and path not in graphs:
            continue
        if file_sha256(path) != expected.lower():
            raise BundleError(f"{path}: has changed since the bundle was opened: open it again")


def _made(wanted: EnginePlan, engine: PlannedEngine) -> ReadyEngine:
    """Build one engine with the cache locked, unless another process has built it meanwhile."""
    target, cache = wanted.target, wanted.cache
    with cache.lock() as writer:
        again = plan(wanted.bundle, wanted.settings, target, cache=cache, graphs=[engine.graph]).engines[0]
        if again.state == "ready":
            return _ready(wanted, again, False)
        times = _timing_parts(wanted)
        with _bar(engine) as bar:
            built = build_engine(
                target.library, engine.onnx, engine.profiles, wanted.tuning,
                timing=_timing(wanted, times), progress=Progress(bar),
            )  # fmt: skip
        facts = {"layers": built.layers, "seconds": round(built.seconds, 2)}
        name = f"{wanted.bundle.preset.name}-{engine.graph}-{wanted.settings.precision}"
        key = writer.write("engine", name, engine.parts, built.data, facts)
        if built.timing is not None:
            writer.write("timing", "times", times, built.timing)
        writer.remove(set(again.replaces) - {key})
    logger.info("%s: %d layers, %.1f s, %d bytes", name, built.layers, built.seconds, built.data.nbytes)
    return _ready(wanted, replace(engine, key=key), True)


def _ready(wanted: EnginePlan, engine: PlannedEngine, built: bool) -> ReadyEngine:
    entry = wanted.cache.entries()[engine.key]
    return ReadyEngine(
        engine.graph, engine.key, wanted.settings.batches, entry.size, int(entry.facts.get("layers", 0)),
        float(entry.facts.get("seconds", 0)), built, wanted.cache,
    )  # fmt: skip


def _timing_parts(wanted: EnginePlan) -> dict[str, str]:
    return {"kind": "timing", **wanted.target.words()}


def _timing(wanted: EnginePlan, parts: Mapping[str, str]) -> bytes:
    """The timing cache for this library and GPU; empty where there is none that can be trusted."""
    key = digest(parts)
    if not wanted.target.library.has_timing_cache or key not in wanted.cache.entries():
        return b""
    problem = wanted.cache.problem(key)
    if problem:
        logger.warning("timing cache not used: %s", problem)
        return b""
    return wanted.cache.read(key)


def _bar(engine: PlannedEngine) -> tqdm[Any]:
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}"
    return tqdm(total=1.0, desc=engine.graph, bar_format=form, leave=False, disable=None)


def kernels_parts(wanted: EnginePlan) -> dict[str, str]:
    """Key of the kernels that TensorRT-RTX compiled for this GPU while it ran a bundle's engines."""
    bundle, words = wanted.bundle, wanted.target.words()
    return {"kind": "kernels", "preset": bundle.preset.name, "precision": wanted.settings.precision, **words}


def read_kernels(wanted: EnginePlan) -> bytes:
    """What `keep_kernels` stored, for ``IRuntimeCache.deserialize``; empty where there is nothing, or not trusted."""
    key = digest(kernels_parts(wanted))
    if key not in wanted.cache.entries():
        return b""
    problem = wanted.cache.problem(key)
    if problem:
        logger.warning("kernel cache not used: %s", problem)
        return b""
    return wanted.cache.read(key)


def keep_kernels(wanted: EnginePlan, data: bytes | memoryview) -> None:
    """Store ``IRuntimeCache.serialize()`` of this GPU, so that the next start compiles nothing.

    :raises EngineError: the cache is locked for `KERNELS_PATIENCE`, or cannot be trusted.
    """
    with EngineCache(wanted.cache.folder, patience=KERNELS_PATIENCE).lock() as writer:
        writer.write("kernels", f"{wanted.bundle.preset.name}-{wanted.settings.precision}", kernels_parts(wanted), data)
