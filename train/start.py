"""What a run starts from: the weights of a checkpoint, and of one whose network sees less."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from runtime.bundle import SHIPPED
from textsr.checkpoint import load_weights, read_metadata, shapes, stated_ablations
from textsr.errors import InputError
from textsr.graphs import Model

log = logging.getLogger(__name__)


def starting_weights(given: argparse.Namespace) -> Path | None:
    """The checkpoint to start from, None for random weights. Raises InputError: a diffusion without autoencoder."""
    if given.resume is not None:
        return Path(given.resume) / "model.safetensors"
    if given.checkpoint is not None or given.stage in ("autoencoder", "reader"):
        return given.checkpoint
    shipped = SHIPPED / given.preset / "weights.safetensors"
    if not shipped.exists():
        raise InputError(f"preset {given.preset} ships no autoencoder for --stage {given.stage}: give --checkpoint")
    log.info("starting from the shipped weights %s", shipped)
    return shipped


def load_start(model: Model, path: Path, without: Sequence[str]) -> None:
    """Fills ``model`` from a checkpoint; one that was trained without other parts gives its autoencoder alone."""
    stated = stated_ablations(read_metadata(path))
    if set(stated) == set(without):
        load_whole(model, path)
        return
    log.warning(
        "%s was trained without %s, this run is without %s: its autoencoder is taken, the rest is new",
        path, ", ".join(stated) or "nothing", ", ".join(without) or "nothing",
    )  # fmt: skip
    load_weights(model.vqgan, path, prefix="vqgan.")


def load_whole(model: Model, path: Path) -> None:
    """All weights; those of the painted line's inputs are zero where the checkpoint's network does not see it yet."""
    unet, first = model.preset.unet, "unet.input_blocks.0.0.weight"
    width = model.get_parameter(first).shape[1] - unet.painted_channels
    if not unet.painted_channels or shapes(path).get(first, ())[1:2] != (width,):
        load_weights(model, path)
        return
    log.warning("%s does not see the painted line yet: its inputs start with weights of zero", path)
    narrow = Model(replace(model.preset, unet=replace(unet, painted_channels=0)))
    load_weights(narrow, path)
    kept = narrow.state_dict()
    kept[first] = nn.functional.pad(kept[first], (0, 0, 0, 0, 0, unet.painted_channels))
    model.load_state_dict(kept)
