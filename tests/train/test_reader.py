"""The stage that teaches the recogniser: its network against ONNX Runtime, its losses, a run to weights that read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("rapidocr", reason="the recogniser's weights come with it")
pytest.importorskip("stlpips_pytorch", reason="training imports the perceptual loss")

from runtime.recognizer import MODEL, PPOCRReader, reweighted
from tests.runtime.helpers import draw_line
from tests.train.small import config, write_pools
from textsr.checkpoint import read_metadata
from textsr.errors import InputError
from train import reader, run
from train.losses import package_file
from train.reader import CLEAN_SHARE, ReaderNetwork, ReaderStage, load_reader


@pytest.fixture(scope="module")
def network() -> ReaderNetwork:
    return ReaderNetwork(package_file("rapidocr", f"models/{MODEL}"))


@pytest.fixture
def stage(tmp_path: Path) -> ReaderStage:
    write_pools(tmp_path)
    return ReaderStage(config(tmp_path, stage="reader", batch_size=8), torch.device("cpu"))


def test_the_network_is_the_recogniser(network: ReaderNetwork) -> None:
    image = torch.rand(2, 3, 48, 320, generator=torch.Generator().manual_seed(0)) * 2 - 1
    session = ort.InferenceSession(str(package_file("rapidocr", f"models/{MODEL}")), providers=["CPUExecutionProvider"])
    expected = session.run(None, {session.get_inputs()[0].name: image.numpy()})[0]
    features, logits = network(image)
    assert features.shape == (2, 40, 120)
    np.testing.assert_allclose(logits.softmax(-1).detach().numpy(), expected, atol=2e-4)


def test_the_head_is_not_trained(network: ReaderNetwork) -> None:
    names = network.named().keys()
    assert {"linear_0.w_0", "linear_7.b_0"} <= names
    assert not {"linear_8.w_0", "linear_8.b_0"} & names
    assert sum(parameter.numel() for parameter in network.parameters()) < 3_100_000


def test_the_distance_is_that_of_all_classes(stage: ReaderStage) -> None:
    generator = torch.Generator().manual_seed(0)
    features, taught = torch.randn(2, 2, 40, 120, generator=generator)
    columns = torch.tensor([320.0, 100.0])
    head = stage.teacher.get_buffer("weight")
    square = ((features - taught) @ head).square().mean(-1)
    variance = ((taught - taught.mean((0, 1))) @ head).square().mean()
    expected = torch.stack([square[0].mean(), square[1, :13].mean()]) / variance
    torch.testing.assert_close(stage._distance(features, taught, columns), expected, rtol=1e-3, atol=1e-5)


def test_batches_hold_degraded_and_clean_lines(stage: ReaderStage) -> None:
    lines, seen, clean = next(iter(stage.batches(0)))
    assert seen.shape == clean.shape == (8, 3, 48, 320)
    few = round(CLEAN_SHARE * 8)
    assert torch.equal(seen[:few], clean[:few])
    assert all(not torch.equal(one, other) for one, other in zip(seen[few:], clean[few:], strict=True))
    for row, share in enumerate(lines.filled):
        assert not seen[row, :, :, int(np.ceil(share * 192)) :].any()
    loss, figures = stage.loss((lines, seen, clean), 0.0)
    loss.backward()
    assert figures.keys() == {"ctc", "distance"}
    assert all(parameter.grad is not None for parameter in stage.network.parameters())
    assert all(parameter.grad is None for parameter in stage.teacher.parameters())


def test_a_run_ends_in_weights_that_the_product_takes(tmp_path: Path) -> None:
    write_pools(tmp_path, lines=16)
    out = tmp_path / "out"
    given = ["--stage", "reader", "--device", "cpu", "--batch-size", "8", "--pool", str(tmp_path / "pool")]
    given += ["--precision", "fp32"]  # every processor multiplies in it
    given += ["--val-pool", str(tmp_path / "val"), "--out", str(out), "--shards", str(tmp_path / "shards")]
    assert run.main([*given, "--steps", "2"]) == 0
    assert run.main([*given, "--steps", "3", "--resume", str(out)]) == 0
    (told,) = json.loads(read_metadata(out / "model.safetensors")["training"])
    assert told["progress"]["step"] == 3
    assert told["validation"].keys() == {"degraded_right", "clean_right"}
    assert (out / "samples_000003.png").is_file()
    assert list((tmp_path / "shards").glob("*.safetensors"))
    line = draw_line("Hello 42")
    product = PPOCRReader(weights=out / "model.safetensors", threads=1)
    assert product.read([line])[0].text == "Hello 42"
    fresh = ReaderNetwork(package_file("rapidocr", f"models/{MODEL}"))
    load_reader(fresh, out / "model.safetensors")
    saved = load_file(out / "model.safetensors")
    assert all(torch.equal(fresh.named()[name], value) for name, value in saved.items())
    before = ReaderNetwork(package_file("rapidocr", f"models/{MODEL}")).named()
    assert any(not torch.equal(before[name], value) for name, value in saved.items())


def test_what_is_shipped_is_what_was_trained(network: ReaderNetwork, tmp_path: Path) -> None:
    """Each weight is at most half a step of its row off, a 254th of the largest change in the row."""
    base, generator = network.named(), torch.Generator().manual_seed(0)
    path, out = tmp_path / "model.safetensors", tmp_path / "shipped.safetensors"
    values = {name: value + 0.01 * torch.randn(value.shape, generator=generator) for name, value in base.items()}
    values["linear_0.w_0"][3] = base["linear_0.w_0"][3]  # a row that did not change
    save_file(values, path)
    assert reader.main([str(tmp_path), "--out", str(out)]) == 0
    assert out.stat().st_size < 0.6 * path.stat().st_size / 2
    made = onnx.load_model_from_string(reweighted(package_file("rapidocr", f"models/{MODEL}"), out))
    found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    for name, value in values.items():
        steps = (value - base[name]).flatten(1).abs().amax(1) / 254 if value.dim() > 1 else value.abs() * 2**-10
        wrong = torch.from_numpy(found[name].copy()).sub(value).abs()
        assert (wrong.view(len(value), -1).amax(1) <= steps + 1e-6).all(), name
    assert reader.main([str(tmp_path / "nothing"), "--out", str(out)]) == 1


def test_parts_of_what_was_learned_are_added(network: ReaderNetwork, tmp_path: Path) -> None:
    base = network.named()
    for number, change in enumerate((0.5, -1.0)):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_file({name: value + change for name, value in base.items()}, folder / "model.safetensors")
    runs = [tmp_path / "0", tmp_path / "1"]
    fresh = ReaderNetwork(package_file("rapidocr", f"models/{MODEL}"))
    found = reader.mean(runs, (0.2, 0.3), fresh)
    assert all(torch.allclose(found[name], value - 0.2, atol=1e-5) for name, value in base.items())
    out = tmp_path / "shipped.safetensors"
    assert reader.main([*map(str, runs), "--shares", "0.2", "0.3", "--out", str(out)]) == 0
    assert json.loads(read_metadata(out)["shares"]) == [0.2, 0.3]
    assert reader.main([*map(str, runs), "--shares", "0.2", "--out", str(out)]) == 1


def test_other_weights_are_no_start(network: ReaderNetwork, tmp_path: Path) -> None:
    save_file({"linear_0.w_0": torch.zeros(120, 360)}, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match="holds no weights"):
        load_reader(network, tmp_path / "part.safetensors")
    (tmp_path / "part.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        load_reader(network, tmp_path / "part.safetensors")
