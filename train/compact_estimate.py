"""What the training parts of `train.compact` keep in memory, measured on two lines and on four."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from textsr.config import preset
from textsr.errors import InputError
from textsr.graphs import Model
from train.compact_options import Options
from train.decoded import DecodedStage
from train.distil import DistilStage
from train.footprint import Footprint, measure
from train.harness import TrainConfig
from train.lines import line_batches

FEW, MANY = 2, 4
"""Lines of the two batches that are compared."""


def footprints(options: Options) -> dict[str, tuple[int, Footprint]]:
    """By part, the lines of its batch and its footprint: one training step each on the CPU, nothing is trained.

    :raises InputError: no pools are given.
    """
    if options.pool is None:
        raise InputError("--estimate needs lines to work on: give --pool and --val-pool")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, stage in (("diffusion", DecodedStage), ("distil", DistilStage)):
            cfg = TrainConfig(
                stage=name, preset=options.preset, minutes=1.0, device="cpu", out=Path(folder), pool=options.pool,
                val_pool=options.val_pool or options.pool, seed=options.seed,
            )  # fmt: skip
            torch.manual_seed(options.seed)
            made = stage(Model(preset(options.preset)), cfg, torch.device("cpu"), decode_lines=options.decode_lines)
            batches = {}
            for count in (FEW, MANY):
                rng = np.random.default_rng(options.seed)
                lines = next(line_batches(made.pool, made.noise, made.alphabet, count, rng))
                batches[count] = made._corrupt(lines, 0.5)
            frozen = [made.full.vqgan, made.perceptual, made.recognizer]
            frozen += [made.teacher] if isinstance(made, DistilStage) and made.teacher is not None else []
            found[name] = (options.batch_size, measure(made, batches, *frozen))
    return found
