"""ResShift UNet (Yue et al. 2024), under its published key names, with the paper's text cross-attention.

The new spatial transformers live in ``text_blocks``, named after the block whose Swin layer they follow, so the
published keys stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from textsr.config import UNetConfig
from textsr.networks.attention import SpatialTransformer
from textsr.networks.layers import Upsample
from textsr.networks.swin import SwinLayer
from textsr.networks.timed import TimedBlock, TimedUNet


class ResBlock(TimedBlock):
    """Residual block whose second norm is scaled and shifted as the step has it."""

    def __init__(self, in_channels: int, out_channels: int, embed_dim: int, groups: int) -> None:
        super().__init__()
        self.modulation_size = 2 * out_channels
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, in_channels), nn.SiLU(), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embed_dim, 2 * out_channels))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, out_channels),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.skip_connection = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    @property
    def _second_norm(self) -> nn.GroupNorm:
        norm = self.out_layers[0]
        assert isinstance(norm, nn.GroupNorm)
        return norm

    def modulation(self, embedding: Tensor) -> Tensor:
        """Factors and summands of the second norm's channels, its own weights included: (T,E) -> (T,2 Cout)."""
        norm = self._second_norm
        scale, shift = self.emb_layers(embedding).chunk(2, dim=1)
        return torch.cat([norm.weight * (1 + scale), norm.bias * (1 + scale) + shift], dim=1)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x (B,Cin,H,W), modulation (B or 1, 2 Cout) -> (B,Cout,H,W)."""
        norm = self._second_norm
        factor, summand = modulation[:, :, None, None].chunk(2, dim=1)
        h = F.group_norm(self.in_layers(x), norm.num_groups, eps=norm.eps) * factor + summand
        for layer in list(self.out_layers)[1:]:
            h = layer(h)
        return self.skip_connection(x) + h


class Downsample(nn.Module):
    """3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C,H/2,W/2)."""
        return self.op(x)


class UNet(TimedUNet):
    """Predicts z_0 from the scaled z_t, the low-quality line at latent size, and the text."""

    def __init__(self, cfg: UNetConfig) -> None:
        super().__init__()
        self.cfg = cfg
        width = cfg.model_channels
        self.time_channels, self.embed_dim = width, 4 * width
        self.time_embed = nn.Sequential(
            nn.Linear(width, self.embed_dim), nn.SiLU(), nn.Linear(self.embed_dim, self.embed_dim)
        )
        self.text_blocks = nn.ModuleDict()
        seen = cfg.glyph_channels + cfg.prior_channels + cfg.painted_channels
        widths = self._build_down(cfg.latent_channels + cfg.lq_channels + seen)
        channels, last = widths[-1], len(cfg.channel_mult) - 1
        self.middle_block = nn.ModuleList(
            [self._res(channels, channels), SwinLayer(channels, 2**last, cfg), self._res(channels, channels)]
        )
        self._add_text("middle_block", channels)
        self._build_up(widths)
        output = nn.Conv2d(width, cfg.latent_channels, 3, padding=1)
        if cfg.prior_channels:  # a network that corrects an estimate starts by changing nothing
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)  # type: ignore[arg-type]
        self.out = nn.Sequential(nn.GroupNorm(cfg.norm_groups, width), nn.SiLU(), output)

    def _res(self, in_channels: int, out_channels: int) -> ResBlock:
        return ResBlock(in_channels, out_channels, self.embed_dim, self.cfg.norm_groups)

    def _add_text(self, name: str, channels: int) -> None:
        cfg = self.cfg
        if cfg.context_dim is not None:
            self.text_blocks[name] = SpatialTransformer(
                channels, cfg.context_dim, cfg.context_head_dim, cfg.norm_groups
            )

    def _build_down(self, in_channels: int) -> list[int]:
        cfg, channels = self.cfg, self.cfg.model_channels
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(in_channels, channels, 3, padding=1)])])
        widths = [channels]
        for level, mult in enumerate(cfg.channel_mult):
            for index in range(cfg.num_res_blocks):
                block = nn.ModuleList([self._res(channels, mult * cfg.model_channels)])
                channels = mult * cfg.model_channels
                if index == 0 and level in cfg.swin_levels:
                    block.append(SwinLayer(channels, 2**level, cfg))
                    self._add_text(f"input_blocks_{len(self.input_blocks)}", channels)
                self.input_blocks.append(block)
                widths.append(channels)
            if level < len(cfg.channel_mult) - 1:
                self.input_blocks.append(nn.ModuleList([Downsample(channels)]))
                widths.append(channels)
        return widths

    def _build_up(self, widths: list[int]) -> None:
        cfg, channels, skips = self.cfg, widths[-1], list(widths)
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(cfg.channel_mult))):
            width = cfg.channel_mult[level] * cfg.model_channels
            for index in range(cfg.num_res_blocks + 1):
                block = nn.ModuleList([self._res(channels + skips.pop(), width)])
                channels = width
                if index == 0 and level in cfg.swin_levels:
                    block.append(SwinLayer(channels, 2**level, cfg))
                    self._add_text(f"output_blocks_{len(self.output_blocks)}", channels)
                if level > 0 and index == cfg.num_res_blocks:
                    block.append(Upsample(channels))
                self.output_blocks.append(block)

    def _run(
        self, name: str, block: nn.Module, h: Tensor, modulations: Iterator[Tensor], context: Tensor | None
    ) -> Tensor:
        for layer in block.children():
            h = layer(h, next(modulations)) if isinstance(layer, ResBlock) else layer(h)
            if isinstance(layer, SwinLayer) and context is not None:
                h = self.text_blocks[name](h, context)
        return h

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        lq: Tensor,
        c_cond: Tensor | None = None,
        glyphs: Tensor | None = None,
        z_y: Tensor | None = None,
        modulations: Tensor | None = None,
        z_painted: Tensor | None = None,
    ) -> Tensor:
        """The output (B,C,h,w): z_0, or F of the estimate's correction where the preset has one.

        z_t (B,C,h,w) already scaled, t (B,) or (1,), lq (B,3,h,w), c_cond (B,24,D), glyphs (B,1,4h,4w), z_y and
        z_painted (B,C,h,w), the latents of the degraded line and of the same with what was read painted onto it.
        ``modulations`` (T,S) of steps 0..T-1, where they were made before: t is then a row of them.
        """
        inputs = [z_t, lq]
        if self.cfg.glyph_channels:
            assert glyphs is not None, "this preset's UNet reads the glyph canvas"
            inputs.append(F.pixel_unshuffle(glyphs, 4).to(z_t.dtype))
        if self.cfg.prior_channels:
            assert z_y is not None, "this preset's UNet reads z_y"
            inputs.append(z_y)
        if self.cfg.painted_channels:
            assert z_y is not None, "this preset's UNet reads the painted line"
            assert z_painted is not None, "this preset's UNet reads the painted line"
            inputs.append(z_painted - z_y)
        each = self._rows(t, modulations, z_t.dtype)
        h, skips = torch.cat(inputs, dim=1), []
        for index, block in enumerate(self.input_blocks):
            h = self._run(f"input_blocks_{index}", block, h, each, c_cond)
            skips.append(h)
        h = self._run("middle_block", self.middle_block, h, each, c_cond)
        for index, block in enumerate(self.output_blocks):
            h = self._run(f"output_blocks_{index}", block, torch.cat([h, skips.pop()], dim=1), each, c_cond)
        return self.out(h)
