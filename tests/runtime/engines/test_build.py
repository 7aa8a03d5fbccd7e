"""Real parsing, building and serialising with tensorrt-rtx, which needs no GPU for it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle import Bundle
from runtime.engines import (
    CachedEngines,
    EngineCache,
    Library,
    Settings,
    Target,
    find_gpu,
    open_library,
    plan,
    prepare,
    refusal,
)  # fmt: skip
from runtime.engines.build import Tuning, build_engine
from runtime.engines.library import log_of
from runtime.engines.profiles import profiles
from runtime.engines.progress import Progress
from tests.runtime.engines.helpers import ADA, needs_rtx, write_graph
from textsr.errors import EngineError

pytestmark = needs_rtx
QUICK = ["text_condition", "recognizer_encoder", "recognizer_step", "text_step"]
"""Graphs that build within seconds."""


@pytest.fixture(scope="module")
def library() -> Library:
    return open_library("tensorrt-rtx")


def test_a_small_graph_with_external_weights(library: Library, bundle: Bundle) -> None:
    graph, progress = bundle.graphs["small"], Progress()
    built = build_engine(library, graph.path, profiles(graph), progress=progress)
    assert built.data.nbytes > 1000
    assert built.layers >= 2
    assert built.timing is None
    assert progress.share == pytest.approx(1.0)
    other = build_engine(library, graph.path, profiles(graph, (4,)))
    assert other.data.nbytes < built.data.nbytes, "one profile instead of three"


def test_building_for_turing(library: Library, bundle: Bundle) -> None:
    """The library has no float32 matrix products for Turing, and says so: the flag arrives."""
    graph = bundle.graphs["small"]
    with pytest.raises(EngineError, match=r"cannot build small\.onnx: .*'product' for Turing \(SM75\)"):
        build_engine(library, graph.path, profiles(graph), Tuning(turing=True))


def test_a_graph_with_an_unknown_operator_names_the_node(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    write_graph(path, "Relux")
    with pytest.raises(EngineError, match=r"odd\.onnx: node the_last_node \(Relux\): "):
        build_engine(library, path, [])


def test_missing_weights_and_no_graph_are_told(library: Library, tmp_path: Path) -> None:
    write_graph(tmp_path / "bare.onnx")
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(EngineError, match=r"weights\.safetensors"):
        build_engine(library, tmp_path / "bare.onnx", [])
    with pytest.raises(EngineError, match=r"none\.onnx"):
        build_engine(library, tmp_path / "none.onnx", [])


def test_a_graph_without_its_profile_is_told(library: Library, bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"cannot build small\.onnx: .*profile"):
        build_engine(library, bundle.graphs["small"].path, [])


def test_the_library_says_whether_it_runs_an_engine(
    library: Library, bundle: Bundle, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(library, b"no engine at all" * 10) == "MALFORMED_ENGINE"
    assert refusal(Library("tensorrt", "11.4.0", None), b"") == "", "it has no such check"
    if find_gpu() is None:
        source = CachedEngines(bundle, None, Target(library, ADA), cache=cache)
        with pytest.raises(EngineError, match=r"does not run engines on NVIDIA GeForce RTX 4090,8\.9,.*: it finds no"):
            source.serialized(bundle.graphs["small"])
        assert source.plan().to_build == (), "it was built all the same"
    told: list[Any] = [(library.module.EngineValidity.SUBOPTIMAL, 0), (library.module.EngineValidity.INVALID, 2)]

    class Runtime:
        def __init__(self, log: Any) -> None:
            pass

        def get_engine_validity(self, data: bytes) -> Any:
            return told.pop(0)

    monkeypatch.setattr(library.module, "Runtime", Runtime)
    assert [refusal(library, b""), refusal(library, b"")] == ["", "UNSUPPORTED_CC"]


def test_messages_go_to_logging(
    library: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    write_graph(tmp_path / "odd.onnx", "Relux")
    with caplog.at_level(logging.DEBUG, "runtime.engines.library"), pytest.raises(EngineError):
        build_engine(library, tmp_path / "odd.onnx", [])
    levels = {record.levelno for record in caplog.records}
    assert {logging.DEBUG, logging.ERROR} <= levels
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", QUICK)
def test_tinys_small_graphs_build_with_all_profiles(name: str, tiny_bundle: Path, cache: EngineCache) -> None:
    bundle, here = Bundle.open(tiny_bundle), Target.here("tensorrt-rtx")
    wanted = plan(bundle, Settings(), here, cache=cache, graphs=[name])
    found = prepare(wanted)[name]
    assert found.built
    assert found.size == len(found.read())
    assert found.layers > 20
    assert plan(bundle, Settings(), here, cache=cache, graphs=[name]).to_build == ()
    if here.gpu is None:
        there = Target(here.library, ADA)
        assert plan(bundle, Settings(), there, cache=cache, graphs=[name]).to_build == (), "portable"


def test_every_graph_of_tiny_and_compact_parses(library: Library, tiny_bundle: Path) -> None:
    trt = library.module
    log = log_of(library)
    for bundle in (Bundle.open(tiny_bundle), Bundle.open("compact")):
        for graph in bundle.graphs.values():
            network = trt.Builder(log).create_network(1)
            parser = trt.OnnxParser(network, log)
            assert parser.parse_from_file(str(graph.path)), f"{bundle.preset.name}: {graph.name}"
            names = [network.get_input(place).name for place in range(network.num_inputs)]
            assert names == [tensor.name for tensor in graph.inputs]
