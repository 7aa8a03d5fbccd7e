"""Checkpoints: one safetensors file under torch's names, metadata as strings. Nothing is ever unpickled here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from textsr.config import Preset
from textsr.errors import BundleError

log = logging.getLogger(__name__)

CONSTRUCTED = ("relative_position_index", "attn_mask", "num_batches_tracked", "pe.pe")
"""Buffers that a network builds itself: a checkpoint may hold them or not, they are not read."""


def state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of ``model`` that a checkpoint holds, by name, contiguous."""
    return {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if not k.endswith(CONSTRUCTED)}


def save_model(
    model: nn.Module,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    *,
    parts: Mapping[str, nn.Module] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes ``model`` with floating tensors as ``dtype``; ``parts`` replaces children by name (averaged weights, say).

    The file appears complete or not at all.
    """
    tensors = state(model)
    for name, part in (parts or {}).items():
        tensors |= {f"{name}.{k}": v for k, v in state(part).items()}
    tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    unfinished = path.with_name(f".{path.name}.unfinished")
    save_file(tensors, unfinished, {"format": "textsr", **(metadata or {})})
    unfinished.replace(path)


def read_metadata(path: Path) -> dict[str, str]:
    """The strings stored beside the tensors of a checkpoint. Raises BundleError where the file cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise BundleError(f"checkpoint {path} cannot be read: {error}") from error


def load_weights(model: nn.Module, path: Path, *, prefix: str = "") -> None:
    """Fills ``model`` from the tensors under ``prefix``, strictly; BundleError names what is missing or misshapen."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {k.removeprefix(prefix): file.get_tensor(k) for k in file.keys() if k.startswith(prefix)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"checkpoint {path} cannot be read: {error}; give a safetensors file written by train.run"
        ) from error
    wanted = state(model)
    missing = sorted(wanted.keys() - tensors.keys())
    extra = sorted(k for k in tensors.keys() - wanted.keys() if not k.endswith(CONSTRUCTED))
    shapes = [
        f"{k} {tuple(tensors[k].shape)} not {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in tensors and tensors[k].shape != v.shape
    ]
    if missing or extra or shapes:
        raise BundleError(
            f"checkpoint {path} does not fit this preset: missing {missing[:3]} ({len(missing)}), "
            f"unexpected {extra[:3]} ({len(extra)}), other shapes {shapes[:3]} ({len(shapes)}); check --preset"
        )
    with torch.no_grad():
        for name, parameter in model.state_dict().items():
            if name in wanted:
                parameter.copy_(tensors[name])


def load_model(path: Path | None, preset: Preset, seed: int = 0) -> nn.Module:
    """The model of ``preset``, from a checkpoint, or with random weights of ``seed`` where ``path`` is None.

    Random weights are for tests, so the UNet's output convolution is random too, though training starts it at zero.
    """
    from textsr.graphs import Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(preset)
        if path is None:
            output = model.unet.out[2]
            assert isinstance(output, nn.Conv2d)
            output.reset_parameters()
    if path is not None:
        load_weights(model, path)
    return model.eval()
