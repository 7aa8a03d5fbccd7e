"""DiffTSR's published networks: its image denoiser and autoencoder, and through `textsr.checkpoint` the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from benchmarks.difftsr.networks import FULL, KLAutoencoder, Sizes, image_denoiser
from textsr import checkpoint
from textsr.checkpoint.published import KINDS, load_strictly, unwrapped
from textsr.errors import InputError

OWN: dict[str, tuple[str, Callable[[Sizes], nn.Module]]] = {
    "difftsr-idm": ("IDM_Unet", image_denoiser),
    "difftsr-vae": ("VAE_model", lambda sizes: KLAutoencoder(sizes.preset.vqgan)),
}
"""Section of DiffTSR.ckpt and maker of the networks that only this baseline has. None of them has buffers."""


def from_published(
    kind: str,
    state_dict: Mapping[str, Any],
    sizes: Sizes = FULL,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """The network ``kind`` filled from its published state dict, or from the whole of DiffTSR.ckpt.

    ``difftsr-idm``: ``net(cat[z_t, z_LR], t, c_cond)`` -> eps; ``difftsr-vae``: ``net.encode(image, noise=None)``,
    ``net.decode(z)``. Every other kind is `textsr.checkpoint.from_published`'s, with the sizes of DiffTSR.

    :raises InputError: the kind is unknown.
    :raises BundleError: the state dict does not fit; the message names missing, unexpected and misshapen tensors.
    """
    if kind in OWN:
        section, build = OWN[kind]
        with torch.device("meta"):
            net = build(sizes)
        # Values go straight to where they are needed: 874 million initial ones would double time and memory.
        net = net.to(dtype).to_empty(device=device)
        return load_strictly(net, unwrapped(state_dict, section), f"state dict of {kind}")
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}: choose one of {', '.join((*OWN, *KINDS))}")
    return checkpoint.from_published(kind, state_dict, sizes.preset).to(device=device, dtype=dtype)
