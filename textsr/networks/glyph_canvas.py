"""The glyph canvas: a reference glyph of each recognised character, drawn at its place as bright as it is sure."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from textsr.atlas import load_packed
from textsr.config import GlyphConfig, Preset
from textsr.errors import InputError

GLYPH_SHARE = 0.86
"""Height of an em as a share of the line's height; the em box stands in the middle."""


def _trapezoid(distance: Tensor, shrink: Tensor) -> Tensor:
    """Resampling kernel at ``distance`` source pixels: a triangle when enlarging, wider by ``shrink`` > 1 when not.

    A box of the footprint's width convolved with a box of one source pixel, so that the weights always add up to 1.
    """
    return ((shrink + 1) / 2 - distance.abs()).clamp(0, 1) / shrink


class GlyphCanvas(nn.Module):
    """Draws glyphs by a separable matrix product, so that every backend runs it. It has no parameters.

    The buffer ``atlas``, uint8 (symbols, size * size / 2), holds the packed bitmaps (`textsr.atlas`).
    """

    atlas: Tensor
    vertical: Tensor

    def __init__(self, preset: Preset) -> None:
        """Raises InputError when the preset has no canvas or only a size that two pixels a byte cannot hold."""
        super().__init__()
        config = preset.glyph
        if config is None or config.size % 2:
            raise InputError(f"preset {preset.name!r} has no glyph canvas with an even size of bitmaps")
        self.size, self.levels = config.size, config.levels
        self.height, self.width = preset.height, preset.width
        self.register_buffer("atlas", _initial_atlas(preset.symbols, config))
        em = GLYPH_SHARE * self.height
        rows = (torch.arange(self.height) + 0.5 - (self.height - em) / 2) * (self.size / em) - 0.5
        shrink = torch.tensor(max(1.0, self.size / em))
        vertical = _trapezoid(rows[:, None] - torch.arange(self.size), shrink)
        self.register_buffer("vertical", vertical, persistent=False)

    def bitmaps(self, tokens: Tensor) -> Tensor:
        """Grey bitmaps (B, N, size, size) in [0, 1] of token ids (B, N)."""
        packed = self.atlas[tokens].to(self.vertical.dtype)
        left = (packed / self.levels).floor()
        pairs = torch.stack([left, packed - self.levels * left], dim=-1)
        return pairs.reshape(*tokens.shape, self.size, self.size) / (self.levels - 1)

    def forward(self, tokens: Tensor, weights: Tensor, centres: Tensor, widths: Tensor) -> Tensor:
        """tokens (B,N) int64, weights, centres and widths (B,N) as shares of W -> (B,1,H,W) in [0,1].

        Where characters overlap the brighter one shows. Padding and unknown characters have blank bitmaps.
        """
        pixels = (widths * self.width).clamp(min=1.0)[..., None, None]
        left = (centres * self.width)[..., None, None] - pixels / 2
        columns = torch.arange(self.width, device=tokens.device, dtype=widths.dtype) + 0.5
        source = torch.arange(self.size, device=tokens.device, dtype=widths.dtype)[:, None] + 0.5
        shrink = (self.size / pixels).clamp(min=1.0)
        horizontal = _trapezoid((columns - left) * (self.size / pixels) - source, shrink)  # (B, N, size, W)
        bands = (self.bitmaps(tokens) * weights[..., None, None]) @ horizontal
        # The maximum is taken at the bitmaps' height: a third of the memory and of the work, and the same picture.
        return (self.vertical @ bands.amax(dim=1))[:, None]


def _initial_atlas(symbols: int, config: GlyphConfig) -> Tensor:
    """The shipped atlas where it fits the preset, else blank bitmaps for a checkpoint to fill."""
    packed = load_packed()
    if packed.shape == (symbols, config.size * config.size // 2):
        return torch.tensor(packed)
    return torch.zeros(symbols, config.size * config.size // 2, dtype=torch.uint8)
