"""Text diffusion decoder (TDM, DiffTSR): tokens of a step and the image condition to logits of the clean text."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from textsr.config import TDMConfig
from textsr.errors import InputError
from textsr.networks.layers import attention
from textsr.networks.ldm import merge_heads, split_heads
from textsr.networks.mom import as_context


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of linear cost: q softmax over features, k over the sequence (Shen et al. 2021). (B,h,N,d) each."""
    context = k.softmax(dim=-2).transpose(-1, -2) @ v
    return (q.softmax(dim=-1) * q.shape[-1] ** -0.5) @ context


class MixedAttention(nn.Module):
    """First heads local (softmax within a window and its two neighbours), the others linear over everything."""

    far: Tensor

    def __init__(self, dim: int, context_dim: int, heads: int, local_heads: int, window: int, length: int) -> None:
        super().__init__()
        self.heads, self.local_heads = heads, local_heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim, dim, bias=False)
        self.to_out = nn.Linear(dim, dim)
        place = torch.arange(length) // window
        far = (place[:, None] - place[None]).abs() > 1
        self.register_buffer("far", torch.zeros(length, length).masked_fill(far, -1e4), persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B,N,C), context (B,M,D) or None for x itself -> (B,N,C)."""
        context = x if context is None else context
        q, k, v = (split_heads(part, self.heads) for part in (self.to_q(x), self.to_k(context), self.to_v(context)))
        n = self.local_heads
        mixed = linear_attention(q[:, n:], k[:, n:], v[:, n:])
        if n:
            local = attention(q[:, :n] * q.shape[-1] ** -0.5, k[:, :n], v[:, :n], self.far)
            mixed = torch.cat([local, mixed], dim=1)
        return self.to_out(merge_heads(mixed))


class FeedForward(nn.Module):
    """Four times the width with an exact GELU, and back."""

    def __init__(self, dim: int, factor: int = 4) -> None:
        super().__init__()
        self.w1, self.act, self.w2 = nn.Linear(dim, factor * dim), nn.GELU(), nn.Linear(factor * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return self.w2(self.act(self.w1(x)))


class Named(nn.Module):
    """A function and, where it has one, the norm before it: the published names ``fn`` and ``norm``."""

    def __init__(self, fn: nn.Module, dim: int | None = None) -> None:
        super().__init__()
        self.fn = fn
        self.norm = nn.Identity() if dim is None else nn.LayerNorm(dim)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """The function of the normed input."""
        return self.fn(self.norm(x), *others)


class Pairs(nn.Module):
    """Self-attention and feed-forward, then cross-attention and feed-forward, each beside a residual."""

    def __init__(self, config: TDMConfig, context_dim: int, length: int) -> None:
        super().__init__()
        dim, heads, window = config.dim, config.heads, config.local_window
        own = MixedAttention(dim, dim, heads, config.local_heads, window, length)
        cross = MixedAttention(dim, context_dim, heads, 0, window, length)
        self.layers = nn.ModuleList(
            nn.ModuleList([Named(layer, dim), Named(Named(FeedForward(dim)), dim)]) for layer in (own, cross)
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B,N,C), context (B,M,D) -> (B,N,C)."""
        (own, first), (cross, second) = (cast(nn.ModuleList, pair) for pair in self.layers)
        x = x + own(x)
        x = x + first(x)
        x = x + cross(x, context)
        return x + second(x)


class Block(nn.Module):
    """Holder that gives a block its published name ``layers``."""

    def __init__(self, config: TDMConfig, context_dim: int, length: int) -> None:
        super().__init__()
        self.layers = Pairs(config, context_dim, length)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B,N,C), context (B,M,D) -> (B,N,C)."""
        return self.layers(x, context)


class AxialPositions(nn.Module):
    """Learned positions as the sum of a table over rows and one over columns."""

    def __init__(self, dim: int, shape: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = shape
        tables = (torch.randn(1, rows, 1, dim), torch.randn(1, 1, columns, dim))
        self.weights = nn.ParameterList(nn.Parameter(table) for table in tables)

    def forward(self) -> Tensor:
        """(1, rows * columns, dim)."""
        return (self.weights[0] + self.weights[1]).flatten(1, 2)


class TextDenoiser(nn.Module):
    """TDM's transformer; `TDM` puts the published ``rezero`` factor behind it."""

    frequencies: Tensor

    def __init__(self, config: TDMConfig, symbols: int, max_chars: int, context_dim: int) -> None:
        super().__init__()
        dim = config.dim
        self.dim, self.depth = dim, config.depth
        self.time_factor = config.time_rescale / config.time_steps
        self.first = nn.Embedding(symbols, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.Softplus(), nn.Linear(4 * dim, dim * config.depth))
        self.axial_pos_emb = AxialPositions(dim, config.axial_shape)
        blocks = nn.ModuleList(Block(config, context_dim, max_chars) for _ in range(config.depth))
        self.transformer_blocks = nn.ModuleList([blocks])
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, symbols)
        half = dim // 2
        frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000.0) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def modulations(self, t: Tensor) -> Tensor:
        """What times t (T,) add to the input of each block: (T, C depth), the blocks last. It needs no more."""
        angles = (t.float() * self.time_factor)[:, None] * self.frequencies[None]
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=-1))

    @property
    def modulation_size(self) -> int:
        """C depth."""
        return self.dim * self.depth

    def forward(self, tokens: Tensor, t: Tensor, context: Tensor, modulations: Tensor | None = None) -> Tensor:
        """tokens (B,N), t (B,), (1,) or (), context (B,M,D) -> (B,N,K).

        ``modulations`` (T, C depth), where they were made before: t is then a row of them.
        """
        t = t[None] if t.dim() == 0 else t
        rows = self.modulations(t) if modulations is None else modulations[t.long()]
        time = rows.to(self.norm.weight.dtype).unflatten(-1, (self.dim, self.depth))
        h = self.first(tokens) + self.axial_pos_emb()
        for place, block in enumerate(cast(nn.ModuleList, self.transformer_blocks[0])):
            h = block(h + time[:, None, :, place], context)
        return self.out(self.norm(h))


class Rezero(nn.Module):
    """A learned factor that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))


class TDM(nn.Module):
    """TDM under its published key names."""

    def __init__(self, config: TDMConfig, symbols: int, max_chars: int = 24, context_dim: int = 768) -> None:
        """Raises InputError when the axial shape does not hold ``max_chars`` places."""
        super().__init__()
        if math.prod(config.axial_shape) != max_chars:
            raise InputError(f"axial shape {config.axial_shape} does not make {max_chars} places")
        self.transformer = TextDenoiser(config, symbols, max_chars, context_dim)
        self.rezero = Rezero()

    def forward(self, tokens: Tensor, t: Tensor, i_cond: Tensor, modulations: Tensor | None = None) -> Tensor:
        """Logits (B,K,N) of the clean text.

        tokens (B,N) int64 of step t, t (B,) or (1,) float on the scale 0..999 (or a row of ``modulations``, see
        `TextDenoiser`), i_cond from MoM: (B,16,D), or the map (B,C,h,w) that is viewed so.
        """
        i_cond = as_context(i_cond) if i_cond.dim() == 4 else i_cond
        return (self.transformer(tokens, t, i_cond, modulations) * self.rezero.alpha).transpose(1, 2)
