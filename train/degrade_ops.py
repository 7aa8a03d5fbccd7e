"""Operations of the degradations: batched, on the device of their input, with parameters of their own for every sample.

All images are (B, 3, H, W) in [0, 1]; per-sample parameters are (B,).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from textsr.config import SCALE
from textsr.errors import InputError

GOLDEN, MIX_1, MIX_2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15  # of splitmix64, as int64


def _mix(value: Tensor) -> Tensor:
    """int64 to int64: the output function of splitmix64 (Steele et al. 2014); products wrap on every device."""
    value = (value ^ ((value >> 30) & 0x3FFFFFFFF)) * MIX_1
    value = (value ^ ((value >> 27) & 0x1FFFFFFFFF)) * MIX_2
    return value ^ ((value >> 31) & 0x1FFFFFFFF)


@dataclass(frozen=True)
class Seeds:
    """A seed for each sample, (B,) int64 on the pictures' device; a sample's draws depend on its own seed alone."""

    values: Tensor

    @property
    def device(self) -> torch.device:
        """Where the draws lie."""
        return self.values.device

    def pick(self, places: Tensor) -> Seeds:
        """Those of some samples."""
        return Seeds(self.values[places])


Chance = torch.Generator | Seeds
"""Where randomness comes from: one generator for a whole batch, or a seed for each of its samples."""


def sample_seed(run: int, epoch: int, index: int) -> int:
    """A seed, 0..2^63 - 1, for sample ``index`` in an epoch (or step) of a run."""
    seed = 0
    for value in (run, epoch, index):  # `_mix` on whole numbers: a hundred times faster than on tensors of one
        seed = ((seed ^ value) + GOLDEN) % 2**64
        seed = (seed ^ (seed >> 30)) * MIX_1 % 2**64
        seed = (seed ^ (seed >> 27)) * MIX_2 % 2**64
        seed ^= seed >> 31
    return seed % 2**63


class Draws:
    """Random parameters for a batch of ``size`` samples, on the device of ``chance``.

    With `Seeds`, the k-th draw of a sample is a hash of its seed, ``stream`` and k: whatever the batch, the same on
    every device. Each degradation has a stream of its own, so that one after the other does not repeat the draws.
    """

    def __init__(self, chance: Chance, size: int, stream: int = 0) -> None:
        self.chance, self.size = chance, size
        self._drawn = 0
        if isinstance(chance, Seeds):
            if chance.values.shape != (size,) or chance.values.dtype != torch.int64:
                found = f"{tuple(chance.values.shape)} of {chance.values.dtype}"
                raise InputError(f"a batch of {size} samples needs as many int64 seeds, not {found}")
            self._keys = _mix(_mix(chance.values + GOLDEN) + (stream + 1) * 2**32)

    @property
    def device(self) -> torch.device:
        """Where the draws lie."""
        return self.chance.device

    def _hashes(self, count: int) -> Tensor:
        """(B, count) int64, the next ones of every sample."""
        places = torch.arange(self._drawn + 1, self._drawn + 1 + count, device=self.device) * GOLDEN
        self._drawn += count
        return _mix(self._keys[:, None] + places)

    def _shares(self) -> Tensor:
        """(B,) in [0, 1)."""
        if isinstance(self.chance, torch.Generator):
            return torch.rand(self.size, generator=self.chance, device=self.device)
        return ((self._hashes(1)[:, 0] >> 40) & 0xFFFFFF).float() * 2.0**-24

    def uniform(self, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
        """(B,) in [low, high)."""
        return low + (high - low) * self._shares()

    def coin(self, probability: float | Tensor) -> Tensor:
        """(B,) bool."""
        return self.uniform() < probability

    def choice(self, *shares: float) -> Tensor:
        """(B,) int64: place of a share, drawn in proportion."""
        edges = torch.tensor(shares).cumsum(0)  # on the host: reading the last one waits for no device
        return torch.searchsorted(edges.to(self.device), self.uniform(0.0, float(edges[-1]) * 0.999999))

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape), standard normal."""
        if isinstance(self.chance, torch.Generator):
            return torch.randn((self.size, *shape), generator=self.chance, device=self.device)
        bits = self._hashes(math.prod(shape))
        radius = (-2 * torch.log((((bits >> 40) & 0xFFFFFF) + 1).float() * 2.0**-24)).sqrt()  # Box and Muller 1958
        return (radius * torch.cos(((bits >> 8) & 0xFFFFFF).float() * (2.0**-23 * torch.pi))).view(self.size, *shape)


def per_sample(value: Tensor) -> Tensor:
    """(B,) to (B, 1, 1, 1)."""
    return value.view(-1, 1, 1, 1)


def low_size(hr: Tensor, what: str) -> tuple[int, int]:
    """Rows and columns in low resolution of lines that the degradation ``what`` takes. Raises InputError on others."""
    if hr.ndim != 4 or hr.shape[1] != 3 or hr.shape[2] % 64 or hr.shape[3] % 64:
        raise InputError(f"{what} takes (B, 3, H, W) with H and W multiples of 64, not {tuple(hr.shape)}")
    return hr.shape[2] // SCALE, hr.shape[3] // SCALE


def halve(image: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C, H/2, W/2) by averaging 2x2 pixels (on a CPU several times faster than avg_pool2d)."""
    rows = image[:, :, ::2] + image[:, :, 1::2]
    return (rows[..., ::2] + rows[..., 1::2]) * 0.25


def _grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y, (size, size), 0 in the middle."""
    axis = torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2
    return axis[None, :].expand(size, size), axis[:, None].expand(size, size)


