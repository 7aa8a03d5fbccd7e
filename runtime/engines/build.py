"""One ONNX graph to one serialised engine. The same code for TensorRT and TensorRT-RTX."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.engines.library import Library, log_of
from runtime.engines.profiles import Profile
from runtime.engines.progress import Progress, interruptible, monitor
from textsr.errors import EngineError

_BUILDING = threading.Lock()
"""Builds follow each other: two at once would only share the GPU whose kernels they time."""


@dataclass(frozen=True)
class Built:
    """``data`` is the serialised engine, ``timing`` the timing cache after the build (None: the library has none)."""

    data: memoryview
    layers: int
    seconds: float
    timing: bytes | None


@dataclass(frozen=True)
class Tuning:
    """How the builder chooses.

    ``tf32``: whether float32 products may round to 19 bits on the tensor cores; the library's default, not ours.
    ``level``: 0 (fastest to build) to 5 (fastest to run).
    ``turing``: for TensorRT-RTX, build for compute capability 7.5, which its portable engines leave out.
    """

    tf32: bool = False
    level: int = 3
    turing: bool = False


def build_engine(
    library: Library,
    graph: Path,
    profiles: Sequence[Profile],
    tuning: Tuning | None = None,
    *,
    timing: bytes = b"",
    progress: Progress | None = None,
) -> Built:
    """Parse ``graph`` with the weights beside it and build a strongly typed engine with ``profiles``.

    :param timing: what an earlier build left in ``Built.timing``; of use to TensorRT alone.
    :raises EngineError: the graph cannot be parsed (the message names its nodes) or built.
    """
    with _BUILDING:
        started, log, progress = time.perf_counter(), log_of(library), progress or Progress()
        log.failures.clear()
        builder = _builder(library, log)
        network, parser = _parsed(library, builder, graph, log)
        config = builder.create_builder_config()
        watch = monitor(library, progress)
        _configure(library, config, tuning or Tuning())
        config.progress_monitor = watch
        for profile in profiles:
            config.add_optimization_profile(_profile(builder, profile, graph))
        kept = _timing_cache(config, timing) if library.has_timing_cache else None
        with interruptible(progress):
            data = builder.build_serialized_network(network, config)
        if data is None:
            raise EngineError(f"{library.name} cannot build {graph.name}: {_told(log)}")
        layers = int(network.num_layers)
        del parser  # it owns the weights that the network points to: not before the build
        seconds = time.perf_counter() - started
        return Built(memoryview(data), layers, seconds, None if kept is None else bytes(kept.serialize()))


def _builder(library: Library, log: Any) -> Any:
    try:
        return library.module.Builder(log)
    except TypeError as error:  # what pybind11 makes of a null pointer
        raise EngineError(
            f"{library.name} {library.version} gives no builder: {_told(log)}. It needs a GPU and its driver, "
            "unless it is tensorrt-rtx"
        ) from error


def _parsed(library: Library, builder: Any, graph: Path, log: Any) -> tuple[Any, Any]:
    """The network, and the parser, which must outlive it."""
    flags = 1 << int(library.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = library.module.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        found = [_described(parser.get_error(number)) for number in range(parser.num_errors)]
        raise EngineError(f"{library.name} cannot read {graph}: {'; '.join([*found, *log.failures[:1]])}")
    return network, parser


def _described(error: Any) -> str:
    if error.node() < 0:
        return str(error.desc())
    return f"node {error.node_name() or error.node()} ({error.node_operator()}): {error.desc()}"


def _told(log: Any) -> str:
    return "; ".join(log.failures[:3]) or "it does not say why"


def _configure(library: Library, config: Any, tuning: Tuning) -> None:
    flag = library.module.BuilderFlag.TF32
    (config.set_flag if tuning.tf32 else config.clear_flag)(flag)
    config.builder_optimization_level = tuning.level
    if tuning.turing and library.builds_without_gpu:
        config.num_compute_capabilities = 1
        config.set_compute_capability(library.module.ComputeCapability.SM75, 0)


def _profile(builder: Any, profile: Profile, graph: Path) -> Any:
    made = builder.create_optimization_profile()
    for shapes in profile.inputs:
        try:
            made.set_shape(shapes.name, shapes.least, shapes.best, shapes.most)
        except ValueError as error:
            raise EngineError(f"{graph.name}, input {shapes.name}: profile refused ({error})") from error
    return made


def _timing_cache(config: Any, data: bytes) -> Any:
    """A timing cache in use by ``config``. One of another GPU or version is refused by the library: start afresh."""
    cache = config.create_timing_cache(data)
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache
