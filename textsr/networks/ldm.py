"""Blocks of latent diffusion's UNet (Rombach et al. 2022) under its published key names, and the UNet itself.

MoM's small image UNet and DiffTSR's large one differ in sizes only: see `LDMUNet`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal

from torch import Tensor, cat, nn
from torch.nn import functional as F

from textsr.networks.layers import attention
from textsr.networks.timed import TimedBlock, TimedUNet

Resize = Literal["up", "down"] | None


def group_norm(channels: int, groups: int, eps: float = 1e-5) -> nn.GroupNorm:
    """GroupNorm with ``groups`` groups, or the most that divide both it and ``channels``."""
    return nn.GroupNorm(math.gcd(groups, channels), channels, eps=eps)


def _resized(x: Tensor, resize: Resize) -> Tensor:
    if resize == "up":
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    return F.avg_pool2d(x, 2) if resize == "down" else x


class ResBlock(TimedBlock):
    """Residual block with an additive time embedding; ``resize`` halves or doubles the map inside it."""

    def __init__(self, channels: int, embedded: int, out: int, groups: int, resize: Resize = None) -> None:
        super().__init__()
        self.modulation_size = out
        self.resize: Resize = resize
        self.in_layers = nn.Sequential(group_norm(channels, groups), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedded, out))
        self.out_layers = nn.Sequential(
            group_norm(out, groups), nn.SiLU(), nn.Identity(), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def modulation(self, embedding: Tensor) -> Tensor:
        """What is added to the map's channels: (T,E) -> (T,out)."""
        return self.emb_layers(embedding)

    def forward(self, x: Tensor, summand: Tensor) -> Tensor:
        """x (B,C,H,W), summand (B or 1,out) -> (B,out,H',W')."""
        h = self.in_layers[2](_resized(self.in_layers[1](self.in_layers[0](x)), self.resize))
        h = h + summand[:, :, None, None]
        return self.skip_connection(_resized(x, self.resize)) + self.out_layers(h)


class CrossAttention(nn.Module):
    """Multi-head attention to a context (or to itself), without bias but in the output."""

    def __init__(self, dim: int, context_dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.to_q = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_k = nn.Linear(context_dim, heads * head_dim, bias=False)
        self.to_v = nn.Linear(context_dim, heads * head_dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_dim, dim))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B,N,C), context (B,M,D) -> (B,N,C)."""
        q = split_heads(self.to_q(x) * self.head_dim**-0.5, self.heads)
        k, v = split_heads(self.to_k(context), self.heads), split_heads(self.to_v(context), self.heads)
        return self.to_out(merge_heads(attention(q, k, v)))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B,N,h*d) -> (B,h,N,d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B,h,N,d) -> (B,N,h*d)."""
    return x.transpose(1, 2).flatten(2)


class GEGLU(nn.Module):
    """Linear layer whose one half is multiplied by the exact GELU of the other (Shazeer 2020)."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., out)."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU to four times the width and back."""

    def __init__(self, dim: int, factor: int = 4) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(dim, factor * dim), nn.Identity(), nn.Linear(factor * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, attention to the context and feed-forward, each before a norm and beside a residual."""

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int) -> None:
        super().__init__()
        self.attn1 = CrossAttention(dim, dim, heads, head_dim)
        self.ff = FeedForward(dim)
        self.attn2 = CrossAttention(dim, context_dim, heads, head_dim)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B,N,C), context (B,M,D) -> (B,N,C)."""
        normed = self.norm1(x)
        x = x + self.attn1(normed, normed)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class MapTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map (latent diffusion's SpatialTransformer)."""

    def __init__(self, channels: int, heads: int, context_dim: int, groups: int, depth: int = 1) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, heads, channels // heads, context_dim) for _ in range(depth)
        )
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B,C,H,W), context (B,M,D) -> (B,C,H,W)."""
        size = x.shape[2:]
        h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            h = block(h, context)
        return x + self.proj_out(h.transpose(1, 2).unflatten(2, size))


class Stage(nn.ModuleList):
    """Layers of one step down or up, each called with what it needs."""

    def forward(self, x: Tensor, modulations: Iterator[Tensor], context: Tensor) -> Tensor:
        """x (B,C,H,W), modulations (B or 1,out) of this residual block and all later ones, context (B,M,D) ->
        (B,C',H',W')."""
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, next(modulations))
            else:
                x = layer(x, context) if isinstance(layer, MapTransformer) else layer(x)
        return x


class LDMUNet(TimedUNet):
    """UNet whose residual blocks also do the resizing; it attends to the context at ``attention_levels`` and below.

    MoM's: channels 32, mult (1, 2), no attention level, 4 heads. DiffTSR's denoiser (874M): channels 320, mult
    (1, 2, 3, 4), attention_levels (1, 2, 3), 8 heads, context 160.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        channels: int,
        mult: tuple[int, ...],
        res_blocks: int,
        attention_levels: Iterable[int],
        heads: int,
        context_dim: int,
        groups: int = 32,
    ) -> None:
        super().__init__()
        self.time_channels = channels
        emb = 4 * channels
        attends = frozenset(attention_levels)

        def block(before: int, after: int, resize: Resize = None) -> ResBlock:
            return ResBlock(before, emb, after, groups, resize)

        def attended(width: int, level: int) -> list[nn.Module]:
            return [MapTransformer(width, heads, context_dim, groups)] if level in attends else []

        self.time_embed = nn.Sequential(nn.Linear(channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        down, widths, width = [Stage([nn.Conv2d(in_channels, channels, 3, padding=1)])], [channels], channels
        for level, factor in enumerate(mult):
            for _ in range(res_blocks):
                down.append(Stage([block(width, factor * channels), *attended(factor * channels, level)]))
                width = factor * channels
                widths.append(width)
            if level + 1 < len(mult):
                down.append(Stage([block(width, width, "down")]))
                widths.append(width)
        self.input_blocks = nn.ModuleList(down)
        middle = MapTransformer(width, heads, context_dim, groups)
        self.middle_block = Stage([block(width, width), middle, block(width, width)])
        up = []
        for level, factor in reversed(list(enumerate(mult))):
            for place in range(res_blocks + 1):
                layers = [block(width + widths.pop(), factor * channels), *attended(factor * channels, level)]
                width = factor * channels
                if level and place == res_blocks:
                    layers.append(block(width, width, "up"))
                up.append(Stage(layers))
        self.output_blocks = nn.ModuleList(up)
        self.out = nn.Sequential(group_norm(width, groups), nn.SiLU(), nn.Conv2d(width, out_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, context: Tensor, modulations: Tensor | None = None) -> Tensor:
        """x (B,in,H,W), t (B,) or (1,) float, context (B,M,D) -> (B,out,H,W). H, W divide by 2 a level.

        ``modulations`` (T,S), where they were made before: t is then a row of them.
        """
        each, skips = self._rows(t, modulations, x.dtype), []
        for stage in self.input_blocks:
            x = stage(x, each, context)
            skips.append(x)
        x = self.middle_block(x, each, context)
        for stage in self.output_blocks:
            x = stage(cat([x, skips.pop()], dim=1), each, context)
        return self.out(x)
