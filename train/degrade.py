"""Synthetic degradation of high-resolution lines: BSRGAN and Real-ESRGAN in the mild form of DiffTSR, half and half.

Both are one sequence of operations with the parameters of their own for every sample: an operation that a sample's
kind leaves out has no effect on it. All runs batched on the device of the picture::

    half size, blur -> resize, noise, JPEG, blur -> resize, noise, JPEG -> low resolution, blur (sinc), noise, JPEG

Sources: Zhang et al. 2021 (BSRGAN: operations in shuffled order), Wang et al. 2021 (Real-ESRGAN: two rounds, sinc
filters).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from train.degrade_jpeg import jpeg
from train.degrade_ops import (
    Canvas,
    Chance,
    Draws,
    add_noise,
    blur,
    gaussian_kernels,
    halve,
    low_size,
    resample,
    sinc_kernels,
)

LARGE, SMALL = 17, 7  # sides of the first blur's kernels (at half size) and of the others
ROOM = 1.5  # intermediate sizes are at most so many times the low resolution


@dataclass(frozen=True)
class Strength:
    """How strong a sample's degradation is; each (B,). Noise in shares of white, blur in low-resolution pixels."""

    blur_low: Tensor
    blur_high: Tensor
    smallest: Tensor  # intermediate size, as a share of the low resolution
    noise: Tensor
    worst_quality: Tensor  # of JPEG

    @classmethod
    def of(cls, severity: Tensor) -> Strength:
        """From a severity (B,) in 0..1: 0 is nearly a clean reduction, 1 is hard to read."""
        s = severity.clamp(0, 1)
        return cls(0.05 + 0.6 * s, 0.15 + 1.95 * s, 1.0 - 0.6 * s, 0.004 + 0.09 * s, 95 - 65 * s)


def random_kernels(draws: Draws, low: Tensor, high: Tensor, size: int, ringing: float = 0.1) -> Tensor:
    """(B, size, size): the mixture of Real-ESRGAN, ``sigma`` between ``low`` and ``high`` (B,) pixels."""
    sigma_x = draws.uniform(low, high).clamp(min=0.12)
    isotropic = draws.coin(0.6)
    sigma_y = torch.where(isotropic, sigma_x, draws.uniform(low, high).clamp(min=0.12))
    shape = draws.choice(0.7, 0.15, 0.15)
    # A plateau has long tails: with a small sigma it would still blur, so it is for larger ones only.
    shape = torch.where((shape == 2) & (torch.minimum(sigma_x, sigma_y) < 0.6), 0, shape)
    beta = torch.where(shape == 2, draws.uniform(1.2, 2.0), draws.uniform(0.6, 3.0))
    smooth = gaussian_kernels(sigma_x, sigma_y, draws.uniform(0, torch.pi), shape, beta, size)
    cutoff = (2.2 / sigma_x.clamp(min=0.7)).clamp(max=torch.pi)
    return torch.where((draws.coin(ringing) & (sigma_x > 0.5))[:, None, None], sinc_kernels(cutoff, size), smooth)


