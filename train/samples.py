"""Lines of a data set as numbered samples on the host, batch by batch: what Algorithm 1 trains on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from textsr.alphabet import Alphabet
from textsr.config import SCALE, Preset
from textsr.errors import InputError
from textsr.reading import TextArrays
from train.data import Dataset, Line, sound
from train.lines import true_arrays
from train.order import Order, Shares


@dataclass(frozen=True)
class Samples:
    """B lines on the host.

    numbers (B,) int64, each sample's place in the run, which decides its random draws; images (B,H,W,3) uint8; real
    (B,h,w,3) uint8, the low-resolution picture where ``has_real`` (B,) says that there is one; filled (B,) float32, the
    share of the width that shows the line; texts as labelled; truth, the same as arrays (B,24); names of the records.
    """

    numbers: Tensor
    images: Tensor
    real: Tensor
    has_real: Tensor
    filled: Tensor
    texts: tuple[str, ...]
    truth: TextArrays
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.numbers)


def collate(lines: Sequence[tuple[int, Line]], preset: Preset, alphabet: Alphabet) -> Samples:
    """Numbered lines as a batch."""
    found = [line for _, line in lines]
    none = np.zeros((preset.height // SCALE, preset.width // SCALE, 3), np.uint8)
    return Samples(
        torch.tensor([number for number, _ in lines], dtype=torch.int64),
        torch.from_numpy(np.stack([line.image for line in found])),
        torch.from_numpy(np.stack([none if line.lr is None else line.lr for line in found])),
        torch.tensor([line.lr is not None for line in found]),
        torch.tensor([line.width / preset.width for line in found], dtype=torch.float32),
        tuple(line.text for line in found),
        true_arrays(found, np.arange(len(found)), alphabet),
        tuple(f"{line.source}: {line.name}" for line in found),
    )


class _Numbered(TorchDataset[tuple[int, Line]]):
    """Sample n with the line that the order has for it, or the next one that can be read."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.order = dataset, Order(len(dataset), seed)

    def __getitem__(self, number: int) -> tuple[int, Line]:
        return number, sound(self.dataset, self.order[number])


class _Spread(Protocol):
    """What of a run spreads its samples; see `train.harness.RunConfig`."""

    @property
    def batch_size(self) -> int: ...

    @property
    def accumulate(self) -> int: ...

    @property
    def seed(self) -> int: ...

    @property
    def workers(self) -> int: ...


def micro_batch(cfg: _Spread, world: int) -> int:
    """Samples that a process takes at a time. Raises InputError where a step's cannot be shared evenly."""
    shares = world * cfg.accumulate
    if cfg.batch_size % shares or cfg.batch_size < 1:
        raise InputError(
            f"--batch-size {cfg.batch_size} is shared by {world} processes with --accumulate {cfg.accumulate}: give a "
            f"multiple of {shares}"
        )
    return cfg.batch_size // shares


def sample_batches(
    dataset: Dataset, preset: Preset, alphabet: Alphabet, cfg: _Spread, step: int, *, rank: int = 0, world: int = 1
) -> Iterator[Samples]:
    """Endless micro-batches of a process from optimiser step ``step`` on, read ahead by ``cfg.workers`` processes.

    Raises InputError where the data set is empty or a step's samples cannot be shared evenly.
    """
    if len(dataset) == 0:
        raise InputError(f"{dataset.source}: no line to train on; see python -m train.inspect")
    shares: Any = Shares(step * cfg.batch_size, micro_batch(cfg, world), rank, world)
    loader = DataLoader(
        _Numbered(dataset, cfg.seed),
        batch_sampler=shares,
        num_workers=cfg.workers,
        collate_fn=partial(collate, preset=preset, alphabet=alphabet),
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # so that torch's own generator is left alone
    )
    return iter(loader)
