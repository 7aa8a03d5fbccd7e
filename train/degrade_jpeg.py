"""JPEG compression as arithmetic: colour transform, 4:2:0, 8x8 cosine transform, quantisation, and back.

Batched on any device, with a quality of its own for every sample. Entropy coding loses nothing and is left out.
Source: ITU-T T.81 (tables of annex K) and the quality scaling of the Independent JPEG Group's software.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from train.degrade_ops import halve

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *((99,) * 8 for _ in range(4)),
)  # fmt: skip
TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


@lru_cache(maxsize=8)
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(cosine basis (8, 8), tables (2, 8, 8), to YCbCr (3, 3), to RGB (3, 3))."""
    basis = [
        [math.sqrt((1 if k == 0 else 2) / 8) * math.cos((2 * n + 1) * k * math.pi / 16) for n in range(8)]
        for k in range(8)
    ]
    rows = (basis, (LUMINANCE, CHROMINANCE), TO_YCBCR, TO_RGB)
    first, second, third, fourth = (torch.tensor(row, dtype=torch.float32, device=device) for row in rows)
    return first, second, third, fourth


def tables(quality: Tensor) -> Tensor:
    """Quantisation tables (B, 2, 8, 8), luminance and chrominance, for qualities (B,) in 1..100."""
    _, base, _, _ = _constants(quality.device)
    quality = quality.round().clamp(1, 100)
    scale = torch.where(quality < 50, torch.floor(5000 / quality), 200 - 2 * quality).view(-1, 1, 1, 1)
    return torch.floor((base * scale + 50) / 100).clamp(1, 255)


def _quantise(plane: Tensor, table: Tensor) -> Tensor:
    """Planes (B, C, H, W) of -128..127 through the quantised cosine transform with tables (B, 8, 8)."""
    basis, _, _, _ = _constants(plane.device)
    batch, channels, height, width = plane.shape
    blocks = plane.view(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    step = table.view(batch, 1, 1, 1, 8, 8)
    levels = torch.round(basis @ blocks @ basis.T / step)
    restored = basis.T @ (levels * step) @ basis
    return restored.transpose(3, 4).reshape(batch, channels, height, width)


def jpeg(image: Tensor, quality: Tensor, on: Tensor | None = None) -> Tensor:
    """``image`` (B, 3, H, W) in [0, 1], H and W multiples of 16, after JPEG of ``quality`` (B,) in 1..100.

    Samples that are not ``on`` (B,) bool stay as they are. The result is clamped and in steps of 1/255.
    """
    _, _, to_ycbcr, to_rgb = _constants(image.device)
    batch, _, height, width = image.shape
    levels = torch.round(image.clamp(0, 1) * 255)
    colours = (to_ycbcr @ levels.view(batch, 3, -1)).view(batch, 3, height, width)
    table = tables(quality)
    bright = _quantise(torch.round(colours[:, :1]) - 128, table[:, 0]) + 128
    chroma = _quantise(torch.round(halve(colours[:, 1:])), table[:, 1])
    chroma = functional.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    whole = torch.cat((bright, chroma), 1).view(batch, 3, -1)
    result = torch.round((to_rgb @ whole).view_as(image)).clamp(0, 255) / 255
    return result if on is None else torch.where(on.view(-1, 1, 1, 1), result, image)
