"""The frozen networks of the losses agree with what they stand for, and pass gradients to the image."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("rapidocr", reason="the recogniser's weights come with rapidocr")

import onnxruntime as ort
from onnx import TensorProto, helper

from textsr.errors import InputError
from train.losses import PerceptualLoss, RecognizerLoss, package_file
from train.onnx_torch import OnnxModule, load


@pytest.fixture(scope="module")
def recognizer() -> RecognizerLoss:
    return RecognizerLoss()


@pytest.fixture(scope="module")
def perceptual() -> PerceptualLoss:
    return PerceptualLoss("st-lpips")


def _model() -> Path:
    return package_file("rapidocr", "models/PP-OCRv6_rec_small.onnx")


def test_recogniser_agrees_with_onnx_runtime() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 48, 160)).astype(np.float32)
    expected = ort.InferenceSession(str(_model())).run(None, {"x": x})[0]
    with torch.no_grad():
        got = load(_model())(torch.from_numpy(x))
        logits = load(_model(), before_softmax=True)(torch.from_numpy(x))
    assert np.abs(got.numpy() - expected).max() < 1e-4
    torch.testing.assert_close(logits.softmax(-1), got)


def test_unknown_operator_is_named() -> None:
    node = helper.make_node("Selu", ["x"], ["y"])
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", info[:1], info[1:]))
    with pytest.raises(InputError, match="Selu"):
        OnnxModule(model)


def test_recogniser_loss_gradient_reaches_the_image(recognizer: RecognizerLoss) -> None:
    image = (torch.rand(2, 3, 128, 512) * 2 - 1).requires_grad_()
    loss = recognizer(image, ["中文", "Ab 3"], torch.tensor([0.5, 1.0]))
    assert loss.shape == (2,)
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    assert (image.grad.abs().sum((1, 2, 3)) > 0).all()
    # The padding right of a line tells the recogniser nothing.
    assert image.grad[0, :, :, 270:].abs().sum() == 0
    assert image.grad[0, :, :, :240].abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in recognizer.parameters())


def test_recogniser_loss_of_lines_it_cannot_judge(recognizer: RecognizerLoss) -> None:
    image = torch.rand(3, 3, 128, 512) * 2 - 1
    loss = recognizer(image, ["", "\ue000", "ＡＢ"])
    assert loss[0] == 0
    assert loss[1] == 0
    assert loss[2] > 0


def test_recogniser_loss_is_the_same_under_autocast(recognizer: RecognizerLoss) -> None:
    image = torch.rand(1, 3, 128, 512) * 2 - 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = recognizer(image, ["中文"])
    torch.testing.assert_close(mixed, recognizer(image, ["中文"]))


def test_recogniser_input_is_bgr_scaled_and_padded(recognizer: RecognizerLoss) -> None:
    image = torch.full((1, 3, 128, 512), -1.0)
    image[:, 0] = 1.0
    x = recognizer.prepare(image, torch.tensor([0.25]))
    assert x.shape == (1, 3, 48, 256)
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([-1.0, -1.0, 1.0]))
    assert x[..., 64:].abs().max() == 0
    assert x[..., :64].abs().min() > 0.999


def test_perceptual_distance(perceptual: PerceptualLoss) -> None:
    a = (torch.rand(2, 3, 64, 64) * 2 - 1).requires_grad_()
    b = a.detach() + torch.tensor([0.05, 0.5]).view(2, 1, 1, 1) * torch.randn(2, 3, 64, 64)
    distance = perceptual(a, b)
    assert distance.shape == (2,)
    assert 0 < distance[0] < distance[1]
    assert perceptual(b, b).abs().max() == 0
    distance.sum().backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()
    assert a.grad.abs().sum() > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = perceptual(a.detach(), b)
    torch.testing.assert_close(mixed, distance.detach(), rtol=0.1, atol=0.01)


def test_perceptual_gradient_of_flat_images_is_finite(perceptual: PerceptualLoss) -> None:
    a = torch.zeros(1, 3, 64, 64, requires_grad=True)
    perceptual(a, torch.ones(1, 3, 64, 64)).sum().backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_perceptual_agrees_with_the_package(perceptual: PerceptualLoss, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against stlpips_pytorch's own network; its unused imports are replaced by empty modules."""
    parts: dict[str, dict[str, Any]] = {"torchvision": {"models": types.ModuleType("torchvision.models")}}
    parts |= {"torchvision.models": {}, "IPython": {"embed": None}, "torchsummary": {"summary": None}}
    for name, names in parts.items():
        empty = types.ModuleType(name)
        vars(empty).update(names)
        monkeypatch.setitem(sys.modules, name, empty)
    package = pytest.importorskip("stlpips_pytorch.stlpips")
    reference = package.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    for name in [name for name in sys.modules if name.startswith("stlpips_pytorch")]:
        monkeypatch.delitem(sys.modules, name)
    a, b = torch.rand(2, 2, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(perceptual(a, b), reference(a, b).flatten(), rtol=1e-4, atol=1e-6)


def test_lpips_without_its_weights_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match="alexnet-owt"):
        PerceptualLoss("lpips")
    assert PerceptualLoss("auto").name == "st-lpips"
