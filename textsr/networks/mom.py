"""Mixture of multi-modality (MoM, DiffTSR): turns text into the UNet's context, and image and text into TDM's."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from textsr.config import MoMConfig
from textsr.networks.layers import attention
from textsr.networks.ldm import LDMUNet, merge_heads, split_heads

I_CONTEXT = 16
"""Tokens that the image condition is viewed as."""

MAX_CHARS = 24


def as_context(i_cond: Tensor) -> Tensor:
    """The image condition (B,C,h,w), contiguously, as TDM's context (B, 16, C*h*w / 16)."""
    return i_cond.flatten(1).unflatten(1, (I_CONTEXT, -1))


class SelfAttention(nn.Module):
    """Multi-head self-attention, without bias but in the output."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.to_q = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_k = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_v = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B,N,C) -> (B,N,C)."""
        q = split_heads(self.to_q(x) * self.head_dim**-0.5, self.heads)
        k, v = split_heads(self.to_k(x), self.heads), split_heads(self.to_v(x), self.heads)
        return self.to_out(merge_heads(attention(q, k, v)))


class FeedForward(nn.Module):
    """Four times the width with an exact GELU, and back."""

    def __init__(self, dim: int, factor: int = 4) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(dim, factor * dim), nn.GELU())
        self.net = nn.Sequential(first, nn.Identity(), nn.Linear(factor * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return self.net(x)


class PreNormLayers(nn.Module):
    """Attention and feed-forward in turn, each after a LayerNorm and beside a residual."""

    def __init__(self, config: MoMConfig) -> None:
        super().__init__()
        dim = config.context_dim
        layers: list[nn.Module] = []
        for _ in range(config.depth):
            for layer in (SelfAttention(dim, config.heads, config.head_dim), FeedForward(dim)):
                layers.append(nn.ModuleList([nn.LayerNorm(dim), layer]))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B,N,C) -> (B,N,C)."""
        for pair in self.layers:
            norm, layer = cast(nn.ModuleList, pair)
            x = x + layer(norm(x))
        return x


class Positions(nn.Module):
    """Learned positions, one a place."""

    def __init__(self, dim: int, places: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(places, dim)


class TextTransformer(nn.Module):
    """Tokens to the UNet's context; `forward` multiplies embeddings by their weights before positions are added."""

    def __init__(self, config: MoMConfig, symbols: int, max_chars: int) -> None:
        super().__init__()
        dim = config.context_dim
        self.token_emb = nn.Embedding(symbols, dim)
        self.pos_emb = Positions(dim, max_chars)
        self.attn_layers = PreNormLayers(config)
        self.norm = nn.LayerNorm(dim)
        self.to_logits = nn.Linear(dim, symbols) if config.unused_head else None
        nn.init.normal_(self.token_emb.weight, std=0.02)
        nn.init.normal_(self.pos_emb.emb.weight, std=0.02)

    def forward(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """tokens (B,N) int64, weights (B,N) in [0,1] -> (B,N,D)."""
        x = self.token_emb(tokens) * weights[..., None] + self.pos_emb.emb.weight[: tokens.shape[1]]
        return self.norm(self.attn_layers(x))


class TextBranch(nn.Module):
    """Holder that gives the text transformer its published name ``Transformer.transformer``."""

    def __init__(self, config: MoMConfig, symbols: int, max_chars: int) -> None:
        super().__init__()
        self.transformer = TextTransformer(config, symbols, max_chars)


class MoM(nn.Module):
    """MoM under its published key names. With weights of 1 it equals DiffTSR's."""

    def __init__(self, config: MoMConfig, symbols: int, latent_channels: int = 3, max_chars: int = MAX_CHARS) -> None:
        super().__init__()
        self.latent_scale = config.latent_scale
        self.first_embeder = nn.Embedding(symbols, config.token_dim)
        self.Unet = LDMUNet(
            in_channels=2 * latent_channels,
            out_channels=latent_channels,
            channels=config.image_channels,
            mult=config.image_mult,
            res_blocks=config.image_res_blocks,
            attention_levels=(),
            heads=config.image_heads,
            context_dim=config.token_dim,
            groups=config.norm_groups,
        )
        self.Transformer = TextBranch(config, symbols, max_chars)

    def text_condition(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """c_cond (B,N,D), the UNet's context. It depends on tokens (B,N) and weights (B,N) alone."""
        return self.Transformer.transformer(tokens, weights)

    def image_map(
        self, tokens: Tensor, weights: Tensor, z_y: Tensor, z_t: Tensor, t: Tensor, modulations: Tensor | None = None
    ) -> Tensor:
        """i_cond as a map (B,C,h,w), from text, latents (B,C,h,w) and time (B,) or (1,), see `LDMUNet`."""
        context = self.first_embeder(tokens) * weights[..., None]
        return self.Unet(torch.cat([z_y, z_t], dim=1) * self.latent_scale, t, context, modulations)

    def image_condition(
        self, tokens: Tensor, weights: Tensor, z_y: Tensor, z_t: Tensor, t: Tensor, modulations: Tensor | None = None
    ) -> Tensor:
        """i_cond as TDM's context (B, 16, C*h*w / 16); see `image_map`."""
        return as_context(self.image_map(tokens, weights, z_y, z_t, t, modulations))

    def forward(
        self, tokens: Tensor, z_y: Tensor, z_t: Tensor, t: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(i_cond as a map (B,C,h,w), c_cond (B,N,D)); ``weights`` default to 1 for every token."""
        if weights is None:
            weights = torch.ones(tokens.shape, dtype=z_y.dtype, device=tokens.device)
        return self.image_map(tokens, weights, z_y, z_t, t), self.text_condition(tokens, weights)
