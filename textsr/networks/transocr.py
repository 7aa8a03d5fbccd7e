"""TransOCR (FudanVI): a recogniser of one residual encoder and one decoder layer, under its published key names."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from textsr.config import TransOCRConfig
from textsr.networks.layers import attention
from textsr.networks.ldm import merge_heads, split_heads

START = 0
"""Class 0 starts a text; the last class ends it."""

PLACES = 7000
"""Positions that the published checkpoint holds; a text has at most 24."""

LONGEST = 64


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a residual, which passes a 3x3 convolution where the width changes."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out)
        changes = channels != out
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out)) if changes else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,out,H,W)."""
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(h + (x if self.downsample is None else self.downsample(x)))


def _layer(channels: int, out: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(BasicBlock(channels if place == 0 else out, out) for place in range(blocks)))


class Encoder(nn.Module):
    """ResNet that shrinks a line sixteenfold: (B,3,32,256) to (B,1024,2,16)."""

    def __init__(self, config: TransOCRConfig) -> None:
        super().__init__()
        a, b, c, d, e = config.widths
        self.conv1, self.bn1 = nn.Conv2d(3, a, 3, padding=1), nn.BatchNorm2d(a)
        self.conv2, self.bn2 = nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b)
        self.layer1 = _layer(b, c, config.blocks[0])
        self.layer1_conv, self.layer1_bn = nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c)
        self.layer2 = _layer(c, c, config.blocks[1])
        self.layer2_conv, self.layer2_bn = nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c)
        self.layer3 = _layer(c, d, config.blocks[2])
        self.layer3_conv, self.layer3_bn = nn.Conv2d(d, d, 3, padding=1), nn.BatchNorm2d(d)
        self.layer4 = _layer(d, d, config.blocks[3])
        self.layer4_conv2, self.layer4_conv2_bn = nn.Conv2d(d, e, 3, padding=1), nn.BatchNorm2d(e)

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) -> (B,e,H/16,W/16)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.max_pool2d(F.relu(self.layer1_bn(self.layer1_conv(self.layer1(x)))), 2)
        x = F.max_pool2d(F.relu(self.layer2_bn(self.layer2_conv(self.layer2(x)))), 2)
        x = F.relu(self.layer3_bn(self.layer3_conv(self.layer3(x))))
        return F.relu(self.layer4_conv2_bn(self.layer4_conv2(self.layer4(x))))


class Attention(nn.Module):
    """Multi-head attention; ``linears`` are query, key, value and output."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.linears = nn.ModuleList(nn.Linear(dim, dim) for _ in range(4))
        self.compress_attention_linear = nn.Linear(heads, 1)  # in the published checkpoint, but not used

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        """x (B,L,D), context (B,M,D), bias (L,M) added before the softmax -> (B,L,D)."""
        q, k, v = (
            split_heads(linear(part), self.heads)
            for linear, part in zip(self.linears, (x, context, context), strict=False)
        )
        mixed = attention(q * q.shape[-1] ** -0.5, k, v, bias)
        return self.linears[3](merge_heads(mixed))


class LayerNorm(nn.Module):
    """Normalisation by the unbiased deviation, with epsilon added to the deviation and not to the variance."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.a_2, self.b_2, self.eps = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim)), eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().sum(dim=-1, keepdim=True) / (x.shape[-1] - 1)
        return self.a_2 * centred / (variance.sqrt() + self.eps) + self.b_2


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(dim, inner), nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.w_2(F.relu(self.w_1(x)))


class Decoder(nn.Module):
    """One post-norm layer: causal self-attention, attention to the image, feed-forward."""

    causal: Tensor

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.mask_multihead, self.mul_layernorm1 = Attention(dim, heads), LayerNorm(dim)
        self.multihead, self.mul_layernorm2 = Attention(dim, heads), LayerNorm(dim)
        self.pff, self.mul_layernorm3 = FeedForward(dim, inner), LayerNorm(dim)
        causal = torch.full((LONGEST, LONGEST), -1e4).triu(1)
        self.register_buffer("causal", causal, persistent=False)

    def forward(self, text: Tensor, features: Tensor) -> Tensor:
        """text (B,L,D) with L <= 64, features (B,M,D) -> (B,L,D)."""
        length = text.shape[1]
        x = self.mul_layernorm1(text + self.mask_multihead(text, text, self.causal[:length, :length]))
        x = self.mul_layernorm2(x + self.multihead(x, features))
        return self.mul_layernorm3(x + self.pff(x))


class Embedding(nn.Module):
    """Symbol embedding times the root of its width."""

    def __init__(self, symbols: int, dim: int) -> None:
        super().__init__()
        self.lut, self.scale = nn.Embedding(symbols, dim), math.sqrt(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B,L) -> (B,L,D)."""
        return self.lut(tokens) * self.scale


class Positions(nn.Module):
    """Table of sines (even columns) and cosines (odd columns), (1, 7000, D)."""

    pe: Tensor
    used: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        angles = torch.arange(PLACES)[:, None] * torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        self.register_buffer("pe", torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[None])
        self.register_buffer("used", self.pe[:, :LONGEST].clone(), persistent=False)  # all that a graph has to hold


class Generator(nn.Module):
    """Projection to the classes."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., classes)."""
        return self.proj(x)


class TransOCR(nn.Module):
    """The recogniser. Class 0 starts a text and the last class ends it."""

    def __init__(self, config: TransOCRConfig) -> None:
        super().__init__()
        dim = 2 * config.embed_dim
        self.embedding_word = Embedding(config.classes, config.embed_dim)
        self.pe = Positions(config.embed_dim)
        self.encoder = Encoder(config)
        self.decoder = Decoder(dim, config.heads, config.ff_dim)
        self.generator_word = Generator(dim, config.classes)

    def encode(self, image: Tensor) -> Tensor:
        """image (B,3,32,256) as the weights expect it -> features (B,32,1024), one row after the other."""
        return self.encoder(image).flatten(2).transpose(1, 2)

    def decode(self, features: Tensor, prefix: Tensor) -> Tensor:
        """Hidden states (B,L,1024) of ``prefix`` (B,L) int64, which begins with class 0."""
        words = self.embedding_word(prefix)
        places = self.pe.used[:, : prefix.shape[1]].expand_as(words)
        return self.decoder(torch.cat([words, places], dim=-1), features)

    def step(self, features: Tensor, prefix: Tensor) -> Tensor:
        """Logits (B,classes) of the symbol after ``prefix`` (B,L)."""
        return self.generator_word(self.decode(features, prefix)[:, -1])

    def forward(self, image: Tensor, prefix: Tensor) -> Tensor:
        """Teacher-forced logits (B,L,classes): of the symbol after each place of ``prefix`` (B,L)."""
        return self.generator_word(self.decode(self.encode(image), prefix))
