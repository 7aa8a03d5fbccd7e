"""The baseline's loop in miniature: against the same loop written out, and its promises about seeds and batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.difftsr import SMALL, DiffTSR, Options, restore
from benchmarks.difftsr.schedule import cumulative
from textsr.errors import DeviceError, InputError
from textsr.loop import Draws
from textsr.networks.categorical import categorical_step
from textsr.schedule import CategoricalSchedule

KEYS = [b"first", b"second", b"third"]


def inputs(count: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int64], list[bytes]]:
    rng = np.random.default_rng(5)
    return rng.random((count, 3, 32, 128), np.float32), rng.integers(0, 6736, (count, 24)), KEYS[:count]


def model(dtype: torch.dtype = torch.float32) -> DiffTSR:
    return DiffTSR.random(3, SMALL, dtype=dtype)


@pytest.mark.parametrize("text_diffusion", [False, True])
@torch.no_grad()
def test_the_loop_written_out(text_diffusion: bool) -> None:
    """Every network called by hand, the update as predicted x0, direction and noise, in double precision."""
    net, options = model(torch.float64), Options(4, 0.7, text_diffusion, seed=9)
    image, tokens, keys = inputs(2)
    draws = Draws(9, keys, [0, 0])
    noise = [torch.from_numpy(draws.normal(number, (3, 8, 32))).double() for number in range(6)]
    abar = cumulative()
    z_lr = net.vae.encode(torch.from_numpy(image).double(), noise[0])
    z = np.sqrt(abar[999]) * z_lr + np.sqrt(1 - abar[999]) * noise[1]
    c = torch.from_numpy(tokens)
    for place, (t, s) in enumerate([(751, 501), (501, 251), (251, 1), (1, 0)]):
        i_cond, c_cond = net.mom(c, z_lr, z, torch.tensor([t]))
        eps = net.idm(torch.cat([z, z_lr], 1), torch.tensor([t]), c_cond)
        sigma = 0.7 * np.sqrt((1 - abar[s]) / (1 - abar[t]) * (1 - abar[t] / abar[s]))
        x0 = (z - np.sqrt(1 - abar[t]) * eps) / np.sqrt(abar[t])
        z = np.sqrt(abar[s]) * x0 + np.sqrt(1 - abar[s] - sigma**2) * eps + sigma * noise[2 + place]
        if text_diffusion:
            index = 3 - place
            constants = torch.from_numpy(CategoricalSchedule(6736).step_constants(index, index - 1, frozen_last=True))
            logits = net.tdm(c, torch.tensor([float(index)]), i_cond.float())
            c, _ = categorical_step(c, logits, constants, torch.from_numpy(draws.uniform(place, (24,))))
    expected = net.vae.decode(z / 0.18215).clamp(0, 1)
    restored = restore(net, image, tokens, keys, options)
    torch.testing.assert_close(restored.z_0, z, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(restored.image, expected.float(), rtol=1e-5, atol=1e-6)
    assert torch.equal(restored.tokens, c)
    assert float(restored.image.std()) > 0.01


@pytest.mark.parametrize("text_diffusion", [False, True])
def test_a_line_depends_on_seed_and_image_alone(text_diffusion: bool) -> None:
    net, options = model(), Options(5, text_diffusion=text_diffusion)
    image, tokens, keys = inputs()
    together = restore(net, image, tokens, keys, options)
    again = restore(net, image, tokens, keys, options)
    assert torch.equal(together.image, again.image)
    assert torch.equal(together.tokens, again.tokens)
    for place in range(3):
        rows = slice(place, place + 1)
        alone = restore(net, image[rows], tokens[rows], keys[rows], options)
        torch.testing.assert_close(alone.image, together.image[rows], rtol=0, atol=1e-4)
        assert torch.equal(alone.tokens, together.tokens[rows])
    other = restore(net, image, tokens, keys, replace(options, seed=1))
    assert float((other.image - together.image).abs().max()) > 0.01
    renamed = restore(net, image, tokens, [b"x", *keys[1:]], options)
    assert float((renamed.z_0[0] - together.z_0[0]).abs().max()) > 0.1
    torch.testing.assert_close(renamed.z_0[1:], together.z_0[1:], rtol=0, atol=1e-4)


@pytest.mark.parametrize("text_diffusion", [False, True])
def test_calls_of_each_network(text_diffusion: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    net, calls, times = model(), Counter[str](), []

    def counted(name: str, owner: Any, method: str) -> None:
        inner = getattr(owner, method)

        def call(*arguments: Any) -> Any:
            calls[name] += 1
            if name == "tdm":
                times.append(float(arguments[1]))
            return inner(*arguments)

        monkeypatch.setattr(owner, method, call)

    for name in ("idm", "mom", "tdm"):
        counted(name, getattr(net, name), "forward")
    counted("encode", net.vae, "encode")
    counted("decode", net.vae, "decode")
    marks: list[str] = []
    restore(net, *inputs(), Options(6, text_diffusion=text_diffusion), mark=marks.append)
    expected = {"idm": 6, "mom": 6, "encode": 1, "decode": 1} | ({"tdm": 6} if text_diffusion else {})
    assert calls == expected
    assert times == ([5, 4, 3, 2, 1, 0] if text_diffusion else [])
    assert marks == ["encode", *["step"] * 6, "decode"]


@pytest.mark.slow
def test_text_diffusion_draws_new_tokens_and_guides_the_image() -> None:
    net, (image, tokens, keys) = model(), inputs(1)
    kept = restore(net, image, tokens, keys, Options(200))
    drawn = restore(net, image, tokens, keys, Options(200, text_diffusion=True))
    assert np.array_equal(kept.tokens.numpy(), tokens)
    changed = int((drawn.tokens.numpy() != tokens).sum())
    assert 0 < changed < 24  # 200 late steps of 1000: some tokens are redrawn, most survive
    assert not torch.equal(kept.z_0, drawn.z_0)
    other = restore(net, image, (tokens + 1) % 6736, keys, Options(2))
    assert not torch.equal(other.z_0, restore(net, image, tokens, keys, Options(2)).z_0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    reference = restore(model(), *inputs(2), Options(3, text_diffusion=True))
    net = model(dtype)
    assert net.dtype == dtype
    assert next(net.tdm.parameters()).dtype == torch.float32
    restored = restore(net, *inputs(2), Options(3, text_diffusion=True))
    assert restored.image.dtype == torch.float32
    assert restored.z_0.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float64: 1e-4}[dtype]
    assert float((restored.image - reference.image).abs().mean()) < tolerance


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_the_cpu() -> None:
    ours = restore(DiffTSR.random(3, SMALL, device="cuda"), *inputs(), Options(5))
    torch.testing.assert_close(ours.image, restore(model(), *inputs(), Options(5)).image, rtol=0, atol=2e-2)


def test_what_does_not_fit_is_refused() -> None:
    net, (image, tokens, keys) = model(), inputs()
    with pytest.raises(InputError, match="images"):
        restore(net, image[:, :, ::2], tokens, keys)
    with pytest.raises(InputError, match="keys"):
        restore(net, image, tokens, keys[:2])
    with pytest.raises(InputError, match="tokens must be"):
        restore(net, image, tokens[:, :20], keys)
    with pytest.raises(InputError, match="from 0 to 6735"):
        restore(net, image, np.full_like(tokens, 6736), keys)


def test_random_weights_have_a_seed() -> None:
    first, again, other = (DiffTSR.random(seed, SMALL, transocr=False) for seed in (1, 1, 2))
    assert first.transocr is None
    for name in ("idm", "vae", "mom", "tdm"):
        weights, same, else_ = (list(getattr(net, name).parameters()) for net in (first, again, other))
        assert all(torch.equal(a, b) for a, b in zip(weights, same, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(weights, else_, strict=True))
    with pytest.raises(DeviceError, match="nonsense"):
        DiffTSR.random(0, SMALL, device="nonsense")
