"""The two networks that only DiffTSR has: its image denoiser and its KL autoencoder, under their published names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from textsr.config import PAPER, TINY, Preset, TransOCRConfig, VQGANConfig
from textsr.networks.ldm import LDMUNet
from textsr.networks.vqgan import Decoder, Encoder

LOG_VARIANCE = (-30.0, 20.0)
"""Range that the posterior's log-variance is clipped to."""


@dataclass(frozen=True, kw_only=True)
class IDMConfig:
    """Image denoiser: latent diffusion's UNet over [z_t, z_LR], 874,024,003 parameters by default."""

    channels: int = 320
    mult: tuple[int, ...] = (1, 2, 3, 4)
    res_blocks: int = 2
    attention_levels: tuple[int, ...] = (1, 2, 3)
    heads: int = 8


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Every size of the baseline; by default the published ones. The preset's own UNet and schedule are not used."""

    preset: Preset
    idm: IDMConfig = field(default_factory=IDMConfig)


FULL = Sizes(preset=replace(PAPER, name="difftsr", transocr=TransOCRConfig(preprocessing="difftsr")))
assert TINY.transocr is not None
SMALL = Sizes(
    preset=Preset(
        name="difftsr-small",
        height=32,
        width=128,
        fit="stretch",
        vqgan=VQGANConfig(ch=8, ch_mult=(1, 1, 2), num_res_blocks=1, norm_groups=4),
        mom=replace(TINY.mom, latent_scale=PAPER.mom.latent_scale),
        tdm=TINY.tdm,
        transocr=replace(TINY.transocr, preprocessing="difftsr"),
    ),
    idm=IDMConfig(channels=8, mult=(1, 2), res_blocks=1, attention_levels=(1,), heads=2),
)
"""For tests: the same networks in miniature, for lines of 32 x 128 pixels."""

SIZES = {"full": FULL, "small": SMALL}


def image_denoiser(sizes: Sizes = FULL) -> LDMUNet:
    """The image denoiser (IDM): ``net(cat[z_t, z_LR], t, context)`` -> eps, (B,C,h,w)."""
    channels, idm = sizes.preset.vqgan.z_channels, sizes.idm
    return LDMUNet(
        in_channels=2 * channels,
        out_channels=channels,
        channels=idm.channels,
        mult=idm.mult,
        res_blocks=idm.res_blocks,
        attention_levels=idm.attention_levels,
        heads=idm.heads,
        context_dim=sizes.preset.mom.context_dim,
    )


class KLAutoencoder(nn.Module):
    """KL-f4 autoencoder (Rombach et al. 2022), 55,312,063 parameters at full size."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        z = config.z_channels
        self.encoder = Encoder(config, 2 * z)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1)
        self.post_quant_conv = nn.Conv2d(z, z, 1)

    def encode(self, image: Tensor, noise: Tensor | None = None) -> Tensor:
        """Latent (B,C,H/4,W/4) of ``image`` (B,3,H,W), not scaled; DiffTSR feeds it images in [0,1].

        The posterior's mean, or its sample mean + exp(log-variance / 2) * noise with ``noise`` of the latent's shape.
        """
        mean, log_variance = self.quant_conv(self.encoder(image)).chunk(2, dim=1)
        if noise is None:
            return mean
        return mean + torch.exp(0.5 * log_variance.clamp(*LOG_VARIANCE)) * noise

    def decode(self, z: Tensor) -> Tensor:
        """Latent (B,C,h,w) -> image (B,3,4h,4w), not clamped."""
        return self.decoder(self.post_quant_conv(z))
