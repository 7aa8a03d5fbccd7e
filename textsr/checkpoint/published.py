"""Networks from published state dicts, loaded strictly under their published names."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from textsr.checkpoint.files import held, require_fit
from textsr.config import PAPER, Preset
from textsr.errors import BundleError, InputError
from textsr.graphs import new_mom, new_tdm
from textsr.networks.transocr import TransOCR
from textsr.networks.unet import UNet
from textsr.networks.vqgan import VQGAN

logger = logging.getLogger(__name__)

TEXT_BLOCKS = "text_blocks."
"""The paper's new cross-attention in the UNet's names: a published ResShift checkpoint has none of it."""
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""
_OLD_AXIAL = re.compile(r"(axial_pos_emb\.weights)_(\d)$")


@dataclass(frozen=True)
class Kind:
    """A published network: how it is made, its name in `textsr.graphs.Model`, where it may lie in a larger file."""

    build: Callable[[Preset], nn.Module]
    child: str
    section: str | None = None  # its place in a file that holds several state dicts (DiffTSR.ckpt)
    optional: str | None = None  # prefix of tensors that may be absent; they keep their initial values


def _transocr(preset: Preset) -> nn.Module:
    if preset.transocr is None:
        raise InputError(f"preset {preset.name} has no TransOCR")
    return TransOCR(preset.transocr)


KINDS: dict[str, Kind] = {
    "resshift-unet": Kind(lambda preset: UNet(preset.unet), "unet", optional=TEXT_BLOCKS),
    "vqgan-f4": Kind(lambda preset: VQGAN(preset.vqgan), "vqgan"),
    "difftsr-mom": Kind(new_mom, "mom", section="MoM_module"),
    "difftsr-tdm": Kind(new_tdm, "tdm", section="TDM_Decoder"),
    "transocr": Kind(_transocr, "transocr"),
}


def from_published(kind: str, state_dict: Mapping[str, Any], preset: Preset = PAPER) -> nn.Module:
    """The network ``kind`` in float32, filled from its published state dict.

    ================  =========================================================================================
    kind              called as
    ================  =========================================================================================
    resshift-unet     ``net(z_t, t, lq)`` or ``net(z_t, t, lq, c_cond)``, z_t already scaled; its cross-attention
                      is new, and changes nothing until trained, where the state dict has none
    vqgan-f4          ``net.encode(image)``, ``net.decode(z)``, which quantises
    difftsr-mom       ``net(tokens, z_y, z_t, t, weights=None)`` -> (i_cond, c_cond)
    difftsr-tdm       ``net(tokens, t, i_cond)`` -> logits (B, 6736, 24)
    transocr          ``net(image, prefix)`` -> logits (B, L, 7937)
    ================  =========================================================================================

    A top-level ``state_dict``, the sections of DiffTSR.ckpt, the prefixes ``module.`` and ``_orig_mod.``, both
    spellings of TDM's axial positions and stored masks are understood (`unwrapped`).

    :param preset: whose sizes the network has; ``paper`` has the published ones.
    :raises InputError: the kind is unknown.
    :raises BundleError: the state dict does not fit; the message names missing, unexpected and misshapen tensors.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r}: choose one of {', '.join(KINDS)}")
    entry = KINDS[kind]
    return load_strictly(
        entry.build(preset), unwrapped(state_dict, entry.section), f"state dict of {kind}", optional=entry.optional
    )


def load_strictly(
    net: nn.Module, tensors: Mapping[str, Tensor], what: str, *, optional: str | None = None
) -> nn.Module:
    """Copies ``tensors`` into ``net`` and returns it for inference; see `require_fit` for what is refused."""
    require_fit(net, {name: tensor.shape for name, tensor in tensors.items()}, what, ADVICE, optional=optional)
    with torch.no_grad():
        for name, tensor in held(net).items():
            if name in tensors:  # all but an absent optional part
                tensor.copy_(tensors[name])
    return net.eval()


ADVICE = "is it another network's file, or one of another size?"


def unwrapped(state_dict: Mapping[str, Any], section: str | None = None) -> dict[str, Tensor]:
    """The tensors of a published file by their plain names, not copied.

    :param section: where a file holds several state dicts, the one wanted; ignored where there is no such entry.
    :raises BundleError: something in it is no tensor, or two tensors come to have one name.
    """
    inner: Any = state_dict
    for wrapper in (section, "state_dict"):
        if wrapper is not None and isinstance(inner.get(wrapper), Mapping):
            inner = inner[wrapper]
    found: dict[str, Tensor] = {}
    for key, value in inner.items():
        name = _plain(str(key))
        if not isinstance(value, Tensor):
            raise BundleError(f"{key!r} is a {type(value).__name__}, not a tensor: this is no state dict")
        if name in found:
            raise BundleError(f"two tensors come to have the name {name!r}")
        found[name] = value
    return found


def _plain(key: str) -> str:
    while key.startswith(PREFIXES):
        key = key.split(".", 1)[1]
    return _OLD_AXIAL.sub(r"\1.\2", key)
