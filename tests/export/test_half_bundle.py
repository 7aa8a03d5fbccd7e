"""A tiny bundle in fp16: half graphs beside the others, proven, hashed, and read by what will run them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from PIL import Image

import export.build
import export.lines
import export.precision
from export.build import build_bundle
from export.emulate import emulated, open_plain, run_plain
from export.half import HALF, element_types, to_half
from export.halfreport import Budget, HalfReport, from_json
from export.lines import TEXTS, draw, drawn, pictures
from export.parity import measure
from export.report import relative_error
from export.source import Source, open_source
from export.weights import WEIGHTS, layout, round_weights
from runtime.bundle import Bundle
from runtime.executors.onnxruntime import OrtExecutor
from runtime.manifest import sealed
from tests.export.helpers import traced_graphs
from textsr.alphabet import Alphabet
from textsr.checkpoint import state
from textsr.config import TINY
from textsr.errors import BundleError, EngineError, InputError
from textsr.graphs import example_inputs
from textsr.loop import restore

Build = Callable[..., Path]


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source(TINY, None, 0)


@pytest.fixture(scope="module")
def build(tiny_bundle: Path) -> Build:
    """Builds tiny in fp16, measured on one line in two steps."""

    def run(out: Path, **options: Any) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export.build, "measure", partial(measure, steps=1))
            patch.setitem(export.lines.STEPS, "tiny", 2)
            patch.setitem(export.lines.LINES, "tiny", 1)
            given: dict[str, Any] = {"checkpoint": None, "traced": traced_graphs(tiny_bundle), **options}
            return build_bundle(preset="tiny", out=out, precision="fp16", **given)

    return run


@pytest.fixture(scope="module")
def folder(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("half") / "bundle")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return Bundle.open(folder)


@pytest.fixture(scope="module")
def report(bundle: Bundle) -> HalfReport:
    return from_json(bundle.manifest["half"])


def test_each_graph_has_a_half_graph_with_its_inputs_and_outputs(bundle: Bundle) -> None:
    for name, spec in bundle.graphs.items():
        assert spec.half == bundle.path / f"{name}.half.onnx"
        assert spec.half.name in bundle.files
        model = onnx.load(spec.half, load_external_data=False)
        kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
        for values, tensors in ((model.graph.input, spec.inputs), (model.graph.output, spec.outputs)):
            found = [(value.name, value.type.tensor_type.elem_type) for value in values]
            assert found == [(tensor.name, kinds[tensor.dtype]) for tensor in tensors]


def test_half_graphs_read_the_half_weights_as_they_are(bundle: Bundle) -> None:
    stored = layout(bundle.path / WEIGHTS)
    for spec in bundle.graphs.values():
        assert spec.half is not None
        onnx.checker.check_model(spec.half, full_check=True)
        model = onnx.load(spec.half, load_external_data=False)
        weights = {t.name: t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL}
        for name, tensor in weights.items():
            place = {entry.key: entry.value for entry in tensor.external_data}
            assert place["location"] == WEIGHTS
            assert int(place["offset"]) == stored[name].offset
            assert tensor.data_type == stored[name].dtype
        types, products = element_types(onnx.load(spec.half)), 0
        for node in model.graph.node:
            if node.op_type in ("Conv", "MatMul", "Gemm") and "vqgan.quantize" not in node.name:
                assert {types[name] for name in node.input} == {HALF}, node.name
                products += 1
        assert products, "every graph of tiny has some"


def test_the_evidence_keeps_the_budget(report: HalfReport, bundle: Bundle) -> None:
    assert report.budget == Budget()
    assert set(report.graphs) == set(bundle.graphs)
    assert report.steps == 2
    assert report.lines["texts"] == [TEXTS[0]]
    for name, found in report.graphs.items():
        assert found.error <= report.budget.error, name
        assert found.on_cpu is not None
        assert found.on_cpu <= report.budget.error
        assert all(entry.largest <= report.budget.largest for entry in found.largest)
    assert report.graphs["glyph_canvas"].keep == ("glyph_canvas:pointwise",), "it works in pixels of half a unit"
    assert report.graphs["glyph_canvas"].error_all_half is not None
    assert report.graphs["glyph_canvas"].error_all_half > report.budget.error
    assert min(report.share.values()) > 0.99
    assert min(image.psnr for image in report.images.values()) > 40
    assert "glyph_canvas:pointwise" in report.table()


def test_onnx_runtime_restores_with_the_half_graphs(bundle: Bundle, source: Source) -> None:
    material = drawn(replace(source))
    for steps in (1, 3):
        full = restore(OrtExecutor(bundle, "cpu"), TINY, material.lines, steps=steps)
        half = restore(OrtExecutor(bundle.in_half(), "cpu"), TINY, material.lines, steps=steps)
        assert (full.codes == half.codes).mean() > 0.99
    for name in bundle.graphs:
        inputs = example_inputs(source.model, name, 3)
        expected, found = (OrtExecutor(which, "cpu").run(name, inputs) for which in (bundle, bundle.in_half()))
        for key, value in expected.items():
            if value.dtype == np.float32 and name != "vqgan_decoder":
                assert relative_error(value, found[key]) < 0.01, (name, key)


def test_the_emulation_errs_as_torch_does_in_half(tiny_bundle: Path) -> None:
    """Torch's own half kernels on the CPU round each result and add up in float32, as the emulation claims to."""
    model = open_source(TINY, None, 0).model
    round_weights(model, "fp16")
    weights = {name: tensor.detach().numpy() for name, tensor in state(model).items()}
    inputs = example_inputs(model, "vqgan_encoder", 2)
    image = torch.from_numpy(inputs["image"])
    typed = to_half(traced_graphs(tiny_bundle)["vqgan_encoder"]).graph.model
    emulation = run_plain(open_plain(emulated(typed)), "vqgan_encoder", inputs, weights)["z_y"]
    with torch.inference_mode():
        exact = model.vqgan.encode(image).numpy()
        half = model.vqgan.half().encode(image.half()).float().numpy()
    ours, theirs = (float(np.sqrt(np.mean((exact - other) ** 2))) for other in (emulation, half))
    assert 0.7 < ours / theirs < 1.4
    assert relative_error(half, emulation) < 2e-3


