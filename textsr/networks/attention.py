"""Spatial transformer of latent diffusion (Rombach et al. 2022): self-attention, text cross-attention, GEGLU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from textsr.networks.layers import attention


class CrossAttention(nn.Module):
    """Multi-head attention of pixels on a context (themselves where none is given); no bias in q, k, v."""

    def __init__(self, dim: int, context_dim: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = dim // head_dim, head_dim
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim, dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B,N,C), context (B,M,D) -> (B,N,C)."""
        split = (self.heads, self.head_dim)
        q, k, v = (
            layer(source).unflatten(-1, split).transpose(1, 2)
            for layer, source in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )  # (B,heads,N,d)
        out = attention(q * self.head_dim**-0.5, k, v)
        return self.to_out(out.transpose(1, 2).flatten(2))


class GEGLU(nn.Module):
    """Linear layer gated by the GELU of its second half (Shazeer 2020)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(...,dim) -> (...,hidden)."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU of four times the width; ``net.1`` is the published model's dropout of zero."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(...,dim) -> (...,dim)."""
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, pre-norm with residuals."""

    def __init__(self, dim: int, context_dim: int, head_dim: int) -> None:
        super().__init__()
        self.attn1 = CrossAttention(dim, dim, head_dim)
        self.ff = FeedForward(dim)
        self.attn2 = CrossAttention(dim, context_dim, head_dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B,N,C), context (B,M,D) -> (B,N,C)."""
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Pixels attend to themselves and to the text; ``proj_out`` starts at zero, so that a new one changes nothing."""

    def __init__(self, channels: int, context_dim: int, head_dim: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context_dim, head_dim)])
        self.proj_out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        assert self.proj_out.bias is not None
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (B,C,H,W), context (B,M,D) -> (B,C,H,W)."""
        height, width = x.shape[2], x.shape[3]
        h = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            h = block(h, context)
        return x + self.proj_out(h.transpose(1, 2).unflatten(2, (height, width)))


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters, buffers not counted."""
    return sum(torch.numel(parameter) for parameter in module.parameters())