def _resize(draws: Draws, canvas: Canvas, size: tuple[int, int], low: Tensor, high: Tensor | float) -> Canvas:
    """Content to a random share, between ``low`` and ``high``, of the low resolution of the line ``size``."""
    share = draws.uniform(low, high)
    room = tuple(16 * -(-int(side * ROOM) // 16) for side in size)
    softness, sharpness = random_filter(draws)
    height, width = (share * size[0]).clamp(min=4), (share * size[1]).clamp(min=4)
    return resample(canvas, (room[0], room[1]), height, width, softness, sharpness)


def random_filter(draws: Draws) -> tuple[Tensor, Tensor]:
    """(B, C) of the resampling filter: soft as area or linear, cubic, or nearly Lanczos, a third each."""
    kind = draws.choice(1, 1, 1)
    pairs = torch.tensor(((0.8, 0.1), (0.0, 0.5), (0.0, 0.75)), device=draws.device)[kind]
    return pairs[:, 0], pairs[:, 1]


def _noise(draws: Draws, image: Tensor, most: Tensor, probability: Tensor | float) -> Tensor:
    """Gaussian (60%) or shot noise, of one colour in 40%, up to ``most`` (B,)."""
    level = draws.uniform(0.1, 1.0) * most * draws.coin(probability)
    shot = draws.coin(0.4)
    return add_noise(image, draws, torch.where(shot, 0.0, level), torch.where(shot, level, 0.0), draws.coin(0.4))


def _jpeg(draws: Draws, image: Tensor, worst: Tensor, probability: Tensor | float) -> Tensor:
    return jpeg(image, draws.uniform(worst, 96.0), draws.coin(probability))


def degrade(hr: Tensor, generator: Chance, severity: Tensor | None = None) -> Tensor:
    """``hr`` (B, 3, H, W) in [0, 1], H and W multiples of 64, to (B, 3, H/4, W/4) in [0, 1].

    ``severity`` (B,) in [0, 1], drawn evenly if None: 0 nearly a clean reduction by 4, 1 hard to read. Same
    generator state or seeds, same result. Raises InputError on other shapes.
    """
    size, draws = low_size(hr, "degrade"), Draws(generator, len(hr), stream=1)
    force = Strength.of(draws.uniform() if severity is None else severity.to(hr.device, torch.float32))
    shuffled = draws.coin(0.5)  # BSRGAN, else Real-ESRGAN
    half = halve(hr)
    half = blur(half, random_kernels(draws, force.blur_low * 2, force.blur_high * 2, LARGE))

    # First round. Where the order is shuffled, noise, JPEG and the second blur fall in it or in a later one.
    early = shuffled & draws.coin(0.5)
    canvas = _resize(draws, Canvas.full(half), size, force.smallest, ROOM)
    pixels = _noise(draws, canvas.pixels, force.noise, torch.where(shuffled, 0.5 * early, 0.6))
    pixels = _jpeg(draws, pixels, force.worst_quality, torch.where(shuffled, 0.4 * early, 0.7))
    second = torch.where(shuffled, 0.5, 0.3)
    pixels = _second_blur(draws, pixels, force, second)

    canvas = _resize(draws, canvas.with_pixels(pixels), size, force.smallest, 1.2)
    pixels = _noise(draws, canvas.pixels, force.noise * 0.75, torch.where(shuffled, 0.5 * ~early, 0.3))
    swap = draws.coin(0.5)  # JPEG before the last resize and filter, or after
    pixels = _jpeg(draws, pixels, force.worst_quality, 0.8 * swap)

    return _finish(draws, canvas.with_pixels(pixels), size, force, (shuffled, swap))


def _second_blur(draws: Draws, pixels: Tensor, force: Strength, probability: Tensor | float) -> Tensor:
    on = draws.coin(probability)
    high = torch.where(on, force.blur_high * 0.6, 0.12)
    return blur(pixels, random_kernels(draws, torch.full_like(high, 0.1), high, SMALL))


def _finish(
    draws: Draws, canvas: Canvas, size: tuple[int, int], force: Strength, kind: tuple[Tensor, Tensor]
) -> Tensor:
    """To the low resolution; sinc filter (40% of Real-ESRGAN); noise (BSRGAN); JPEG."""
    shuffled, swap = kind
    softness, sharpness = random_filter(draws)
    whole = torch.ones_like(canvas.height)
    lq = resample(canvas, size, whole * size[0], whole * size[1], softness, sharpness).pixels
    ringing = draws.coin(0.4) & ~shuffled
    cutoff = torch.where(ringing, draws.uniform(torch.pi * (1 - 0.55 * force.blur_high / 2.1), torch.pi), torch.pi)
    sinc = sinc_kernels(cutoff, SMALL)
    none = torch.zeros_like(sinc)
    none[:, SMALL // 2, SMALL // 2] = 1
    lq = blur(lq, torch.where(ringing[:, None, None], sinc, none))
    lq = _noise(draws, lq, force.noise * 0.4, 0.5 * shuffled)
    return _jpeg(draws, lq, force.worst_quality, 0.8 * ~swap).clamp(0, 1)


def small(hr: Tensor, generator: Chance, severity: Tensor | None = None) -> Tensor:
    """``hr`` (B, 3, H, W) as a picture that is small and little else, enlarged to the low resolution (B, 3, H/4, W/4)
    as `textsr.fit.fit_line` enlarges lines that are lower.

    ``severity`` (B,) in [0, 1], drawn evenly if None: at 1 it has as few as a quarter of the low resolution's rows.
    Same generator state or seeds, same result. Raises InputError on other shapes than `degrade` takes.
    """
    size, draws = low_size(hr, "small"), Draws(generator, len(hr), stream=5)
    severity = (draws.uniform() if severity is None else severity.to(hr.device, torch.float32)).clamp(0, 1)
    share, (softness, sharpness) = draws.uniform(1 - 0.75 * severity, 1.0), random_filter(draws)
    canvas = resample(Canvas.full(halve(hr)), size, share * size[0], share * size[1], softness, sharpness)
    pixels = _noise(draws, canvas.pixels, 0.005 + 0.02 * severity, 0.5)
    canvas = canvas.with_pixels(_jpeg(draws, pixels, 95 - 40 * severity, 0.5))
    whole = torch.ones_like(share)
    cubic = torch.zeros_like(share), torch.full_like(share, 0.75)  # fit_line's, a = -0.75
    return resample(canvas, size, whole * size[0], whole * size[1], *cubic).pixels.clamp(0, 1)


def degrade_again(lq: Tensor, generator: Chance, severity: Tensor | None = None) -> Tensor:
    """A light second degradation of low-resolution lines (B, 3, h, w) in [0, 1]; same shape.

    ``severity`` (B,) in [0, 1], drawn evenly if None.
    """
    draws = Draws(generator, len(lq), stream=3)
    force = Strength.of((draws.uniform() if severity is None else severity.to(lq.device, torch.float32)) * 0.45)
    size = lq.shape[2], lq.shape[3]
    pixels = blur(lq, random_kernels(draws, force.blur_low, force.blur_high * 0.6, SMALL, ringing=0.05))
    canvas = _resize(draws, Canvas.full(pixels), size, force.smallest, 1.2)
    canvas = canvas.with_pixels(_noise(draws, canvas.pixels, force.noise * 0.7, 0.4))
    softness, sharpness = random_filter(draws)
    whole = torch.ones_like(canvas.height)
    pixels = resample(canvas, size, whole * size[0], whole * size[1], softness, sharpness).pixels
    return _jpeg(draws, pixels, force.worst_quality, 0.6).clamp(0, 1)
