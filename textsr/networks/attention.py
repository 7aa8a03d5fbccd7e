"""The text cross-attention that the paper puts after each Swin layer: latent diffusion's spatial transformer."""

from __future__ import annotations

import torch
from torch import nn

from textsr.networks.ldm import MapTransformer


class SpatialTransformer(MapTransformer):
    """Pixels attend to themselves and to the text; ``proj_out`` starts at zero, so that a new one changes nothing."""

    def __init__(self, channels: int, context_dim: int, head_dim: int, norm_groups: int) -> None:
        super().__init__(channels, channels // head_dim, context_dim, norm_groups)
        nn.init.zeros_(self.proj_out.weight)
        assert self.proj_out.bias is not None
        nn.init.zeros_(self.proj_out.bias)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters, buffers not counted."""
    return sum(torch.numel(parameter) for parameter in module.parameters())
