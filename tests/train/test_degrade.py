"""Degradations, simulated camera, JPEG and curriculum."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from textsr import fit
from textsr.errors import InputError
from train.camera import camera, demosaic, disc_kernels, mosaic, motion_kernels
from train.degrade import degrade, degrade_again, small
from train.degrade_jpeg import jpeg, tables
from train.degrade_ops import Canvas, Draws, Seeds, gaussian_kernels, resample, sample_seed, sinc_kernels
from train.degrade_sources import SOURCES, draw_sources, phase, three_sources

Degradation = Callable[..., Tensor]
BOTH = pytest.mark.parametrize("function", [degrade, camera, small])


def _lines(count: int) -> Tensor:
    """(count, 3, 128, 512): bars and discs of a few colours, as sharp as text."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        image = Image.new("RGB", (512, 128), tuple(int(v) for v in rng.integers(120, 256, 3)))
        draw = ImageDraw.Draw(image)
        for _ in range(40):
            x, y, w, h = (int(v) for v in rng.integers((0, 0, 4, 4), (500, 120, 60, 12)))
            draw.rectangle((x, y, x + w, y + h), fill=tuple(int(v) for v in rng.integers(0, 110, 3)))
        pictures.append(np.asarray(image))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _psnr(first: Tensor, second: Tensor) -> float:
    return float(-10 * torch.log10(((first - second) ** 2).mean((1, 2, 3)) + 1e-12).mean())


@BOTH
def test_shape_range_and_determinism(function: Degradation) -> None:
    hr = _lines(3)
    before = hr.clone()
    lq, again, other = (function(hr, _generator(seed)) for seed in (1, 1, 2))
    assert lq.shape == (3, 3, 32, 128)
    assert lq.dtype == torch.float32
    assert bool(((lq >= 0) & (lq <= 1)).all())
    assert torch.equal(lq, again)
    assert not torch.equal(lq, other)
    assert torch.equal(hr, before)
    with pytest.raises(InputError, match="multiples of 64"):
        function(hr[:, :, :100], _generator())


@BOTH
def test_extremes_stay_finite(function: Degradation) -> None:
    flat = torch.stack((torch.zeros(3, 128, 512), torch.ones(3, 128, 512)))
    for seed in range(4):
        lq = function(flat, _generator(seed), torch.ones(2))
        assert bool(torch.isfinite(lq).all())
        assert float(lq[0].mean()) < 0.2
        assert float(lq[1].mean()) > 0.6


