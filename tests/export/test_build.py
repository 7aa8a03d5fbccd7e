"""Bundles of the tiny preset: weights once, hashes, repeatability, precision, refusals."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from safetensors.numpy import load_file

import export.build
import export.lines
from export.build import GRAPH_LIMIT, build_bundle, main, write_graphs
from export.parity import measure
from export.trace import TracedGraph, trace
from export.weights import WEIGHTS, inline_bytes, layout
from runtime.bundle import Bundle
from tests.export.helpers import traced_graphs
from textsr.checkpoint import load_model, read_metadata, state
from textsr.config import TINY
from textsr.errors import BundleError, EngineError, InputError
from textsr.graphs import Model, example_inputs, graphs

Traced = Mapping[str, TracedGraph]


@pytest.fixture(scope="module")
def traced(tiny_bundle: Path) -> Traced:
    return traced_graphs(tiny_bundle)


@pytest.fixture
def quick_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of the loop instead of all: tests/parity runs all."""
    monkeypatch.setattr(export.build, "measure", partial(measure, steps=2))


@pytest.fixture(scope="module")
def half_bundle(traced: Traced, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("half") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.build, "measure", partial(measure, steps=2))
        patch.setitem(export.lines.STEPS, "tiny", 2)
        patch.setitem(export.lines.LINES, "tiny", 1)
        return build_bundle(preset="tiny", checkpoint=None, out=out, precision="fp16", traced=traced)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_bundle_opens_and_its_hashes_hold(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert set(bundle.graphs) == set(graphs(model()))
    assert bundle.files == {path.name: digest(path) for path in tiny_bundle.iterdir() if path.name != "bundle.json"}
    assert bundle.recognizer == "transocr"
    assert len(bundle.manifest["recognizer_symbols"]) == 95
    assert bundle.provenance["licence"] == "Apache-2.0"
    assert bundle.provenance["weights"] == "random"
    assert bundle.manifest["parity"]["bound"] == 1e-4


def model() -> Model:
    found = load_model(None, TINY)
    assert isinstance(found, Model)
    return found


def test_graphs_have_the_names_shapes_and_types_of_the_modules(tiny_bundle: Path) -> None:
    bundle, modules = Bundle.open(tiny_bundle), graphs(model())
    for name, spec in bundle.graphs.items():
        assert tuple(tensor.name for tensor in spec.inputs) == modules[name].inputs
        assert tuple(tensor.name for tensor in spec.outputs) == modules[name].outputs
        assert all((tensor.shape[0] == "B") == ("time_condition" not in name) for tensor in spec.outputs)
    step = {tensor.name: (tensor.shape, tensor.dtype) for tensor in bundle.graphs["unet_step"].inputs}
    assert step["z_t"] == (("B", 4, 32, 128), "float32")
    assert step["constants"] == ((6,), "float32")
    assert step["z_y"] == step["z_t"]
    prefix = bundle.graphs["recognizer_step"].inputs[1]
    assert (prefix.name, prefix.shape, prefix.dtype) == ("prefix", ("B", "L"), "int64")


def test_weights_are_stored_once_and_no_graph_holds_any(tiny_bundle: Path) -> None:
    stored, used = layout(tiny_bundle / WEIGHTS), set[str]()
    for path in tiny_bundle.glob("*.onnx"):
        assert inline_bytes(onnx.load(path, load_external_data=False)) < GRAPH_LIMIT
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            if tensor.data_location != TensorProto.EXTERNAL:
                continue
            place = {entry.key: entry.value for entry in tensor.external_data}
            expected = stored[tensor.name]
            assert place == {"location": WEIGHTS, "offset": str(expected.offset), "length": str(expected.length)}
            assert tuple(tensor.dims) == expected.shape
            used.add(tensor.name)
    unused = [name for name in set(stored) - used if "compress_attention_linear" not in name]
    assert unused == [], "only what the published recogniser has and never uses"
    assert {"vqgan.quantize.embedding.weight", "glyph_canvas.atlas", "mom.first_embeder.weight"} <= used


def test_graphs_hold_no_paths_or_stack_traces(tiny_bundle: Path) -> None:
    for path in (*tiny_bundle.glob("*.onnx"), tiny_bundle / "bundle.json"):
        content = path.read_bytes()
        assert b".py" not in content, path.name
        assert str(Path.cwd()).encode() not in content


def test_the_bundle_is_the_checkpoint(tiny_bundle: Path) -> None:
    read = state(load_model(tiny_bundle / WEIGHTS, TINY))
    for name, tensor in state(model()).items():
        np.testing.assert_array_equal(tensor.numpy(), read[name].numpy(), err_msg=name)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_parity")
def test_one_seed_gives_one_bundle(traced: Traced, tiny_bundle: Path, tmp_path: Path) -> None:
    again = Bundle.open(build_bundle(preset="tiny", checkpoint=None, out=tmp_path / "again", traced=traced))
    assert again.files == Bundle.open(tiny_bundle).files
    other = Bundle.open(build_bundle(preset="tiny", checkpoint=None, out=tmp_path / "again", seed=1, traced=traced))
    assert other.files[WEIGHTS] != again.files[WEIGHTS]
    assert sorted(tmp_path.iterdir()) == [tmp_path / "again"]


def test_tracing_is_repeatable(traced: Traced) -> None:
    whole = model()
    again = trace(
        "text_condition", graphs(whole)["text_condition"], example_inputs(whole, "text_condition"), state(whole)
    )
    assert again.weights == traced["text_condition"].weights
    assert again.model.SerializeToString(deterministic=True) == traced["text_condition"].model.SerializeToString(
        deterministic=True
    )


def test_fp16_halves_the_weights_and_computes_in_float32(tiny_bundle: Path, half_bundle: Path) -> None:
    full, half = load_file(tiny_bundle / WEIGHTS), load_file(half_bundle / WEIGHTS)
    assert full.keys() == half.keys()
    for name, tensor in full.items():
        expected = np.float16 if tensor.dtype == np.float32 else tensor.dtype
        assert half[name].dtype == expected
        np.testing.assert_array_equal(half[name], tensor.astype(expected))
    bundle = Bundle.open(half_bundle)
    assert bundle.precision == "fp16"
    assert bundle.manifest["precision_policy"]["arithmetic"] == "float32"
    assert bundle.graphs["unet_step"].outputs == Bundle.open(tiny_bundle).graphs["unet_step"].outputs


@pytest.mark.usefixtures("quick_parity")
def test_a_checkpoint_keeps_its_provenance(traced: Traced, half_bundle: Path, tmp_path: Path) -> None:
    from textsr.checkpoint import save_model

    words = {"licence": "Apache-2.0", "training": json.dumps({"minutes": 3, "device": "cpu"})}
    save_model(model(), tmp_path / "trained.safetensors", words)
    out = build_bundle(preset="tiny", checkpoint=tmp_path / "trained.safetensors", out=tmp_path / "b", traced=traced)
    assert Bundle.open(out).provenance["training"] == {"minutes": 3, "device": "cpu"}
    assert read_metadata(out / WEIGHTS)["training"] == words["training"]


@pytest.mark.parametrize("graph", ["vqgan_encoder", "unet_step"])
def test_a_changed_weight_fails_parity_and_names_the_graph(
    graph: str, traced: Traced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = {"vqgan_encoder": "vqgan.encoder.conv_in.weight", "unet_step": "unet.input_blocks.0.0.weight"}[graph]

    def write_and_change(folder: Path, *arguments: Any) -> dict[str, dict[str, Any]]:
        specs = write_graphs(folder, *arguments)
        place = layout(folder / WEIGHTS)[weight]
        with (folder / WEIGHTS).open("r+b") as stream:
            stream.seek(place.offset)
            stream.write(np.float32(3.0).tobytes())
        return specs

    monkeypatch.setattr(export.build, "write_graphs", write_and_change)
    monkeypatch.setattr(export.build, "measure", partial(measure, steps=1))
    named = {"vqgan_encoder": "(vqgan|painted)_encoder"}.get(graph, graph)  # both have the weight
    with pytest.raises(EngineError, match=rf"graph {named}, output \w+ \(batch 1\): relative error"):
        build_bundle(preset="tiny", checkpoint=None, out=tmp_path / "broken", traced=traced)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_build_leaves_the_old_bundle(
    traced: Traced, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    monkeypatch.setattr(export.build, "GRAPH_LIMIT", 1000)
    with pytest.raises(EngineError, match="it holds weights"):
        build_bundle(preset="tiny", checkpoint=None, out=old, seed=5, traced=traced)
    assert Bundle.open(old).files == Bundle.open(tiny_bundle).files
    assert list(tmp_path.iterdir()) == [old]


def test_what_is_not_a_bundle_is_not_overwritten(tiny_bundle: Path, tmp_path: Path, traced: Traced) -> None:
    build = partial(build_bundle, preset="tiny", checkpoint=None, traced=traced)
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(InputError, match="not a bundle"):
        build(out=tmp_path)
    with pytest.raises(InputError, match="is a file"):
        build(out=tmp_path / "notes.txt")
    mixed = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (mixed / "mine.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"mine\.png"):
        build(out=mixed)
    assert (tmp_path / "notes.txt").read_text() == "keep me"


def test_bad_arguments_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="unknown preset"):
        build_bundle(preset="huge", checkpoint=None, out=tmp_path / "out")
    with pytest.raises(InputError, match="unknown precision"):
        build_bundle(preset="tiny", checkpoint=None, out=tmp_path / "out", precision="int8")
    with pytest.raises(InputError, match="paper needs --checkpoint"):
        build_bundle(preset="paper", checkpoint=None, out=tmp_path / "out")
    (tmp_path / "torn.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(BundleError, match=r"torn\.safetensors"):
        build_bundle(preset="tiny", checkpoint=tmp_path / "torn.safetensors", out=tmp_path / "out")
    assert main(["--preset", "tiny", "--checkpoint", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "none" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
