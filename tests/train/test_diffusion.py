"""Stage ``diffusion``: batches, corruption, losses that reach what they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("rapidocr", reason="the recogniser's weights come with it")
pytest.importorskip("stlpips_pytorch", reason="the weights of the perceptual loss come with it")

from tests.train.small import TEXTS, config, write_pool, write_pools
from textsr.alphabet import Alphabet
from textsr.config import TINY, GlyphConfig
from textsr.errors import InputError
from textsr.graphs import Model, graphs
from textsr.painting import fit_batch
from textsr.resize import bicubic_x4
from textsr.torch_executor import TorchExecutor
from train.diffusion import DECODE_EVERY, Corrupted, DiffusionStage, LatentCache, text_tensors
from train.lines import Prefetch, _tensors, drawn_batches, line_batches, true_arrays
from train.pool import LinePool
from train.readings import NoiseModel


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> DiffusionStage:
    folder = tmp_path_factory.mktemp("diffusion")
    write_pools(folder)
    torch.manual_seed(0)
    model = Model(TINY)
    torch.nn.init.normal_(model.unet.out[2].weight, std=0.1)  # type: ignore[arg-type]  # 0 at first: nothing passes
    return DiffusionStage(model, config(folder, stage="diffusion", own_estimates=0.0), torch.device("cpu"))


@pytest.fixture
def batch(stage: DiffusionStage) -> Corrupted:
    lines = next(line_batches(stage.pool, stage.noise, stage.alphabet, 4, np.random.default_rng(0)))
    return stage._corrupt(lines, 1.0)


def test_the_share_of_true_texts_is_the_stages(stage: DiffusionStage) -> None:
    told = DiffusionStage(stage.full, replace(stage.cfg, true_text_share=1.0), torch.device("cpu"))
    truth = true_arrays(told.pool, np.ones(200, np.int64), told.alphabet)  # of a line without spaces
    given = truth.tokens, truth.centres, truth.widths, np.ones(200)  # as hard as can be
    right = [
        (each.noise.sample_batch(np.random.default_rng(0), *given).tokens == truth.tokens).all(1)
        for each in (stage, told)
    ]
    assert right[0].mean() < 0.9 * right[1].mean()
    assert right[1].mean() == pytest.approx(1 - told.noise.drop, abs=0.08)


def reached(module: torch.nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


def test_every_loss_is_finite_and_reaches_its_network(stage: DiffusionStage, batch: Corrupted) -> None:
    stage.count = 0
    seen: list[set[str]] = []
    torch.nn.init.ones_(stage.full.tdm.rezero.alpha)  # 0 at first: nothing passes to the picture's side yet
    for _ in range(DECODE_EVERY):
        stage.model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss, figures = stage.loss(batch, 0.5)
        loss.backward()
        assert torch.isfinite(loss)
        assert all(np.isfinite(value) for value in figures.values())
        assert reached(stage.full.unet) > 0
        assert reached(stage.full.mom.Transformer) > 0 or not seen  # through text blocks that start at zero
        assert reached(stage.full.vqgan) == 0
        assert (reached(stage.full.tdm) > 0) == (reached(stage.full.mom.Unet) > 0) == ("text" in figures)
        torch.nn.init.normal_(stage.full.unet.text_blocks["middle_block"].proj_out.weight, std=0.1)  # type: ignore
        seen.append(set(figures))
    decoded = {"latent", "l1", "perceptual", "recognizer"}
    plain = [{"latent"}] * (DECODE_EVERY - 3)
    assert seen == [{"latent"}, {"latent", "text"}, *plain, decoded]


def test_the_true_latent_has_no_latent_loss(
    stage: DiffusionStage, batch: Corrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    gain, deviation = (torch.from_numpy(value)[:, None, None, None] for value in stage.schedule.estimates[batch.t].T)
    true = (batch.z_0 - batch.z_y - gain * (batch.z_t - batch.z_y)) / deviation
    monkeypatch.setattr(stage.full.unet, "forward", lambda *_: true)
    monkeypatch.setattr(stage, "count", 0)
    loss, figures = stage.loss(batch, 0.5)
    assert figures == {"latent": pytest.approx(0, abs=1e-6)}
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_a_network_that_corrects_nothing_leaves_the_linear_estimate(
    stage: DiffusionStage, batch: Corrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[torch.Tensor] = []

    def nothing(*arrays: torch.Tensor) -> torch.Tensor:
        shown.extend((arrays[5], arrays[7]))
        return torch.zeros_like(batch.z_0)

    monkeypatch.setattr(stage.full.unet, "forward", nothing)
    monkeypatch.setattr(stage, "count", 0)
    _, figures = stage.loss(batch, 0.5)
    gain = torch.from_numpy(stage.schedule.estimates[batch.t][:, 0])[:, None, None, None]
    estimate = batch.z_y + gain * (batch.z_t - batch.z_y)
    assert figures["latent"] == pytest.approx((estimate - batch.z_0).abs().mean().item(), rel=1e-5)
    assert batch.z_painted is not None
    assert torch.equal(shown[0], batch.z_y)
    assert torch.equal(shown[1], batch.z_painted)


def test_a_share_of_the_lines_starts_from_the_networks_own_estimate(
    stage: DiffusionStage, batch: Corrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "cfg", replace(stage.cfg, own_estimates=0.5))
    monkeypatch.setattr(stage.full.unet, "forward", lambda z_t, *_: torch.zeros_like(z_t))
    torch.manual_seed(5)
    moved = stage._on_own_estimate(batch)
    torch.manual_seed(5)
    prior, later = torch.randn(2, *batch.z_y[:2].shape)
    gain = float(stage.schedule.estimates[-1, 0])
    own = batch.z_y[:2] + gain * stage.schedule.prior_std * prior  # what a network that corrects nothing says at step T
    eta = torch.from_numpy(stage.schedule.etas).float()[batch.t[:2]][:, None, None, None]
    expected = (1 - eta) * own + eta * batch.z_y[:2] + stage.schedule.kappa * eta.sqrt() * later
    assert torch.allclose(moved.z_t[:2], expected, atol=1e-5)
    assert torch.equal(moved.z_t[2:], batch.z_t[2:])
    assert torch.equal(moved.z_0, batch.z_0)


def test_the_canvas_is_fitted_to_the_degraded_line(stage: DiffusionStage, batch: Corrupted) -> None:
    unet = replace(TINY.unet, painted_channels=0)
    plain, read, cpu = replace(TINY, glyph=GlyphConfig(), unet=unet), batch.batch.reading, torch.device("cpu")
    unfitted, canvas = DiffusionStage(Model(plain), stage.cfg, cpu).told(batch), stage.full.glyph_canvas
    fitted = fit_batch(read, batch.lq.numpy(), batch.batch.filled, TINY)
    assert unfitted.glyphs is not None
    assert unfitted.z_painted is None
    assert batch.glyphs is not None
    assert torch.equal(batch.glyphs, canvas(*text_tensors(fitted, TINY, cpu)))
    assert torch.equal(unfitted.glyphs, canvas(*text_tensors(read, plain, cpu)))
    assert not torch.allclose(batch.glyphs, unfitted.glyphs, atol=0.1)


def test_the_painted_line_is_the_runtimes(stage: DiffusionStage, batch: Corrupted) -> None:
    fitted = fit_batch(batch.batch.reading, batch.lq.numpy(), batch.batch.filled, TINY)
    image = np.stack([bicubic_x4(low.transpose(1, 2, 0)) for low in batch.lq.numpy()]).transpose(0, 3, 1, 2).clip(-1, 1)
    executor = TorchExecutor(graphs(stage.full))
    given = {name: executor.put(value) for name, value in {"image": image, **vars(fitted)}.items()}
    expected, z_painted = executor.run("painted_encoder", given)["z_painted"], batch.z_painted
    assert z_painted is not None
    off = (z_painted - expected).abs().mean() / expected.std()
    assert off < 0.02, "half precision of the encoder"
    assert (z_painted - batch.z_y).abs().mean() > 5 * (z_painted - expected).abs().mean()


def test_corruption_is_the_forward_process(stage: DiffusionStage, batch: Corrupted) -> None:
    assert batch.lq.shape == (4, 3, 32, 128)
    assert batch.hr.shape == (4, 3, 128, 512)
    assert batch.lq.abs().max() <= 1
    assert batch.z_t.shape == batch.z_0.shape == batch.z_y.shape == (4, *TINY.latent_shape)
    assert {value.dtype for value in (batch.lq, batch.z_0, batch.z_y, batch.z_t)} == {torch.float32}
    assert ((batch.t >= 0) & (batch.t < 18)).all()
    eta = torch.from_numpy(stage.schedule.etas[batch.t.numpy()]).float().view(4, 1, 1, 1)
    mean = batch.z_0 + eta * (batch.z_y - batch.z_0)
    noise = (batch.z_t - mean) / (2 * eta.sqrt())
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)
    assert batch.glyphs is not None
    assert batch.glyphs.shape == (4, 1, 128, 512)
    hr = torch.from_numpy(batch.batch.images).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    torch.testing.assert_close(batch.hr, hr)


@torch.no_grad()
def test_half_precision_of_the_encoder_is_near_enough(stage: DiffusionStage, batch: Corrupted) -> None:
    exact = stage.full.vqgan.encode(batch.hr)
    assert (batch.z_0 - exact).std() < 0.02 * exact.std()


def test_a_seed_gives_the_same_batches_and_noise(stage: DiffusionStage) -> None:
    drawn = []
    for seed in (5, 5, 6):
        rng = np.random.default_rng(seed)
        stage.generator.manual_seed(seed)
        drawn.append(stage._corrupt(next(line_batches(stage.pool, stage.noise, stage.alphabet, 4, rng)), 0.5))
    np.testing.assert_array_equal(drawn[0].batch.places, drawn[1].batch.places)
    assert torch.equal(drawn[0].z_t, drawn[1].z_t)
    assert torch.equal(drawn[0].lq, drawn[1].lq)
    assert not torch.equal(drawn[0].z_t, drawn[2].z_t)


def test_samples_are_measured_and_drawn(stage: DiffusionStage, tmp_path: Path) -> None:
    parts = stage.full.unet, stage.full.mom, stage.full.tdm
    figures = stage.samples(stage.model, tmp_path / "samples.png")
    assert figures.keys() == {"psnr", "psnr_bicubic"}
    assert all(np.isfinite(value) for value in figures.values())
    assert figures == stage.samples(stage.model, tmp_path / "again.png")
    assert (tmp_path / "samples.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert (stage.full.unet, stage.full.mom, stage.full.tdm) == parts


def test_latents_are_encoded_once() -> None:
    class Encoder:
        calls = 0

        def encode(self, images: torch.Tensor) -> torch.Tensor:
            self.calls += len(images)
            return images[:, :1, ::4, ::4] * torch.ones(1, 4, 1, 1)

    class Whole:
        vqgan = Encoder()

    whole: Any = Whole()
    cache, images = LatentCache(5, (4, 2, 3)), torch.rand(5, 3, 8, 12)
    for places in ([0, 1], [1, 2, 0], [4, 2]):
        index = np.array(places)
        expected = images[index][:, :1, ::4, ::4].expand(-1, 4, -1, -1)
        torch.testing.assert_close(cache.get(index, images[index], whole), expected, atol=1e-3, rtol=0)
    assert Whole.vqgan.calls == 4
    assert cache.known.tolist() == [True, True, True, False, True]


def test_line_batches_tell_of_their_lines(tmp_path: Path) -> None:
    pool, alphabet = LinePool(write_pool(tmp_path / "pool", 7)), Alphabet.load()
    batches = line_batches(pool, NoiseModel.load(), alphabet, 3, np.random.default_rng(0))
    first, second = next(batches), next(batches)
    assert len({*first.places, *second.places}) == 6  # no line twice in a round
    for place, text, image, filled in zip(first.places, first.texts, first.images, first.filled, strict=True):
        line = pool[int(place)]
        assert text == line.text == TEXTS[place % len(TEXTS)]
        np.testing.assert_array_equal(image, line.image)
        assert filled == pytest.approx(line.width / 512)
    truth = true_arrays(pool, first.places, alphabet)
    for row, text in enumerate(first.texts):
        assert alphabet.decode(truth.tokens[row]) == alphabet.fold(text)
        np.testing.assert_allclose(truth.centres[row, : len(text)], pool[int(first.places[row])].centres)
        assert (truth.weights[row] == 1).all()


def test_a_pool_smaller_than_a_batch_is_refused(tmp_path: Path) -> None:
    pool = LinePool(write_pool(tmp_path / "pool", 2))
    batches = Prefetch(lambda: line_batches(pool, NoiseModel.load(), Alphabet.load(), 3, np.random.default_rng(0)))
    for _ in range(2):  # and asking again gives the same answer, not an endless wait
        with pytest.raises(InputError, match="2 lines cannot fill a batch of 3"):
            next(batches)


def test_processes_draw_what_a_thread_would_with_their_seed(tmp_path: Path) -> None:
    parts = LinePool(write_pool(tmp_path / "pool", 6)), NoiseModel.load(), Alphabet.load(), 3
    drawn = drawn_batches(*parts, seed=5, workers=1)
    expected = line_batches(*parts, np.random.default_rng([5, 0]))
    for _ in range(3):
        one, other = next(drawn), next(expected)
        assert isinstance(one.images, np.ndarray)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.places, other.places)
        np.testing.assert_array_equal(one.reading.tokens, other.reading.tokens)
        assert one.texts == other.texts
    with pytest.raises(InputError, match="6 lines cannot fill a batch of 7"):
        drawn_batches(LinePool(tmp_path / "pool"), *parts[1:3], 7, seed=5, workers=2)


def test_every_tensor_of_a_batch_is_found(stage: DiffusionStage, batch: Corrupted) -> None:
    found = {id(tensor) for tensor in _tensors([batch])}
    for name in ("hr", "lq", "z_0", "z_y", "z_t", "t", "glyphs"):
        assert id(getattr(batch, name)) in found
    assert {id(tensor) for tensor in batch.text} <= found
