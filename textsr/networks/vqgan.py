"""VQ-f4 autoencoder (Esser et al. 2021) under the key names of the published ``autoencoder_vq_f4``.

The quantiser generalises to a product of codebooks (``codebook_groups``), 1 in the published model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from textsr.config import VQGANConfig
from textsr.networks.layers import Upsample, attention


def _norm(channels: int, cfg: VQGANConfig) -> nn.Module:
    return nn.GroupNorm(cfg.norm_groups, channels, eps=1e-6) if cfg.norm_groups else nn.Identity()


class ResnetBlock(nn.Module):
    """Two normalised 3x3 convolutions with a residual; 1x1 shortcut where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, cfg: VQGANConfig) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels, cfg)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels, cfg)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # a new block changes nothing, which speeds up the first steps
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B,Cin,H,W) -> (B,Cout,H,W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class AttnBlock(nn.Module):
    """Single-head attention over all pixels."""

    def __init__(self, channels: int, cfg: VQGANConfig) -> None:
        super().__init__()
        self.norm = _norm(channels, cfg)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C,H,W)."""
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))  # (B,HW,C)
        out = attention(q * q.shape[-1] ** -0.5, k, v).transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(out)


class Middle(nn.Module):
    """Residual block, attention (if the preset has it), residual block."""

    def __init__(self, channels: int, cfg: VQGANConfig) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, cfg)
        self.attn_1 = AttnBlock(channels, cfg) if cfg.mid_attention else nn.Identity()
        self.block_2 = ResnetBlock(channels, channels, cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C,H,W)."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Downsample(nn.Module):
    """Zero padding right and below by one, then a 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C,H/2,W/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """Residual blocks of one resolution and the change to the next."""

    downsample: nn.Module  # at most one of the two is set, from outside, under its published name
    upsample: nn.Module

    def __init__(self, blocks: list[ResnetBlock]) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Blocks, then down- or upsampling if this level has one."""
        for block in self.block:
            x = block(x)
        if hasattr(self, "downsample"):
            return self.downsample(x)
        return self.upsample(x) if hasattr(self, "upsample") else x


class Encoder(nn.Module):
    """Image (B,3,H,W) -> (B,z,H/4,W/4), or as many channels as ``out_channels`` says (mean and variance, say)."""

    def __init__(self, cfg: VQGANConfig, out_channels: int | None = None) -> None:
        super().__init__()
        widths = [cfg.ch * mult for mult in cfg.ch_mult]
        self.conv_in = nn.Conv2d(3, cfg.ch, 3, padding=1)
        self.down = nn.ModuleList()
        channels = cfg.ch
        for index, width in enumerate(widths):
            blocks = [ResnetBlock(channels if i == 0 else width, width, cfg) for i in range(cfg.num_res_blocks)]
            level, channels = Level(blocks), width
            if index < len(widths) - 1:
                level.downsample = Downsample(width)
            self.down.append(level)
        self.mid = Middle(channels, cfg)
        self.norm_out = _norm(channels, cfg)
        self.conv_out = nn.Conv2d(channels, out_channels or cfg.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latent (B,z,H/4,W/4) -> image (B,3,H,W), not clamped."""

    def __init__(self, cfg: VQGANConfig) -> None:
        super().__init__()
        widths = [cfg.ch * mult for mult in cfg.ch_mult]
        channels = widths[-1]
        self.conv_in = nn.Conv2d(cfg.z_channels, channels, 3, padding=1)
        self.mid = Middle(channels, cfg)
        levels: list[Level] = []
        for index in reversed(range(len(widths))):
            width = widths[index]
            blocks = [ResnetBlock(channels if i == 0 else width, width, cfg) for i in range(cfg.num_res_blocks + 1)]
            level, channels = Level(blocks), width
            if index > 0:
                level.upsample = Upsample(width)
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)  # runs from the last to the first
        self.norm_out = _norm(channels, cfg)
        self.conv_out = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """See the class."""
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Quantizer(nn.Module):
    """Nearest code vector, for each group of channels on its own: argmin |e|^2 - 2 z.e (|z|^2 is the same for all)."""

    def __init__(self, cfg: VQGANConfig) -> None:
        super().__init__()
        self.groups = cfg.codebook_groups
        self.embedding = nn.Embedding(cfg.codes * self.groups, cfg.z_channels // self.groups)
        nn.init.normal_(self.embedding.weight)

    def codebooks(self) -> Tensor:
        """(groups, codes, z/groups)."""
        return self.embedding.weight.unflatten(0, (self.groups, -1))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (B,C,h,w) -> quantised z (B,C,h,w) and codes (B,groups,h,w) int64.

        Distances are float32 under autocast too: in bfloat16 a sixth of the latents goes to another code.
        """
        if not z.is_meta and torch.is_autocast_enabled(z.device.type):  # the meta device knows no autocast
            with torch.autocast(z.device.type, enabled=False):
                return self(z)
        height, width = z.shape[2], z.shape[3]
        flat = z.float().unflatten(1, (self.groups, -1)).flatten(3).transpose(2, 3)  # (B,g,hw,c)
        codes, quantised = [], []
        for group, book in enumerate(self.codebooks().float()):
            nearest = F.linear(flat[:, group], -2 * book, book.square().sum(-1)).argmin(-1)  # (B,hw)
            codes.append(nearest)
            quantised.append(F.embedding(nearest, book).transpose(1, 2))  # (B,c,hw)
        size = (height, width)
        return torch.cat(quantised, 1).unflatten(2, size), torch.stack(codes, 1).unflatten(2, size)


class VQGAN(nn.Module):
    """The autoencoder: ``encode`` gives the latent before quantisation, ``decode`` quantises."""

    def __init__(self, cfg: VQGANConfig) -> None:
        super().__init__()
        self.encoder = Encoder(cfg)
        self.decoder = Decoder(cfg)
        self.quantize = Quantizer(cfg)
        self.quant_conv = nn.Conv2d(cfg.z_channels, cfg.z_channels, 1)
        self.post_quant_conv = nn.Conv2d(cfg.z_channels, cfg.z_channels, 1)

    def encode(self, image: Tensor) -> Tensor:
        """Image (B,3,H,W) in [-1,1] -> latent (B,C,H/4,W/4), not quantised."""
        return self.quant_conv(self.encoder(image))

    def decode_codes(self, quantised: Tensor) -> Tensor:
        """Already quantised latent (B,C,h,w) -> image (B,3,4h,4w), not clamped."""
        return self.decoder(self.post_quant_conv(quantised))

    def decode(self, z: Tensor) -> Tensor:
        """Latent (B,C,h,w) -> image (B,3,4h,4w), not clamped. Gradients pass the quantiser straight through."""
        quantised, _ = self.quantize(z)
        if z.requires_grad:
            quantised = z + (quantised - z).detach()
        return self.decode_codes(quantised)
