"""``python -m train.run``: trains a preset by the paper's Algorithm 1, or its autoencoder or diffusion alone."""

from __future__ import annotations

import argparse
import logging
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from textsr.checkpoint import WITHOUT, read_metadata, stated_preset
from textsr.checkpoint.stated import SCHEDULE
from textsr.config import ablated, preset
from textsr.errors import InputError, TextSRError
from textsr.graphs import Model
from train.autoencoder import AutoencoderStage
from train.diffusion import DiffusionStage
from train.distil import DistilStage
from train.distributed import Group, open_group
from train.harness import RunConfig, Stage, TrainConfig, Trainer
from train.options import config, parser
from train.paper import PaperStage
from train.paper_config import PaperConfig
from train.reader import ReaderStage
from train.start import load_start, starting_weights

log = logging.getLogger(__name__)


def new_model(cfg: RunConfig, start: Path | None, metadata: Mapping[str, str]) -> Model:
    """The preset's model with the weights of ``start``.

    Its schedule is the preset's, for which it is trained now, whatever the weights were made for; its recogniser is
    shown a line as the checkpoint says.
    """
    kept = {name: value for name, value in metadata.items() if name != SCHEDULE}
    whole = stated_preset(preset(cfg.preset), {name: value for name, value in kept.items() if name != WITHOUT})
    model = Model(ablated(whole, cfg.without))
    if start is not None:
        load_start(model, start, cfg.without)
    return model


def new_stage(cfg: RunConfig, model: Model, group: Group, metadata: Mapping[str, str]) -> Stage:
    """The stage of a run. Each process draws its share of a step's lines, and all else, from a stream of its own.

    :raises InputError: several processes cannot train this stage, or cannot share its batch.
    """
    if isinstance(cfg, PaperConfig):
        return PaperStage(model, cfg, group, metadata)
    assert isinstance(cfg, TrainConfig)
    if group.world > 1 and cfg.stage == "autoencoder":  # it replaces dead codes by what its own process saw
        raise InputError("--stage autoencoder trains in one process: start it with python -m train.run")
    if cfg.batch_size % group.world:
        raise InputError(f"--batch-size {cfg.batch_size} cannot be shared evenly by {group.world} processes")
    cfg = replace(cfg, batch_size=cfg.batch_size // group.world, seed=group.seed(cfg.seed))
    torch.manual_seed(cfg.seed)
    pooled: dict[str, Callable[..., Stage]] = {
        "autoencoder": AutoencoderStage,
        "diffusion": DiffusionStage,
        "distil": DistilStage,
    }
    return ReaderStage(cfg, group.device) if cfg.stage == "reader" else pooled[cfg.stage](model, cfg, group.device)


def train(given: argparse.Namespace, group: Group) -> None:
    """Runs the command. Raises TextSRError for what cannot be used, and for a loss that is not finite."""
    start = starting_weights(given)
    cfg = config(given)
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    torch.manual_seed(cfg.seed)
    np.random.seed(cfg.seed % 2**32)
    random.seed(cfg.seed)
    metadata = {} if start is None else read_metadata(start)
    model = new_model(cfg, None if cfg.stage == "reader" else start, metadata)  # the reader is no part of a model
    Trainer(new_stage(cfg, model, group, metadata), cfg, group).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    given = parser().parse_args(arguments)
    try:
        group = open_group(given.device)
        logging.getLogger().setLevel(logging.INFO if group.leads else logging.WARNING)
        try:
            train(given, group)
        finally:
            group.close()
    except TextSRError as error:
        sys.stderr.write(f"train.run: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
