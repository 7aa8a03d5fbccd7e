"""MoM, TDM and TransOCR: published keys and vectors at paper size, and the properties of the tiny ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.textsr import golden
from textsr.config import COMPACT, TINY, Preset
from textsr.networks.ldm import LDMUNet
from textsr.networks.mom import MoM
from textsr.networks.tdm import TDM
from textsr.networks.transocr import TransOCR


def tiny_mom(preset: Preset = TINY) -> MoM:
    torch.manual_seed(0)
    return MoM(preset.mom, preset.symbols, preset.latent_shape[0]).eval()


def latents(preset: Preset = TINY, batch: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, *preset.latent_shape), torch.randn(batch, *preset.latent_shape)


@golden.needs_golden
def test_the_same_unet_makes_difftsrs_denoiser() -> None:
    with torch.device("meta"):
        unet = LDMUNet(
            in_channels=6, out_channels=3, channels=320, mult=(1, 2, 3, 4), res_blocks=2,
            attention_levels=(1, 2, 3), heads=8, context_dim=160,
        )  # fmt: skip
    lines = (golden.FOLDER / "keys_difftsr_idm.tsv").read_text(encoding="utf-8").split("\n")
    expected = dict(line.split("\t")[:2] for line in lines if line)
    assert {name: "x".join(map(str, tensor.shape)) for name, tensor in unet.state_dict().items()} == expected
    assert sum(parameter.numel() for parameter in unet.parameters()) == 874_024_003


@pytest.mark.parametrize("preset", [TINY, COMPACT], ids=lambda preset: preset.name)
@torch.no_grad()
def test_smaller_presets_run(preset: Preset) -> None:
    mom = tiny_mom(preset)
    channels, height, width = preset.latent_shape
    context = channels * height * width // preset.tdm.context_tokens
    tdm = TDM(preset.tdm, preset.symbols, preset.max_chars, context).eval()
    tokens = torch.randint(0, preset.symbols, (2, preset.max_chars))
    i_cond, c_cond = mom(tokens, *latents(preset), torch.tensor([7.0]))
    assert i_cond.shape == (2, *preset.latent_shape)
    assert c_cond.shape == (2, 24, preset.mom.context_dim)
    logits = tdm(tokens, torch.tensor([7.0]), i_cond)
    assert logits.shape == (2, preset.symbols, 24)
    assert torch.equal(tdm(tokens, torch.tensor(7), i_cond.reshape(2, 16, context)), logits)


@torch.no_grad()
def test_weights_multiply_embeddings_before_positions() -> None:
    mom = tiny_mom()
    first, second = torch.randint(0, 6736, (2, 1, 24))
    z_y, z_t = latents(batch=1)
    ones, zeros, time = torch.ones(1, 24), torch.zeros(1, 24), torch.tensor([7.0])
    for with_ones, without in zip(mom(first, z_y, z_t, time, ones), mom(first, z_y, z_t, time), strict=True):
        assert torch.equal(with_ones, without)
    for one, other in zip(mom(first, z_y, z_t, time, zeros), mom(second, z_y, z_t, time, zeros), strict=True):
        assert torch.equal(one, other)
    rows = mom.text_condition(first, zeros)[0]
    assert not torch.allclose(rows[0], rows[1])  # positions are added whatever the weight


@torch.no_grad()
def test_time_is_one_for_all_or_one_each() -> None:
    mom, tdm = tiny_mom(), TDM(TINY.tdm, 6736, 24, 1024).eval()
    tdm.rezero.alpha.fill_(1)
    tokens, weights = torch.randint(0, 6736, (2, 24)), torch.rand(2, 24)
    latent, context = latents(), torch.randn(2, 16, 1024)
    one, each = torch.tensor([50.0]), torch.tensor([50.0, 50.0])
    torch.testing.assert_close(
        mom.image_condition(tokens, weights, *latent, one), mom.image_condition(tokens, weights, *latent, each)
    )
    torch.testing.assert_close(tdm(tokens, one, context), tdm(tokens, each, context))
    assert not torch.allclose(tdm(tokens, one, context), tdm(tokens, each + 1, context))


@torch.no_grad()
def test_transocr_decodes_causally() -> None:
    assert TINY.transocr is not None
    ocr = TransOCR(TINY.transocr).eval()
    image, prefix = torch.rand(2, 3, 32, 256), torch.randint(0, 97, (2, 6))
    whole = ocr(image, prefix)
    assert whole.shape == (2, 6, 97)
    for length in (1, 4, 6):
        step = ocr.step(ocr.encode(image), prefix[:, :length])
        torch.testing.assert_close(step, whole[:, length - 1], atol=1e-5, rtol=1e-4)
