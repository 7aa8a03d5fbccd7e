"""DiffTSR with equal engineering computes what the release's loop does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.difftsr import SMALL, DiffTSR, sampler
from benchmarks.difftsr.sampler import Options, restore
from benchmarks.speed import captured
from benchmarks.speed.captured import CapturedDiffTSR


def restless(tokens: Tensor, logits: Tensor, constants: Tensor, uniforms: Tensor) -> tuple[Tensor, None]:
    """Instead of the text step, whose draws hardly ever differ from the tokens at so late times: all inputs count."""
    choice = logits.argmax(dim=1) + (uniforms * 1000).long() + (constants.sum() * 100).long()
    return (tokens + choice) % SMALL.preset.symbols, None


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.mark.parametrize("text_diffusion", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_it_restores_as_the_sampler(
    text_diffusion: bool, batch: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "categorical_step", restless)
    monkeypatch.setattr(captured, "categorical_step", restless)
    model, rng = DiffTSR.random(3, SMALL, device=device, transocr=False), np.random.default_rng(1)
    options = Options(4, text_diffusion=text_diffusion, seed=5)
    image = rng.random((batch, 3, 32, 128), np.float32)
    tokens = rng.integers(0, SMALL.preset.symbols, (batch, 24))
    keys = [bytes([place]) for place in range(batch)]
    wanted = restore(model, image, tokens, keys, options)
    made = CapturedDiffTSR(model, options, batch)
    for _ in range(2):  # a second run starts from the line again
        made.lay(image, tokens, keys)
        made.run()
        found = made.restored()
        assert torch.allclose(found.z_0, wanted.z_0, rtol=1e-4, atol=1e-4)
        assert torch.allclose(found.image, wanted.image, atol=1e-4)
        assert torch.equal(found.tokens, wanted.tokens)
    assert torch.equal(wanted.tokens, torch.from_numpy(tokens)) != text_diffusion


def test_its_clock_is_read_between_the_parts() -> None:
    model = DiffTSR.random(3, SMALL, transocr=False)
    made = CapturedDiffTSR(model, Options(4))
    times = iter([0.0, 1.0, 9.0, 12.0])
    found = made.run(lambda: next(times))
    assert (found.encode, found.steps.tolist(), found.decode) == (1.0, [2.0] * 4, 3.0)