def test_severity_lowers_psnr() -> None:
    hr = _lines(24)
    clean = functional.interpolate(hr, scale_factor=0.25, mode="bicubic", antialias=True)
    scores = [_psnr(degrade(hr, _generator(), torch.full((24,), s)), clean) for s in (0.0, 0.35, 0.7, 1.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 25  # nearly clean, on edges harsher than any text
    assert scores[0] - scores[-1] > 6
    again = [_psnr(degrade_again(clean.clamp(0, 1), _generator(), torch.full((24,), s)), clean) for s in (0.0, 1.0)]
    assert again[0] > again[1] > scores[-1]


def test_camera_severity_lowers_agreement_and_nothing_moves() -> None:
    hr = _lines(24)
    clean = functional.interpolate(hr, scale_factor=0.25, mode="area").mean(1)

    def agreement(severity: float, shift: int = 0) -> float:
        lq = camera(hr, _generator(), torch.full((24,), severity)).mean(1)
        pair = np.stack((lq[:, :, 4:-4].flatten(), clean.roll(shift, 2)[:, :, 4:-4].flatten()))
        return float(np.corrcoef(pair)[0, 1])

    assert agreement(0.0) > agreement(0.5) > agreement(1.0)
    assert agreement(0.0) > max(agreement(0.0, -1), agreement(0.0, 1), 0.8)


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
def test_jpeg_agrees_with_pillow(quality: int) -> None:
    smooth = functional.avg_pool2d(_lines(1), 5, 1, 2)[:, :, :32, :128]
    pixels = (smooth[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    theirs = np.asarray(Image.open(file), np.float32)
    ours = jpeg(smooth, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy() * 255
    # Values half way between two levels may fall either way; two decoders differ as much.
    assert np.abs(ours - theirs).mean() < min(2.0, 0.5 * np.abs(theirs - pixels).mean() + 0.5)
    np.testing.assert_array_equal(tables(torch.tensor([50.0]))[0, 0, 0, :3].numpy(), (16, 11, 10))


def test_jpeg_is_per_sample() -> None:
    image = _lines(2)[:, :, :32, :128]
    both = jpeg(image, torch.tensor([10.0, 90.0]))
    torch.testing.assert_close(both[1:], jpeg(image[1:], torch.tensor([90.0])))
    off = jpeg(image, torch.tensor([10.0, 10.0]), torch.tensor([False, True]))
    assert torch.equal(off[0], image[0])
    assert torch.equal(off[1], jpeg(image, torch.tensor([10.0, 10.0]))[1])


def test_kernels_sum_to_one_and_are_centred() -> None:
    sigma, zero = torch.tensor([0.12, 1.0, 2.0]), torch.zeros(3)
    shapes = torch.tensor([0, 1, 2])
    for kernels in (
        gaussian_kernels(sigma, sigma * 1.5, zero + 0.4, shapes, zero + 1.5, 13),
        sinc_kernels(torch.tensor([0.8, 2.0, torch.pi]), 13),
        disc_kernels(torch.tensor([0.0, 1.5, 4.0]), 13),
        motion_kernels(torch.tensor([0.0, 3.0, 9.0]), zero + 0.7, 13),
    ):
        torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(3))
        torch.testing.assert_close(kernels, kernels.flip((1, 2)), atol=1e-5, rtol=0)


def test_resample_keeps_flat_pictures_and_repeats_borders() -> None:
    size = torch.tensor([20.0, 40.0])
    ones = torch.ones(2)
    canvas = resample(Canvas.full(torch.full((2, 3, 64, 64), 0.3)), (48, 48), size, size, 0 * ones, 0.5 * ones)
    torch.testing.assert_close(canvas.pixels, torch.full((2, 3, 48, 48), 0.3))
    back = resample(canvas, (32, 32), 32 * ones, 32 * ones, ones, 0 * ones)
    assert back.pixels.shape == (2, 3, 32, 32)
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    small = resample(Canvas.full(ramp), (16, 16), 16 * ones[:1], 16 * ones[:1], 0 * ones[:1], 0.5 * ones[:1]).pixels
    torch.testing.assert_close(small[..., 2:-2], functional.avg_pool2d(ramp, 4)[..., 2:-2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("corner", range(4))
def test_demosaic_restores_flat_colours(corner: int) -> None:
    colour = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    samples, places = mosaic(colour, torch.tensor([corner]))
    assert torch.equal(places.sum(1), torch.ones(1, 16, 16))
    torch.testing.assert_close(places.mean((0, 2, 3)), torch.tensor([0.25, 0.5, 0.25]))
    torch.testing.assert_close(demosaic(samples), colour)


def test_curriculum() -> None:
    assert [phase(f) for f in (0.0, 0.0249, 0.025, 0.0499, 0.05, 1.0)] == [1, 1, 2, 2, 3, 3]
    for fraction, count in ((0.0, 1), (0.03, 2), (0.5, 3)):
        shares = torch.bincount(draw_sources(3000, fraction, _generator()), minlength=len(SOURCES)) / 3000
        expected = torch.tensor([1 / count] * count + [0.0] * (3 - count))
        torch.testing.assert_close(shares, expected, atol=0.04, rtol=0)
    with pytest.raises(InputError, match="share of the run"):
        phase(1.5)
    hr = _lines(6)
    for fraction in (0.0, 0.03, 0.9):
        lq = three_sources(hr, fraction, _generator())
        assert lq.shape == (6, 3, 32, 128)
        assert torch.equal(lq, three_sources(hr, fraction, _generator()))
        assert bool(((lq >= 0) & (lq <= 1)).all())


def test_small_lines_are_what_the_product_makes_of_small_pictures() -> None:
    """At severity 0 nothing is lost but what 32 rows cannot hold; at 1 some lines have lost three quarters of these."""
    hr, low = _lines(8), functional.interpolate(_lines(8), scale_factor=0.25, mode="area")
    clean, worst = (small(hr, _generator(1), torch.full((8,), severity)) for severity in (0.0, 1.0))
    assert _psnr(clean, low) > 25
    assert _psnr(clean, low) > _psnr(worst, low) + 3
    rows = np.asarray(Image.fromarray((hr[0] * 255).byte().permute(1, 2, 0).numpy()).resize((40, 10), 3))
    product = torch.from_numpy(fit.resample(rows, 32, 128)).permute(2, 0, 1)[None] / 255
    ours = torch.stack([small(hr[:1], _generator(seed), torch.ones(1))[0] for seed in range(24)])
    nearest = max(_psnr(one[None], product.clamp(0, 1)) for one in ours)
    assert nearest > _psnr(low[:1], product) + 3


def test_a_share_of_the_lines_is_small() -> None:
    hr, seeds = _lines(1).expand(160, -1, -1, -1), torch.tensor([sample_seed(1, 0, place) for place in range(160)])
    few, severity = Seeds(seeds), torch.full((160,), 0.5)
    mixed = three_sources(hr, 0.9, few, severity, small_share=0.25)
    little, others = small(hr, few, severity), three_sources(hr, 0.9, few, severity)
    is_small = (mixed - little).abs().amax((1, 2, 3)) < 0.1
    assert 0.18 < float(is_small.float().mean()) < 0.32
    assert float((mixed[~is_small] - others[~is_small]).abs().mean()) < 1e-3


def test_seeded_draws_are_uniform_normal_and_independent() -> None:
    draws = Draws(Seeds(torch.arange(100_000)), 100_000, stream=1)
    first, second, third = draws.uniform(), draws.uniform(2.0, 4.0), draws.normal(3)
    other = Draws(Seeds(torch.arange(100_000)), 100_000, stream=2).uniform()
    edges = torch.linspace(0, 1, 11)
    counts = torch.histogram(first, edges).hist
    assert float(((counts - 10_000) ** 2 / 10_000).sum()) < 33  # chi-squared with 9 degrees, p = 1e-4
    assert float(second.min()) >= 2
    assert float(second.max()) < 4
    moments = [float((third**power).mean()) for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, (0, 1, 0, 3), atol=0.06)
    pairs = torch.corrcoef(torch.stack((first, second, other, third[:, 0], third[:, 1])))
    assert float((pairs - torch.eye(5)).abs().max()) < 0.015
    shares = torch.bincount(draws.choice(1, 2, 1), minlength=3) / 100_000
    torch.testing.assert_close(shares, torch.tensor([0.25, 0.5, 0.25]), atol=0.01, rtol=0)


def test_with_seeds_a_sample_does_not_depend_on_its_batch() -> None:
    hr = _lines(6)
    seeds = torch.tensor([sample_seed(7, 0, place) for place in range(6)])
    assert len(set(seeds.tolist())) == 6
    mixed: Degradation = lambda part, chance: three_sources(part, 0.9, chance, small_share=0.5)  # noqa: E731
    for function in (degrade, camera, small, mixed):
        whole = function(hr, Seeds(seeds))
        order = torch.tensor([4, 1])
        part = function(hr[order], Seeds(seeds[order]))
        # A step of JPEG may fall the other way where a larger batch rounds otherwise.
        assert float((whole[order] - part).abs().mean()) < 1e-4
        assert float((whole[order] - function(hr[order], Seeds(seeds[order] + 1))).abs().mean()) > 1e-3
    with pytest.raises(InputError, match="6 samples"):
        degrade(hr, Seeds(seeds[:5]))


def test_degradations_run_wholly_on_the_device() -> None:
    """On the meta device any tensor left on the host is an error."""
    seeds = Seeds(torch.empty(2, dtype=torch.int64, device="meta"))
    hr = torch.empty(2, 3, 128, 512, device="meta")
    for function in (degrade, camera):
        lq = function(hr, seeds)
        assert (lq.shape, lq.device.type) == ((2, 3, 32, 128), "meta")
        assert degrade_again(lq, seeds).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_seeds_give_the_same_lines_on_cuda() -> None:
    hr, seeds = _lines(4), torch.arange(4)
    there = three_sources(hr.cuda(), 0.9, Seeds(seeds.cuda())).cpu()
    assert float((there - three_sources(hr, 0.9, Seeds(seeds))).abs().mean()) < 2e-3
