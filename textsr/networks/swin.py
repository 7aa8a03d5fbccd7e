"""Swin layer of the ResShift UNet, under its published key names (Liu et al. 2021; Yue et al. 2024).

Differences to the original Swin: the norms are group norms over the map, the MLP is of 1x1 convolutions, and a map
lower than the window is attended in windows of its own height with the bias taken at the same offsets.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from textsr.config import UNetConfig
from textsr.networks.layers import attention, traced

HIDDEN = -1000.0
"""Added to the scores of hidden places. Published code adds -100, whose probabilities are denormal numbers (e^-100): no
sum in float32 sees them, and they slow the product with the values to a quarter of its speed on CPUs. This gives 0."""


def relative_position_index(window: int) -> Tensor:
    """(window^2, window^2) int64: row of the bias table for each pair of places in a window."""
    ys, xs = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    places = torch.stack([ys.flatten(), xs.flatten()])
    offsets = places[:, :, None] - places[:, None, :] + window - 1
    return offsets[0] * (2 * window - 1) + offsets[1]


def shift_mask(height: int, width: int, window: tuple[int, int], shift: int) -> Tensor:
    """(windows, n, n): 0 where two places of a rolled map may attend to each other, else `HIDDEN`.

    The published weights were trained with this mask, found by matching their outputs: only the last row of windows is
    masked, and there by columns, not by rows. Other places see each other across the seam.
    """
    rows, columns = window
    right = (torch.arange(rows * columns) % columns >= columns - shift).float()
    mask = torch.zeros(height // rows, width // columns, rows * columns, rows * columns)
    mask[-1] = torch.where(right[None, :] == right[:, None], 0.0, HIDDEN)
    return mask.flatten(0, 1)


@lru_cache(maxsize=64)
@torch.inference_mode(mode=False)
def _kept_mask(height: int, width: int, window: tuple[int, int], shift: int, device: torch.device) -> Tensor:
    return shift_mask(height, width, window, shift).to(device)


def kept_mask(height: int, width: int, window: tuple[int, int], shift: int, device: torch.device) -> Tensor:
    """`shift_mask` on a device, made once. Who compiles the network has this function's result taken as a constant: a
    mark that a cached function does not bear."""
    return _kept_mask(height, width, window, shift, device)


def _mask(height: int, width: int, window: tuple[int, int], shift: int, x: Tensor) -> Tensor:
    """`shift_mask` on the device of ``x``, made once: a copy from the host would wait, and cannot be captured."""
    if traced(x):  # it is to hold the mask as a constant
        return shift_mask(height, width, window, shift).to(x.device)
    return kept_mask(height, width, window, shift, x.device)


class WindowAttention(nn.Module):
    """Multi-head attention in a window with a learned bias for each relative place."""

    relative_position_index: Tensor

    def __init__(self, cfg: UNetConfig) -> None:
        super().__init__()
        dim, self.window, self.head_dim = cfg.swin_embed_dim, cfg.window, cfg.swin_head_dim
        self.heads = dim // self.head_dim
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * self.window - 1) ** 2, self.heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(self.window))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def bias(self, window: tuple[int, int]) -> Tensor:
        """(heads, n, n) for a window of at most the full size."""
        size, (rows, columns) = self.window, window
        index = self.relative_position_index.view(size, size, size, size)[:rows, :columns, :rows, :columns]
        bias = self.relative_position_bias_table[index.reshape(-1)]
        return bias.view(rows * columns, rows * columns, -1).permute(2, 0, 1)

    def forward(self, x: Tensor, window: tuple[int, int], mask: Tensor | None) -> Tensor:
        """x (B, windows, n, C) -> the same shape; mask (windows, n, n)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).permute(3, 0, 1, 4, 2, 5)  # (3,B,win,heads,n,d)
        bias = self.bias(window)
        if mask is not None:
            bias = bias + mask[:, None]
        out = attention(qkv[0] * self.head_dim**-0.5, qkv[1], qkv[2], bias)
        return self.proj(out.transpose(2, 3).flatten(3))


class Mlp(nn.Module):
    """1x1 convolutions with exact GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C,H,W)."""
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Window attention and MLP, each after a norm and with a residual; odd blocks attend in shifted windows."""

    def __init__(self, cfg: UNetConfig, shift: int) -> None:
        super().__init__()
        self.window, self.shift = cfg.window, shift
        self.norm1 = nn.GroupNorm(cfg.norm_groups, cfg.swin_embed_dim)
        self.attn = WindowAttention(cfg)
        self.norm2 = nn.GroupNorm(cfg.norm_groups, cfg.swin_embed_dim)
        self.mlp = Mlp(cfg.swin_embed_dim, cfg.swin_embed_dim * cfg.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C,H,W)."""
        channels, height, width = x.shape[1:]
        rows, columns = min(self.window, height), min(self.window, width)
        h, mask = self.norm1(x), None
        if self.shift:
            h = torch.roll(h, (-self.shift, -self.shift), (2, 3))
            mask = _mask(height, width, (rows, columns), self.shift, x)
        tiles = h.unflatten(3, (-1, columns)).unflatten(2, (-1, rows)).permute(0, 2, 4, 3, 5, 1)  # (B,H/r,W/c,r,c,C)
        out = self.attn(tiles.flatten(3, 4).flatten(1, 2), (rows, columns), mask)
        out = out.view(-1, height // rows, width // columns, rows, columns, channels).permute(0, 5, 1, 3, 2, 4)
        out = out.reshape(-1, channels, height, width)
        if self.shift:
            out = torch.roll(out, (self.shift, self.shift), (2, 3))
        x = x + out
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """1x1 convolution between the map's width and the layer's."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B,Cin,H,W) -> (B,Cout,H,W)."""
        return self.proj(x)


class SwinLayer(nn.Module):
    """Blocks with alternating shifts. Its output replaces its input: there is no outer residual."""

    def __init__(self, channels: int, downsampling: int, cfg: UNetConfig) -> None:
        super().__init__()
        shift = cfg.window // 2 if cfg.nominal_size // downsampling > cfg.window else 0
        self.patch_embed = PatchEmbed(channels, cfg.swin_embed_dim)
        self.blocks = nn.ModuleList(SwinBlock(cfg, shift * (index % 2)) for index in range(cfg.swin_depth))
        self.patch_unembed = PatchEmbed(cfg.swin_embed_dim, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C,H,W)."""
        x = self.patch_embed(x)
        for block in self.blocks:
            x = block(x)
        return self.patch_unembed(x)
