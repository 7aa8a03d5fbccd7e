"""The glyph canvas: a reference glyph of each recognised character, drawn at its place as bright as it is sure; and the
same glyphs painted onto the line itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from textsr.atlas import load_packed
from textsr.config import GlyphConfig, Preset
from textsr.errors import InputError


def _trapezoid(distance: Tensor, shrink: Tensor) -> Tensor:
    """Resampling kernel at ``distance`` source pixels: a triangle when enlarging, wider by ``shrink`` > 1 when not.

    A box of the footprint's width convolved with a box of one source pixel, so that the weights always add up to 1.
    """
    return ((shrink + 1) / 2 - distance.abs()).clamp(0, 1) / shrink


class Painter(nn.Module):
    """Adds up glyphs in their colours: a module of its own, so that its products may be half precision where the places
    that they are taken at are not."""

    def forward(self, glyphs: Tensor, colours: Tensor, down: Tensor, across: Tensor) -> Tensor:
        """Bitmaps (B,N,size,size), colours (B,3,N,1,1), what is taken of them (B,N,size,H) and (B,N,size,W) ->
        (B,3,H,W)."""
        stretched = (down.transpose(2, 3) @ glyphs)[:, None] * colours  # (B, 3, N, H, size)
        return stretched.transpose(2, 3).flatten(3) @ across.flatten(1, 2)[:, None]


class GlyphCanvas(nn.Module):
    """Draws glyphs by a separable matrix product, so that every backend runs it. It has no parameters.

    The buffer ``atlas``, uint8 (symbols, size * size / 2), holds the packed bitmaps (`textsr.atlas`).
    """

    atlas: Tensor

    def __init__(self, preset: Preset) -> None:
        """Raises InputError when the preset has no canvas or only a size that two pixels a byte cannot hold."""
        super().__init__()
        config = preset.glyph
        if config is None or config.size % 2:
            raise InputError(f"preset {preset.name!r} has no glyph canvas with an even size of bitmaps")
        self.size, self.levels = config.size, config.levels
        self.height, self.width = preset.height, preset.width
        self.painter = Painter()
        self.register_buffer("atlas", _initial_atlas(preset.symbols, config))

    def bitmaps(self, tokens: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Grey bitmaps (B, N, size, size) in [0, 1] of token ids (B, N)."""
        packed = self.atlas[tokens].to(dtype)
        left = (packed / self.levels).floor()
        pairs = torch.stack([left, packed - self.levels * left], dim=-1)
        return pairs.reshape(*tokens.shape, self.size, self.size) / (self.levels - 1)

    def forward(
        self, tokens: Tensor, weights: Tensor, centres: Tensor, widths: Tensor, middles: Tensor, heights: Tensor
    ) -> Tensor:
        """tokens (B,N) int64, weights and places (B,N) (`textsr.reading.TextArrays`) -> (B,1,H,W) in [0,1].

        Where characters overlap their ink adds up. Padding and unknown characters have blank bitmaps.
        """
        across = self._taking(centres, widths, self.width).flatten(1, 2)  # (B, N * size, W)
        down = self._taking(middles, heights, self.height)  # (B, N, size, H)
        glyphs = self.bitmaps(tokens, weights.dtype) * weights[..., None, None]
        stretched = (down.transpose(2, 3) @ glyphs).permute(0, 2, 1, 3).flatten(2)  # (B, H, N * size)
        return (stretched @ across).clamp(0, 1)[:, None]

    def painted(
        self,
        image: Tensor,
        tokens: Tensor,
        centres: Tensor,
        widths: Tensor,
        middles: Tensor,
        heights: Tensor,
        contrasts: Tensor,
        softness: Tensor,
    ) -> Tensor:
        """image (B,3,H,W) with its characters sharpened: each gets its glyph in its contrast, less the same glyph as
        blurred as the line is.

        tokens and places (B,N), contrasts (B,N,3) and softness (B,1) as in `textsr.reading.TextArrays`; result clamped
        to [-1,1]. Zero contrasts give the image.
        """
        glyphs, colours = self.bitmaps(tokens, image.dtype), contrasts.transpose(1, 2)[..., None, None]
        sharp, soft = (
            self.painter(
                glyphs,
                colours,
                self._taking(middles, heights, self.height, blur),
                self._taking(centres, widths, self.width, blur),
            )
            for blur in (None, softness[..., None, None])
        )
        return (image + sharp - soft).clamp(-1, 1)

    def _taking(self, middles: Tensor, sizes: Tensor, count: int, blur: Tensor | None = None) -> Tensor:
        """(B,N) shares of ``count`` pixels -> (B, N, size, count): how much of a bitmap's pixel each pixel takes.

        ``blur`` (B,1,1,1): each takes the mean of so many pixels' width, at least of its own.
        """
        pixels = (sizes * count).clamp(min=1.0)[..., None, None]
        first = (middles * count)[..., None, None] - pixels / 2
        places = torch.arange(count, device=middles.device, dtype=middles.dtype) + 0.5
        source = torch.arange(self.size, device=middles.device, dtype=middles.dtype)[:, None] + 0.5
        step = self.size / pixels  # bitmap's pixels to one of the line
        footprint = step if blur is None else step * blur.clamp(min=1.0)
        return _trapezoid((places - first) * step - source, footprint.clamp(min=1.0))


def _initial_atlas(symbols: int, config: GlyphConfig) -> Tensor:
    """The shipped atlas where it fits the preset, else blank bitmaps for a checkpoint to fill."""
    packed = load_packed()
    if packed.shape == (symbols, config.size * config.size // 2):
        return torch.tensor(packed)
    return torch.zeros(symbols, config.size * config.size // 2, dtype=torch.uint8)