def test_tensorrt_parses_the_half_graphs(bundle: Bundle) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    for spec in bundle.graphs.values():
        network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        parsed = parser.parse_from_file(str(spec.half))
        errors = [str(parser.get_error(place)) for place in range(parser.num_errors)]
        assert (parsed, errors) == (True, []), spec.name
        types = {network.get_input(place).dtype for place in range(network.num_inputs)}
        assert types <= {trt.float32, trt.int64}


def test_half_files_are_hashed_and_stay_inside(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "unet_step.half.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"unet_step\.half\.onnx: SHA-256"):
        Bundle.open(copy)
    manifest = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
    for name, message in (("../x.onnx", "leads out"), ("new.onnx", "no SHA-256"), (7, "no file name")):
        manifest["graphs"]["unet_step"]["half"] = name
        (copy / "bundle.json").write_text(json.dumps(sealed(manifest)), encoding="utf-8")
        with pytest.raises(BundleError, match=message):
            Bundle.open(copy, verify=False)


def test_a_bundle_without_half_graphs_says_so(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert all(spec.half is None for spec in bundle.graphs.values())
    with pytest.raises(BundleError, match=r"no half-precision graph vqgan_encoder.*--precision fp16"):
        bundle.in_half()


def test_lines_of_a_folder_are_measured_on(build: Build, bundle: Bundle, source: Source, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures"):
        pictures(tmp_path, bundle, source)
    for place in (1, 2):
        image = draw(TEXTS[place], Alphabet.load(), place)
        Image.fromarray(image).save(tmp_path / f"{place}.png")
    material = pictures(tmp_path, bundle, source)
    assert material.source["files"] == ["1.png", "2.png"]
    assert len(material.source["sha256"]) == len(material.lines) == 2
    assert len(material.symbols) == 95


@pytest.mark.slow
def test_an_image_that_keeps_no_budget_fails_the_build(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = partial(export.build.find_half, budget=Budget(psnr=500.0))
    monkeypatch.setattr(export.build, "find_half", strict)
    monkeypatch.setattr(export.precision, "ROUNDS", 1)
    with pytest.raises(EngineError, match=r"final image in half precision \(\w+ text\): .* dB, 500 needed"):
        build(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
