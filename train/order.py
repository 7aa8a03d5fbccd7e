"""Which line is a run's n-th sample, and which samples a process trains on at a step.

The order is that of one process whatever their number: sample n is the same line with the same random draws on any
rank, so a run that goes on elsewhere, or on more processes, meets what it would have met.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class Order:
    """Sample n = 0, 1, 2, ... of a run: every line once in a random order, then again in another."""

    def __init__(self, lines: int, seed: int) -> None:
        self.lines, self.seed = lines, seed
        self._epoch = lru_cache(maxsize=2)(self._permutation)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch]).permutation(self.lines)

    def __getitem__(self, sample: int) -> int:
        """The line's place in its dataset."""
        epoch, place = divmod(sample, self.lines)
        return int(self._epoch(epoch)[place])

    def __getstate__(self) -> dict[str, int]:
        return {"lines": self.lines, "seed": self.seed}

    def __setstate__(self, state: dict[str, int]) -> None:
        Order.__init__(self, state["lines"], state["seed"])


class Shares:
    """Endless lists of ``size`` samples, those of rank ``rank`` among ``world`` processes, from sample ``start`` on."""

    def __init__(self, start: int, size: int, rank: int = 0, world: int = 1) -> None:
        self.start, self.size, self.rank, self.world = start, size, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        first = self.start + self.rank * self.size
        while True:
            yield list(range(first, first + self.size))
            first += self.size * self.world
