"""Networks in half precision, with what would lose too much left in float32. Changes modules in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from textsr.networks import transocr, vqgan
from textsr.networks.ldm import LDMUNet
from textsr.networks.mom import TextTransformer
from textsr.networks.tdm import TDM
from textsr.networks.unet import UNet

_NETWORKS: tuple[type[nn.Module], ...] = (
    *(UNet, LDMUNet, TextTransformer, TDM, vqgan.Encoder, vqgan.Decoder),
    *(transocr.Encoder, transocr.Decoder, transocr.Generator),
)
_ISLANDS = (transocr.LayerNorm, nn.BatchNorm2d)
"""Layers inside them that stay in float32: a sum of squares out of half's range, statistics of the training."""
_MARK = "_lowered_to"


def lower(modules: Iterable[nn.Module], dtype: torch.dtype) -> None:
    """Makes the networks among ``modules`` work in ``dtype``: float32 comes in and goes out at their borders.

    What lies between the networks stays in float32: the forward process's arithmetic (input scale, posterior, linear
    estimate), the quantiser with its codebook, the categorical posterior and its draw, the glyph canvas, the softmax of
    all attention (`textsr.networks.layers.attention`), time embeddings up to their first layer. Buffers are not
    converted. A second call with the same type changes nothing.
    """
    for network in _networks(modules):
        if getattr(network, _MARK, None) is dtype:
            continue
        setattr(network, _MARK, dtype)
        islands = {part for part in network.modules() if isinstance(part, _ISLANDS)}
        for part in network.modules():
            if part not in islands:
                for parameter in part.parameters(recurse=False):
                    parameter.data = parameter.data.to(dtype)
        for island in islands:
            _bordered(island, torch.float32, dtype)
        if isinstance(network, TDM):  # its time embedding is made in float32
            _bordered(network.transformer.mlp, dtype, dtype)
        _bordered(network, dtype, torch.float32)


def _networks(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Each network once, also where several graphs share it."""
    seen: set[nn.Module] = set()
    for module in modules:
        for part in module.modules():
            found: list[nn.Module] = [part.quant_conv, part.post_quant_conv] if isinstance(part, vqgan.VQGAN) else []
            if isinstance(part, _NETWORKS):
                found.append(part)
            for network in found:
                if network not in seen:
                    seen.add(network)
                    yield network


def _bordered(module: nn.Module, inner: torch.dtype, outer: torch.dtype) -> None:
    """Casts what goes in to ``inner`` and what comes out to ``outer``; vectors (a step, a time) go in as they are."""

    def enter(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            value.to(inner) if isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 1 else value
            for value in inputs
        )

    def leave(_: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output.to(outer)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)
