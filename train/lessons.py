"""What `train.ablations` trains its variants on: a plan, and the same batches for all of them, by their number."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textsr.checkpoint import load_weights, read_metadata
from textsr.config import ABLATIONS, preset
from textsr.errors import InputError
from textsr.graphs import Model
from train.diffusion import Corrupted, DiffusionStage
from train.harness import TrainConfig
from train.lines import Prefetch, line_batches

log = logging.getLogger(__name__)

FULL = "full"
VARIANTS: dict[str, tuple[str, ...]] = {FULL: (), **{name: (name,) for name in ABLATIONS}}
"""Names of the variants, and what each is trained without."""
CURRICULUM = "progressive-sampling"
WARMUP_STEPS = 50
SAVE_STEPS = {"cpu": 25, "cuda": 200}
"""Steps between saves, by kind of device; a run that is cut off goes on from the last with ``--resume``."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run of the command."""

    lines: int  # that every variant is trained on
    minutes: float | None  # the run ends here if it comes before the last line
    checkpoint: Path  # gives the autoencoder
    out: Path
    pool: Path
    val_pool: Path
    preset: str = "compact"
    batch_size: int = 8
    learning_rate: float = 4e-4
    seed: int = 0
    device: str = "cpu"
    processes: int = 1
    resume: bool = False
    variants: tuple[str, ...] = tuple(VARIANTS)

    @property
    def steps(self) -> int:
        """Optimiser steps of every variant."""
        return self.lines // self.batch_size

    @property
    def kind(self) -> str:
        """Of its device: cpu or cuda."""
        return torch.device(self.device).type

    def saves(self, steps: int) -> bool:
        """Whether all is saved after so many steps, besides at the end."""
        return steps % SAVE_STEPS[self.kind] == 0

    def start(self) -> int:
        """Steps that all variants have done; 0 without ``resume``. Raises InputError where there is no run."""
        if not self.resume:
            return 0
        files = [self.out / name / "model.safetensors" for name in self.variants]
        missing = [str(path) for path in files if not path.is_file()]
        if missing:
            raise InputError(f"--resume: no {missing[0]}; start without --resume")
        return min(json.loads(read_metadata(path)["training"])[-1]["progress"]["step"] for path in files)

    def config(self, name: str) -> TrainConfig:
        """The options of one variant, as a stage takes them and its checkpoint tells them."""
        return TrainConfig(
            stage="diffusion", preset=self.preset, minutes=self.minutes or 0.0, device=self.device, out=self.out / name,
            pool=self.pool, val_pool=self.val_pool, checkpoint=self.checkpoint, batch_size=self.batch_size,
            learning_rate=self.learning_rate, warmup_steps=WARMUP_STEPS, seed=self.seed, without=VARIANTS[name],
        )  # fmt: skip


@dataclass(frozen=True)
class Lesson:
    """A batch for all variants: as the curriculum degrades it, and from the camera alone; None where nobody asks."""

    index: int
    progress: float  # share of the plan's lines, in [0, 1]
    mixed: Corrupted | None
    camera: Corrupted | None


def whole_model(plan: Plan) -> Model:
    """The plan's preset with the checkpoint's autoencoder; the rest is random, from the plan's seed."""
    torch.manual_seed(plan.seed)
    model = Model(preset(plan.preset))
    load_weights(model.vqgan, plan.checkpoint, prefix="vqgan.")
    return model


class Lessons(DiffusionStage):
    """Makes the batches, each with a seed of its own."""

    def corrupt(self, lines: Any, index: int, progress: float) -> Corrupted:
        """Batch number ``index`` of ``lines`` at ``progress`` of the curriculum."""
        self.generator.manual_seed((self.cfg.seed << 32) + index)
        return self._corrupt(lines, progress)


def lessons(plan: Plan) -> Iterator[Lesson]:
    """The plan's batches that are still to do, until its lines or its minutes are spent; on a GPU made ahead."""
    if plan.kind == "cpu":
        return _lessons(plan)
    return Prefetch(lambda: _lessons(plan), device=torch.device(plan.device))


def _lessons(plan: Plan) -> Iterator[Lesson]:
    whole, begun, done, device = whole_model(plan), time.monotonic(), plan.start(), torch.device(plan.device)
    first = Lessons(whole, plan.config(FULL), device)
    mixed = first if set(plan.variants) - {CURRICULUM} else None
    camera = None
    if CURRICULUM in plan.variants:
        camera = Lessons(whole, plan.config(CURRICULUM), device)
        camera.cache = first.cache
    batches = line_batches(first.pool, first.noise, first.alphabet, plan.batch_size, np.random.default_rng(plan.seed))
    for index, lines in islice(enumerate(batches), done, plan.steps):
        if plan.minutes is not None and time.monotonic() - begun > 60 * plan.minutes:
            log.warning("%g minutes are over after %d of %d batches", plan.minutes, index, plan.steps)
            return
        progress = index / plan.steps
        made = (None if maker is None else maker.corrupt(lines, index, progress) for maker in (mixed, camera))
        yield Lesson(index, progress, *made)
