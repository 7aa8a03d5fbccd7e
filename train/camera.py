"""A simulated camera: the stand-in for real low-resolution lines.

Apart from train.degrade on purpose: other blurs (defocus disc, motion), noise in the raw picture of a colour filter
array, demosaicking, sharpening and a tone curve leave other traces::

    linear light -> defocus * motion -> sensor grid -> exposure, shot and read noise -> Bayer mosaic -> demosaicking
    -> denoising, white balance -> gamma, contrast -> sharpening -> low resolution -> JPEG
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

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
    per_sample,
    resample,
)

KERNEL = 13  # side of the defocus and motion kernels, at half the high resolution
GAMMA = 2.2


def disc_kernels(radius: Tensor, size: int) -> Tensor:
    """(B, size, size) summing to 1: discs of ``radius`` (B,) pixels with a soft edge of one pixel."""
    axis = torch.arange(size, device=radius.device) - (size - 1) / 2
    distance = torch.sqrt(axis[None, :] ** 2 + axis[:, None] ** 2)[None]
    kernels = (radius[:, None, None] + 0.5 - distance).clamp(0, 1)
    return kernels / kernels.sum((1, 2), keepdim=True)


def motion_kernels(length: Tensor, angle: Tensor, size: int) -> Tensor:
    """(B, size, size) summing to 1: lines of ``length`` (B,) pixels at ``angle`` radians, one pixel wide."""
    axis = torch.arange(size, device=length.device) - (size - 1) / 2
    x, y = axis[None, None, :], axis[None, :, None]
    c, s = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    along, across = (c * x + s * y).abs(), (c * y - s * x).abs()
    kernels = (length[:, None, None] / 2 + 0.5 - along).clamp(0, 1) * (1 - across).clamp(0, 1)
    return kernels / kernels.sum((1, 2), keepdim=True)


def _lens(draws: Draws, image: Tensor, severity: Tensor) -> Tensor:
    """Defocus and motion as one kernel."""
    batch = len(image)
    radius = draws.uniform(0.0, 0.5 + 4.7 * severity) * draws.coin(0.85)
    length = draws.uniform(0.0, 0.5 + 8.0 * severity) * draws.coin(0.45)
    disc = disc_kernels(radius, KERNEL)
    motion = motion_kernels(length, draws.uniform(0, torch.pi), KERNEL)
    both = functional.conv2d(disc[None], motion[:, None].flip((2, 3)), padding=KERNEL // 2, groups=batch)[0]
    return blur(image, both / both.sum((1, 2), keepdim=True))


@lru_cache(maxsize=8)
def _demosaic_kernels(device: torch.device) -> Tensor:
    """(3, 1, 3, 3): bilinear demosaicking of red, green and blue."""
    plane = torch.tensor(((1.0, 2.0, 1.0), (2.0, 4.0, 2.0), (1.0, 2.0, 1.0))) / 4
    green = torch.tensor(((0.0, 1.0, 0.0), (1.0, 4.0, 1.0), (0.0, 1.0, 0.0))) / 4
    return torch.stack((plane, green, plane))[:, None].to(device)


def mosaic(image: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
    """What a Bayer sensor sees of ``image`` (B, 3, H, W): the samples, zero elsewhere, and their places as 0 and 1.

    ``corner`` (B,) in 0..3: which pixel of the 2x2 pattern (red, green, green, blue) is at the top left.
    """
    batch, _, height, width = image.shape
    rows = torch.arange(height, device=image.device)[None, :, None] + (corner // 2)[:, None, None]
    columns = torch.arange(width, device=image.device)[None, None, :] + (corner % 2)[:, None, None]
    odd_row, odd_column = (rows % 2 == 1), (columns % 2 == 1)
    red, blue = ~odd_row & ~odd_column, odd_row & odd_column
    places = torch.stack((red, odd_row ^ odd_column, blue), 1).to(image.dtype).view(batch, 3, height, width)
    return image * places, places


def demosaic(samples: Tensor) -> Tensor:
    """Bilinear demosaicking of ``samples`` (B, 3, H, W) as ``mosaic`` gives them; H and W even."""
    # Reflection keeps the pattern's parity at the borders, so that every kernel finds its samples.
    framed = functional.pad(samples, (1, 1, 1, 1), mode="reflect")
    return functional.conv2d(framed, _demosaic_kernels(samples.device), groups=3)


def _develop(draws: Draws, linear: Tensor, severity: Tensor) -> Tensor:
    """Raw linear picture to display values: denoising, white balance, tone curve, sharpening."""
    strength = per_sample(draws.uniform(0.0, 0.9) * draws.coin(0.5))
    sigma = draws.uniform(0.4, 0.9)
    zero = torch.zeros_like(sigma)
    small = gaussian_kernels(sigma, sigma, zero, zero.long(), zero + 1, 5)
    linear = linear + strength * (blur(linear, small) - linear)
    balance = 1 + 0.06 * (torch.stack([draws.uniform(-1, 1) for _ in range(3)], 1))
    shown = (linear * balance[:, :, None, None]).clamp(1e-5, 1) ** (1 / per_sample(draws.uniform(2.0, 2.5)))
    contrast, middle = per_sample(draws.uniform(0.85, 1.15)), shown.mean((1, 2, 3), keepdim=True)
    shown = middle + contrast * (shown - middle) + per_sample(draws.uniform(-0.04, 0.04))
    sigma = draws.uniform(0.6, 1.2)
    wide = gaussian_kernels(sigma, sigma, zero, zero.long(), zero + 1, 5)
    amount = per_sample(draws.uniform(0.0, 1.2) * draws.coin(0.6))
    return shown + amount * (shown - blur(shown, wide))


def camera(hr: Tensor, generator: Chance, severity: Tensor | None = None) -> Tensor:
    """``hr`` (B, 3, H, W) in [0, 1], H and W multiples of 64, as photographed: (B, 3, H/4, W/4) in [0, 1].

    ``severity`` (B,) in [0, 1], drawn evenly if None. Same generator state or seeds, same result. Raises
    InputError on other shapes.
    """
    size, draws = low_size(hr, "camera"), Draws(generator, len(hr), stream=2)
    severity = (draws.uniform() if severity is None else severity.to(hr.device, torch.float32)).clamp(0, 1)
    scene = _lens(draws, halve(hr).clamp(0, 1) ** GAMMA, severity)

    share = draws.uniform(1.35 - 0.75 * severity, 1.5)  # the sensor's grid against the low resolution's
    soft, none = torch.full_like(share, 0.7), torch.zeros_like(share)
    room = size[0] * 3 // 2, size[1] * 3 // 2
    canvas = resample(Canvas.full(scene), room, share * size[0], share * size[1], soft, none)
    exposure = draws.uniform(0.75, 1.05)
    level = 0.003 + 0.08 * severity * draws.uniform(0.1, 1.0)
    raw = add_noise(canvas.pixels * per_sample(exposure), draws, level * 0.3, level, torch.zeros_like(share).bool())
    samples, _ = mosaic(raw.clamp(0, 1), draws.choice(1, 1, 1, 1))
    shown = _develop(draws, demosaic(samples), severity)

    whole = torch.ones_like(share)
    canvas = canvas.with_pixels(shown.clamp(0, 1))
    lq = resample(canvas, size, whole * size[0], whole * size[1], none, whole * 0.5).pixels
    return jpeg(lq, draws.uniform(95 - 60 * severity, 97.0), draws.coin(0.9)).clamp(0, 1)
