"""A bundle of one small graph, a library that is not there, and a builder that takes no time."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import runtime.engines.preparing
from runtime.bundle import Bundle, GraphSpec, TensorSpec
from runtime.engines import EngineCache, GpuFacts, Library, Settings, Target, plan
from runtime.engines.build import Built
from textsr.alphabet import Alphabet
from textsr.config import TINY

WEIGHTS = "weights.safetensors"
WIDTH = 8
RTX = Library("tensorrt-rtx", "1.7.1.116", None)
TENSORRT = Library("tensorrt", "11.4.0.106", None)
HERE_RTX = Target(RTX, None)
ADA = GpuFacts("NVIDIA GeForce RTX 4090", (8, 9), "580.95.05 (CUDA 13.0)")
HOPPER = GpuFacts("NVIDIA H100 80GB HBM3", (9, 0), "580.95.05 (CUDA 13.0)")

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed (extra [tensorrt])"
)


def write_graph(path: Path, operator: str = "Relu") -> None:
    """y = operator(x @ w), with w as external data in `WEIGHTS` beside it."""
    weight = np.linspace(-1, 1, WIDTH * WIDTH, dtype=np.float32)
    (path.parent / WEIGHTS).write_bytes(weight.tobytes())
    stored = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
    stored.data_location = TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", "0"), ("length", str(weight.nbytes))):
        stored.external_data.add(key=key, value=value)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], name="product")]
    nodes.append(helper.make_node(operator, ["h"], ["y"], name="the_last_node"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", WIDTH]) for name in "xy"]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], [stored])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())


def small_bundle(folder: Path, *names: str) -> Bundle:
    """A bundle without a manifest that has the graphs ``names`` (default: ``small``), all alike."""
    folder.mkdir(exist_ok=True)
    x, y = (TensorSpec(name, ("B", WIDTH), "float32") for name in "xy")
    graphs = {name: GraphSpec(name, folder / f"{name}.onnx", (x,), (y,)) for name in names or ("small",)}
    for graph in graphs.values():
        write_graph(graph.path)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    return Bundle(folder, TINY, Alphabet.load(), graphs, None, "fp32", files, {}, {})


def rebuilt(bundle: Bundle, name: str) -> Bundle:
    """The bundle with another hash for the file ``name``, as after another export."""
    return replace(bundle, files={**bundle.files, name: "f" * 64})


class QuickBuilder:
    """Takes `build_engine`'s place: counts, and gives bytes that tell what was built."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.timings: list[bytes] = []
        self.before: Callable[[], Any] = lambda: None

    def __call__(self, library: Library, graph: Path, profiles: Sequence[Any], *_: Any, **options: Any) -> Built:
        self.before()
        self.built.append(graph.stem)
        self.timings.append(options["timing"])
        data = f"{library.name} {graph.stem} {len(self.built)}".encode() * 100
        times = options["timing"] + b"t" if library.has_timing_cache else None
        return Built(memoryview(data), 3, 0.25, times)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> QuickBuilder:
    builder = QuickBuilder()
    monkeypatch.setattr(runtime.engines.preparing, "build_engine", builder)
    return builder


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path / "bundle")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache", patience=5)


def planned(
    bundle: Bundle, cache: EngineCache, settings: Settings | None = None, target: Target | None = None
) -> tuple[Any, Any]:
    """The plan for a bundle of one graph and that graph's part of it."""
    wanted = plan(bundle, settings, target or Target(RTX, None), cache=cache)
    return wanted, wanted.engines[0]
