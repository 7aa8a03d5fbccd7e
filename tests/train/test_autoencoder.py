"""Stage ``autoencoder``: codebook, normalised latents, losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("stlpips_pytorch", reason="the weights of the perceptual loss come with it")

from tests.textsr import vectors
from tests.train.small import config, write_pools
from textsr.checkpoint import load_weights
from textsr.config import TINY
from textsr.graphs import Model
from textsr.networks.vqgan import VQGAN
from train.autoencoder import AutoencoderStage, fit_codebook, gradient_loss, normalise_latents
from train.harness import Trainer


def tiny() -> VQGAN:
    vqgan = vectors.fill(VQGAN(TINY.vqgan))
    assert isinstance(vqgan, VQGAN)
    return vqgan


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def stage_of(folder: Path, **options: object) -> AutoencoderStage:
    write_pools(folder)
    torch.manual_seed(0)
    return AutoencoderStage(Model(TINY), config(folder, **options), torch.device("cpu"))


def test_gradient_loss_by_hand() -> None:
    flat, step = torch.zeros(1, 1, 2, 3), torch.tensor([[[[0.0, 0.0, 3.0], [0.0, 1.0, 3.0]]]])
    # Horizontal differences 0 3 / 1 2, vertical ones 0 1 0.
    assert gradient_loss(step, flat).item() == pytest.approx(6 / 4 + 1 / 3)
    assert gradient_loss(step, step).item() == 0
    assert gradient_loss(step + 0.7, step).item() == pytest.approx(0, abs=1e-6)
    assert gradient_loss(flat, step).item() == gradient_loss(step, flat).item()


@torch.no_grad()
def test_k_means_brings_the_codes_to_the_latents() -> None:
    torch.manual_seed(0)
    vqgan = tiny()
    centres = 5 * torch.randn(64, 4)
    z = (centres[torch.randint(64, (2, 16, 32))] + 0.05 * torch.randn(2, 16, 32, 4)).permute(0, 3, 1, 2)

    def error() -> float:
        return F.mse_loss(vqgan.quantize(z)[0], z).item()

    before = error()
    fit_codebook(vqgan, z, rounds=0)
    drawn = error()  # codes on random latents
    fit_codebook(vqgan, z)
    assert error() < 0.9 * drawn < drawn < before
    assert torch.isfinite(vqgan.quantize.embedding.weight).all()
    used = torch.stack([codes.unique().numel() * torch.ones(()) for codes in vqgan.quantize(z)[1].unbind(1)])
    assert (used > 32).all()


def test_k_means_works_on_fewer_latents_than_codes_and_under_autocast() -> None:
    vqgan = tiny()
    z = 10 + torch.randn(1, 4, 4, 8)
    fit_codebook(vqgan, z)
    assert F.mse_loss(vqgan.quantize(z)[0], z) < 1e-6
    single, mixed = tiny(), tiny()
    z = 10 + torch.randn(2, 4, 16, 16)
    torch.manual_seed(1)
    fit_codebook(single, z)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        fit_codebook(mixed, z)
        codes = mixed.quantize(z)[1]
    assert torch.equal(mixed.quantize.embedding.weight, single.quantize.embedding.weight)
    assert torch.equal(codes, single.quantize(z)[1])


@torch.no_grad()
def test_normalising_gives_unit_latents_and_the_same_images() -> None:
    vqgan, image = tiny(), images()
    vqgan.quant_conv.weight.mul_(3)
    z = vqgan.encode(image)
    quantised, codes = vqgan.quantize(z)
    expected, free = vqgan.decode_codes(quantised), vqgan.decode_codes(z)
    normalise_latents(vqgan, z)
    moved = vqgan.encode(image)
    torch.testing.assert_close(moved.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    groups = moved.unflatten(1, (2, 2)).square().mean((0, 2, 3, 4)).sqrt()
    torch.testing.assert_close(groups, torch.ones(2))
    quantised, same_codes = vqgan.quantize(moved)
    assert (same_codes == codes).float().mean() > 0.999  # a tie may fall the other way
    torch.testing.assert_close(vqgan.decode_codes(moved), free, rtol=1e-3, atol=1e-4)
    if torch.equal(same_codes, codes):
        torch.testing.assert_close(vqgan.decode_codes(quantised), expected, rtol=1e-3, atol=1e-4)


def test_batches_are_crops_of_lines(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    batch, again, other = (next(stage.batches(seed)) for seed in (3, 3, 4))
    assert batch.shape == (4, 3, 64, 64)
    assert batch.dtype == torch.uint8
    assert torch.equal(batch, again)
    assert not torch.equal(batch, other)


def test_the_quantiser_comes_in_after_the_start(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    batch = next(stage.batches(0))
    codes = stage.model.quantize.embedding.weight.detach().clone()
    loss, figures = stage.loss(batch, 0.0)
    assert "quantiser" not in figures
    assert torch.equal(stage.model.quantize.embedding.weight, codes)
    loss.backward()
    assert stage.model.quantize.embedding.weight.grad is None
    loss, figures = stage.loss(batch, 0.5)
    assert {"quantiser", "codes_used", "l1", "edges", "perceptual", "z_std"} == figures.keys()
    assert not torch.equal(stage.model.quantize.embedding.weight, codes)
    loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in stage.model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_codes_not_met_for_long_move_to_latents(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    torch.nn.init.constant_(stage.model.quantize.embedding.weight, 50.0)
    batch = next(stage.batches(0))
    stage.quantised = True
    for _ in range(12):
        stage.loss(batch, 0.5)
    moved = (stage.model.quantize.embedding.weight.abs().amax(1) < 50).float().mean()
    assert moved > 0.9


def test_resume_knows_whether_the_quantiser_was_in(tmp_path: Path) -> None:
    stage, out = stage_of(tmp_path), tmp_path / "out"
    assert not stage.quantised
    out.mkdir()
    for row, expected in (('{"step": 1, "l1": 0.1}\n', False), ('{"step": 2, "codes_used": 1.0}\n', True)):
        (out / "curves.jsonl").write_text(row, encoding="utf-8")
        assert stage_of(tmp_path, resume=out).quantised == expected
    assert stage_of(tmp_path, checkpoint=tmp_path / "weights.safetensors").quantised


def test_a_short_run_learns_and_saves_unit_latents(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, minutes=0.03, learning_rate=3e-3, batch_size=2)
    before = {name: tensor.clone() for name, tensor in stage.full.state_dict().items()}
    Trainer(stage, stage.cfg).run()
    model = Model(TINY).eval()
    load_weights(model, tmp_path / "out" / "model.safetensors")
    lines = torch.from_numpy(np.stack([stage.val[i].image for i in range(3)])).permute(0, 3, 1, 2)
    with torch.no_grad():
        z = model.vqgan.encode(lines.float().div(127.5).sub(1))
    assert z.std().item() == pytest.approx(1, abs=0.05)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items() if not name.startswith("vqgan."))
    assert not torch.equal(after["vqgan.decoder.conv_out.weight"], before["vqgan.decoder.conv_out.weight"])
