"""What a run of `train.compact` is asked to do, and a stage that can be stopped between batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from train.harness import Stage
from train.plan import Clock

FAMILIES = 12
"""Chinese font families that rendering asks for at least."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `train.compact` was asked to do. Batch sizes and rates are those of one GPU unless given otherwise."""

    out: Path
    preset: str = "compact"
    minutes: float = 25.0
    call_minutes: float = 1e9
    checkpoint: Path | None = None
    pool: Path | None = None
    val_pool: Path | None = None
    publish: Path | None = None
    lines: int = 60000
    val_lines: int = 200
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    batch_size: int = 64
    crops: int = 128
    decode_lines: int | None = None
    rates: tuple[float, float, float] = (1.0e-3, 6e-4, 2e-4)  # autoencoder, diffusion, distillation
    save_minutes: float = 1.0
    families: int = FAMILIES


class Watched:
    """A stage whose batches end with CallOver when the clock says so, and whose saves are told of."""

    def __init__(self, stage: Stage, clock: Clock, saved: Callable[[Path], None]) -> None:
        self.stage, self.clock, self.saved = stage, clock, saved

    @property
    def model(self) -> nn.Module:
        """The stage's."""
        return self.stage.model

    def batches(self, step: int) -> Iterator[Any]:
        """The stage's, until the call is over."""
        for batch in self.stage.batches(step):
            self.clock.check()
            yield batch

    def loss(self, batch: Any, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The stage's."""
        return self.stage.loss(batch, progress)

    def samples(self, model: nn.Module, path: Path) -> dict[str, float]:
        """The stage's."""
        return self.stage.samples(model, path)

    def save(self, model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
        """The stage's; then whoever waits for weights is told."""
        self.stage.save(model, path, metadata)
        self.saved(path)
