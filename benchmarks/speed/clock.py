"""What times a line: an executor that adds up its graphs, the seconds of a call, and what is made of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textsr.describe import EVERY_STEP, SAMPLED
from textsr.errors import InputError
from textsr.loop import Executor

Clock = Callable[[], float]
"""Seconds from any beginning."""
REST = "the rest (fitting, noise, transfers, cutting back)"


@dataclass(frozen=True)
class Sample:
    """Seconds a line of one call, all its steps counted, and of its parts; ``run`` is what really passed."""

    seconds: float
    run: float
    parts: Mapping[str, float] = field(default_factory=dict)


class TimedExecutor:
    """An executor that adds up the seconds of each graph, its results waited for."""

    def __init__(self, inner: Executor, clock: Clock = time.perf_counter) -> None:
        self._inner, self._clock, self.name = inner, clock, inner.name
        self.seconds: dict[str, float] = {}

    def put(self, array: NDArray[Any]) -> Any:
        """As the inner one."""
        return self._inner.put(array)

    def get(self, handle: Any) -> NDArray[Any]:
        """As the inner one."""
        return self._inner.get(handle)

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """As the inner one, timed. On a GPU reading one result back is what waits for the graph."""
        begin = self._clock()
        outputs = self._inner.run(graph, inputs)
        if "cpu" not in self.name.lower():
            self._inner.get(next(iter(outputs.values())))
        self.seconds[graph] = self.seconds.get(graph, 0.0) + self._clock() - begin
        return outputs


def all_steps(run: float, parts: Mapping[str, float], timed: int, steps: int, sampled: bool) -> Sample:
    """A line of ``steps`` steps from one of ``timed``: graphs of a step are multiplied, all else is counted once.

    :param run: seconds of the line that was run; ``parts``: of its graphs.
    :raises InputError: ``timed`` is not from 1 to ``steps``.
    """
    if not 1 <= timed <= steps:
        raise InputError(f"{timed} of {steps} steps timed: at least 1 and at most all can be")
    factor = steps / timed
    repeated = SAMPLED if sampled else EVERY_STEP
    whole = {name: seconds * (factor if name in repeated else 1) for name, seconds in parts.items()}
    rest = max(0.0, run - sum(parts.values()))
    more = sum(whole.values()) - sum(parts.values())
    return Sample(run + more, run, {**whole, REST: rest})


def quantiles(seconds: NDArray[np.float64] | list[float]) -> dict[str, float]:
    """p50, p90 and p99, linear between samples; of few samples the last two are near the largest."""
    found = np.quantile(np.asarray(seconds, np.float64), (0.5, 0.9, 0.99))
    return {name: float(value) for name, value in zip(("p50", "p90", "p99"), found, strict=True)}


def mean_parts(samples: list[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each part over the samples that have parts."""
    kept = [sample for sample in samples if sample]
    return {name: float(np.mean([sample[name] for sample in kept])) for name in (kept[0] if kept else {})}
