"""Seconds a line: methods take turns, line by line and round after round, so that other work hits them all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from benchmarks.methods import Opened
from benchmarks.testset import TestLine

ROUNDS = 3
LINES = 12


@dataclass(frozen=True)
class Seconds:
    """Of one line alone, from array to array: the median, the 10th and 90th percentile, and of how many calls.

    ``cpu`` is the median of what all threads of this process worked: other work on the machine lengthens it least.
    """

    median: float
    low: float
    high: float
    cpu: float
    calls: int


@dataclass(frozen=True)
class Clocks:
    """What tells the time that passes, and the time that this process works."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time


def in_turn(
    methods: Mapping[str, Opened], lines: Sequence[TestLine], rounds: int = ROUNDS, clocks: Clocks | None = None
) -> dict[str, Seconds]:
    """Times every method on every line, one line a call. A first call of each is not counted."""
    clocks = clocks or Clocks()
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for method in methods.values() if lines else ():
        method.run([lines[0].lr])
    for line in tqdm([*lines] * rounds, desc="seconds a line", unit="line"):
        for name, method in methods.items():
            begin = clocks.wall(), clocks.cpu()
            method.run([line.lr])
            samples[name].append((clocks.wall() - begin[0], clocks.cpu() - begin[1]))
    return {name: _summary(found) for name, found in samples.items() if found}


def _summary(samples: Sequence[tuple[float, float]]) -> Seconds:
    wall, cpu = np.array(samples).T
    low, median, high = (float(value) for value in np.quantile(wall, (0.1, 0.5, 0.9)))
    return Seconds(median, low, high, float(np.median(cpu)), len(wall))
