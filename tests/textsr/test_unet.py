"""The ResShift UNet: published keys and vectors, its windows against plain references, text that starts at nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.textsr import vectors
from textsr.config import COMPACT, PAPER, SCHEDULES, TINY, UNetConfig
from textsr.graphs import Model, example_inputs
from textsr.networks.attention import count_parameters
from textsr.networks.swin import SwinBlock, SwinLayer, WindowAttention
from textsr.networks.unet import UNet

WITHOUT_TEXT = replace(PAPER.unet, context_dim=None)
SWIN = UNetConfig(swin_embed_dim=24, swin_head_dim=8, window=8, norm_groups=4, mlp_ratio=1)


def filled(cfg: UNetConfig) -> UNet:
    unet = vectors.fill(UNet(cfg))
    assert isinstance(unet, UNet)
    return unet


def inputs(cfg: UNetConfig, batch: int = 2, height: int = 32, width: int = 128) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "z_t": torch.randn(batch, cfg.latent_channels, height, width),
        "t": torch.tensor([7.0]),
        "lq": torch.rand(batch, 3, height, width) * 2 - 1,
        "c_cond": torch.randn(batch, 24, cfg.context_dim or 1),
        "glyphs": torch.rand(batch, 1, 4 * height, 4 * width),
        "z_y": torch.randn(batch, cfg.latent_channels, height, width),
        "z_painted": torch.randn(batch, cfg.latent_channels, height, width),
    }


def test_parameters_at_paper_size() -> None:
    with torch.device("meta"):
        assert count_parameters(UNet(WITHOUT_TEXT)) == 118_593_583
        unet = UNet(PAPER.unet)
    assert count_parameters(unet) == 153_585_903
    assert len(unet.text_blocks) == 9


def test_text_adds_names_and_changes_none() -> None:
    with torch.device("meta"):
        without, with_text = UNet(WITHOUT_TEXT).state_dict(), UNet(PAPER.unet).state_dict()
    added = with_text.keys() - without.keys()
    assert without.keys() < with_text.keys()
    assert all(name.startswith("text_blocks.") for name in added)


@pytest.mark.parametrize("cfg", [TINY.unet, COMPACT.unet], ids=["tiny", "compact"])
@torch.no_grad()
def test_new_text_blocks_change_nothing(cfg: UNetConfig) -> None:
    with_text, without = UNet(cfg).eval(), UNet(replace(cfg, context_dim=None)).eval()
    torch.nn.init.normal_(with_text.out[2].weight, std=0.1)  # type: ignore[arg-type]
    without.load_state_dict(with_text.state_dict(), strict=False)
    given = inputs(cfg)
    expected = without(**{**given, "c_cond": None})
    assert expected.std() > 0.01
    assert torch.equal(with_text(**given), expected)
    for block in with_text.text_blocks.values():
        torch.nn.init.normal_(block.proj_out.weight)  # type: ignore[union-attr, arg-type]
    assert not torch.allclose(with_text(**given), expected)


@torch.no_grad()
def test_only_what_it_is_told_changes_the_output() -> None:
    unet, given = filled(TINY.unet), inputs(TINY.unet, batch=1)
    expected = unet(**given)
    for name in ("z_t", "t", "lq", "c_cond", "glyphs", "z_y", "z_painted"):
        assert not torch.allclose(unet(**{**given, name: given[name] * 0.5}), expected, atol=1e-4), name


@pytest.mark.parametrize("cfg", [TINY.unet, COMPACT.unet], ids=["tiny", "compact"])
@torch.no_grad()
def test_a_line_does_not_depend_on_its_batch(cfg: UNetConfig) -> None:
    unet, given = filled(cfg), inputs(cfg, batch=3)
    together = unet(**given)
    assert together.shape == given["z_t"].shape
    alone = {name: value[1:2] if len(value) == 3 else value for name, value in given.items()}
    torch.testing.assert_close(unet(**alone), together[1:2], rtol=1e-4, atol=1e-5)
    each = {**given, "t": torch.tensor([7.0, 7.0, 7.0])}
    torch.testing.assert_close(unet(**each), together, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_steps_prepared_together_equal_steps_alone() -> None:
    unet, given = filled(TINY.unet), inputs(TINY.unet)
    table = unet.modulations(torch.arange(18.0))
    assert table.shape == (18, unet.modulation_size)
    for t in (0.0, 7.0, 17.0):
        now = {**given, "t": torch.tensor([t])}
        torch.testing.assert_close(unet(**now, modulations=table), unet(**now), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(unet(**now, modulations=table.flip(0)), unet(**now), atol=1e-4)


@pytest.mark.parametrize("cfg", [TINY.unet, COMPACT.unet], ids=["tiny", "compact"])
@torch.no_grad()
def test_a_new_network_that_corrects_an_estimate_corrects_nothing(cfg: UNetConfig) -> None:
    assert (UNet(cfg).eval()(**inputs(cfg)) == 0).all()
    assert UNet(replace(cfg, prior_channels=0, painted_channels=0)).eval()(**inputs(cfg)).std() > 0.01


def plain_attention(layer: WindowAttention, q: Tensor, places: list[tuple[int, int]], seen: Tensor) -> Tensor:
    """Attention over the rows of q (n,C) standing at ``places``, pair by pair; ``seen`` (n,n) is who sees whom."""
    size, dim = layer.window, layer.head_dim
    qkv = layer.qkv(q)
    width = qkv.shape[1] // 3
    out = torch.zeros(len(q), width)
    for head in range(layer.heads):
        queries, keys, values = (
            qkv[:, part * width + head * dim : part * width + (head + 1) * dim] for part in (0, 1, 2)
        )
        scores = queries @ keys.T / dim**0.5
        for (i, (y, x)), (j, (v, u)) in itertools.product(enumerate(places), repeat=2):
            row = (y - v + size - 1) * (2 * size - 1) + (x - u + size - 1)
            scores[i, j] += layer.relative_position_bias_table[row, head]
        out[:, head * dim : (head + 1) * dim] = (scores + torch.where(seen, 0.0, -100.0)).softmax(-1) @ values
    return layer.proj(out)


@torch.no_grad()
def test_a_low_window_equals_zero_padding_with_the_padded_keys_masked() -> None:
    layer = WindowAttention(SWIN)
    torch.nn.init.normal_(layer.relative_position_bias_table)
    x = torch.randn(4 * 8, 24)
    padded = torch.cat([x, torch.zeros(4 * 8, 24)])
    places = list(itertools.product(range(8), range(8)))
    expected = plain_attention(layer, padded, places, (torch.arange(64) < 32).expand(64, 64))[:32]
    torch.testing.assert_close(layer(x[None, None], (4, 8), None)[0, 0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_windows_are_what_they_say() -> None:
    """A shifted block on 16x16, window by window: only the lowest windows are masked, and there by columns."""
    torch.manual_seed(0)
    block = SwinBlock(SWIN, shift=4)
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    x = torch.randn(1, 24, 16, 16)
    expected, normed = x.clone(), block.norm1(x)
    places = list(itertools.product(range(8), range(8)))
    for top, left in itertools.product((0, 8), (0, 8)):
        at = [((top + y + 4) % 16, (left + u + 4) % 16) for y, u in places]
        tokens = torch.stack([normed[0, :, y, u] for y, u in at])
        side = torch.tensor([u >= 4 for _, u in places])
        seen = side[:, None] == side if top == 8 else torch.ones(64, 64, dtype=torch.bool)
        for (y, u), value in zip(at, plain_attention(block.attn, tokens, places, seen), strict=True):
            expected[0, :, y, u] += value
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("downsampling", "shift"), [(1, 4), (2, 4), (4, 4), (8, 0)])
def test_blocks_shift_where_the_published_ones_do(downsampling: int, shift: int) -> None:
    layer = SwinLayer(8, downsampling, SWIN)
    assert [block.shift for block in layer.blocks] == [0, shift]


def test_example_inputs_name_a_step_that_was_trained() -> None:
    for schedule in (SCHEDULES[18], SCHEDULES[4]):
        with torch.device("meta"):
            model = Model(replace(TINY, schedule=replace(TINY.schedule, steps=schedule.steps)))
        arrays = example_inputs(model, "unet_step", batch=1)
        assert arrays["t"][0] < len(arrays["modulations"]) == schedule.steps
