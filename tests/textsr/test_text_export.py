"""The text modules export to ONNX with a dynamic batch, and ONNX Runtime agrees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from textsr.config import TINY
from textsr.networks.categorical import posterior
from textsr.networks.glyph_canvas import GlyphCanvas
from textsr.networks.mom import MoM
from textsr.networks.tdm import TDM
from textsr.networks.transocr import TransOCR

Make = Callable[[int], tuple[Tensor, ...]]
CHANNELS, HEIGHT, WIDTH = TINY.latent_shape
CONTEXT = CHANNELS * HEIGHT * WIDTH // 16
CONSTANTS = torch.tensor([-0.006, -13.9, -0.047, -11.9])


class Call(nn.Module):
    """A function of a module as a module of its own."""

    def __init__(self, module: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def tokens(batch: int) -> Tensor:
    return torch.randint(0, TINY.symbols, (batch, 24))


def latent(batch: int) -> Tensor:
    return torch.randn(batch, CHANNELS, HEIGHT, WIDTH)


def part(name: str) -> tuple[nn.Module, Make]:
    """The named part at tiny size, and what makes its inputs for a batch."""
    torch.manual_seed(0)
    if name == "glyph_canvas":
        return GlyphCanvas(TINY), lambda batch: (tokens(batch), *torch.rand(5, batch, 24))
    if name == "text_condition":
        mom = MoM(TINY.mom, TINY.symbols, CHANNELS)
        return Call(mom, mom.text_condition), lambda batch: (tokens(batch), torch.rand(batch, 24))
    if name == "image_condition":
        mom = MoM(TINY.mom, TINY.symbols, CHANNELS)
        return Call(mom, mom.image_condition), lambda batch: (
            tokens(batch), torch.rand(batch, 24), latent(batch), latent(batch), torch.full((batch,), 7.0),
        )  # fmt: skip
    if name == "posterior":
        tdm = TDM(TINY.tdm, TINY.symbols, 24, CONTEXT)
        nn.init.ones_(tdm.rezero.alpha)
        return Call(tdm, lambda ids, time, context: posterior(ids, tdm(ids, time, context), CONSTANTS)), lambda batch: (
            tokens(batch), torch.full((batch,), 7.0), torch.randn(batch, 16, CONTEXT),
        )  # fmt: skip
    assert TINY.transocr is not None
    ocr = TransOCR(TINY.transocr)
    return Call(ocr, lambda image, prefix: ocr.step(ocr.encode(image), prefix)), lambda batch: (
        torch.rand(batch, 3, 32, 256), torch.randint(0, 97, (batch, 5)),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glyph_canvas", "text_condition", "image_condition", "posterior", "recogniser"])
@torch.no_grad()
def test_onnxruntime_agrees_at_other_batch_sizes(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module, make = part(name)
    module.eval()
    example = make(2)
    batch = torch.export.Dim("batch")
    shapes: tuple[Any, ...] = tuple({0: batch} for _ in example)
    program = torch.onnx.export(
        module,
        example,
        dynamo=True,
        dynamic_shapes=(shapes,) if isinstance(module, Call) else shapes,
        verbose=False,
    )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in (1, 3):
        inputs = make(size)
        names = [value.name for value in session.get_inputs()]
        theirs = session.run(None, {key: value.numpy() for key, value in zip(names, inputs, strict=True)})[0]
        np.testing.assert_allclose(theirs, module(*inputs).numpy(), rtol=1e-4, atol=2e-5)