def gaussian_kernels(sigma_x: Tensor, sigma_y: Tensor, angle: Tensor, shape: Tensor, beta: Tensor, size: int) -> Tensor:
    """(B, size, size) summing to 1: anisotropic Gaussian (shape 0), generalised Gaussian (1) or plateau (2).

    Source: Wang et al. 2021 (Real-ESRGAN), section 3.1: exp(-q^beta / 2) and 1 / (1 + q^beta) with the quadratic
    form q of the inverse covariance. ``sigma`` in pixels of the image to be blurred; about 0.2 and less is no blur.
    """
    x, y = _grid(size, sigma_x.device)
    c, s = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    q = ((c * x + s * y) / sigma_x[:, None, None]) ** 2 + ((c * y - s * x) / sigma_y[:, None, None]) ** 2
    shape = shape[:, None, None]
    power = torch.where(shape == 0, 1.0, beta[:, None, None])
    bent = q.clamp(min=1e-8) ** power
    kernels = torch.where(shape == 2, 1 / (1 + bent), torch.exp(-0.5 * bent.clamp(max=60.0)))
    return kernels / kernels.sum((1, 2), keepdim=True)


def sinc_kernels(cutoff: Tensor, size: int) -> Tensor:
    """(B, size, size) summing to 1: circular low-pass filters that ring; ``cutoff`` in radians a pixel, up to pi."""
    x, y = _grid(size, cutoff.device)
    radius = torch.sqrt(x * x + y * y)[None]
    w = cutoff[:, None, None]
    ring = w * torch.special.bessel_j1(w * radius) / (2 * torch.pi * radius.clamp(min=1e-6))
    kernels = torch.where(radius < 1e-6, w * w / (4 * torch.pi), ring)
    return kernels / kernels.sum((1, 2), keepdim=True)


def blur(image: Tensor, kernels: Tensor) -> Tensor:
    """Each sample under its own kernel, (B, k, k) with odd k; borders repeat. As a grouped convolution."""
    batch, channels, height, width = image.shape
    pad = kernels.shape[-1] // 2
    # Channels in the batch's place and samples in the channels': one group a sample, the kernel shared by its colours.
    stacked = functional.pad(image, (pad, pad, pad, pad), mode="replicate").transpose(0, 1)
    blurred = functional.conv2d(stacked, kernels[:, None], groups=batch)
    return blurred.transpose(0, 1).reshape(batch, channels, height, width)


def _cubic(x: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Cubic filter of Mitchell and Netravali 1988; ``x`` at least 0."""
    near = ((12 - 9 * b - 6 * c) * x + (-18 + 12 * b + 6 * c)) * x * x + (6 - 2 * b)
    far = (((-b - 6 * c) * x + (6 * b + 30 * c)) * x + (-12 * b - 48 * c)) * x + (8 * b + 24 * c)
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _weights(count_in: int, count_out: int, length_in: Tensor, length_out: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """(B, count_out, count_in): rows sum to 1; the filter widens when it shrinks; borders repeat."""
    device = length_in.device
    ratio = (length_in / length_out)[:, None]
    places = (torch.arange(count_out, device=device) + 0.5) * ratio - 0.5
    places = places.clamp(min=0).minimum(length_in[:, None] - 1)
    distance = (places[:, :, None] - torch.arange(count_in, device=device)).abs() / ratio.clamp(min=1)[:, :, None]
    weights = _cubic(distance, b[:, None, None], c[:, None, None])
    return weights / weights.sum(2, keepdim=True)


@dataclass(frozen=True)
class Canvas:
    """Images whose content fills the first ``height`` rows and ``width`` columns, (B,) each; the rest is border."""

    pixels: Tensor  # (B, 3, H, W)
    height: Tensor
    width: Tensor

    @classmethod
    def full(cls, pixels: Tensor) -> Canvas:
        """All of ``pixels`` is content."""
        ones = torch.ones(len(pixels), device=pixels.device)
        return cls(pixels, ones * pixels.shape[2], ones * pixels.shape[3])

    def with_pixels(self, pixels: Tensor) -> Canvas:
        """The same content area."""
        return Canvas(pixels, self.height, self.width)


def resample(
    canvas: Canvas, size: tuple[int, int], height: Tensor, width: Tensor, softness: Tensor, sharpness: Tensor
) -> Canvas:
    """Content resampled to ``height`` x ``width`` (B,) on a canvas of ``size``, by a cubic filter of its own a sample.

    ``softness`` and ``sharpness`` are B and C of Mitchell and Netravali: (1, 0) is soft as area or linear
    averaging, (0, 0.5) the usual cubic, (0, 0.75) and more nearly as sharp as Lanczos.
    """
    rows = _weights(canvas.pixels.shape[2], size[0], canvas.height, height, softness, sharpness)
    columns = _weights(canvas.pixels.shape[3], size[1], canvas.width, width, softness, sharpness)
    pixels = rows[:, None] @ canvas.pixels @ columns[:, None].transpose(2, 3)
    return Canvas(pixels, height, width)


def add_noise(image: Tensor, draws: Draws, gaussian: Tensor, shot: Tensor, grey: Tensor) -> Tensor:
    """Noise of variance gaussian^2 + shot^2 * brightness; one value for all colours where ``grey``; not clamped."""
    noise = draws.normal(*image.shape[1:])
    noise = torch.where(per_sample(grey), noise[:, :1], noise)
    variance = per_sample(gaussian**2) + per_sample(shot**2) * image.clamp(0, 1)
    return image + noise * variance.sqrt()
