"""The smallest keep-list of a graph: the blocks that must stay in float32 for its error to keep a budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from export.emulate import Arrays, emulated, open_plain, run_plain
from export.flops import Work, observed_shapes, one_line, work
from export.half import KINDS, POINTWISE, HalfGraph, candidates, half_nodes, node_blocks, to_half
from export.ranges import Fault, Reached, find_fault, largest_sum, record
from export.report import relative_error
from export.trace import TracedGraph
from textsr.errors import EngineError

logger = logging.getLogger(__name__)

LARGEST = 65504.0
"""Half precision's largest number."""
HEADROOM = 4.0
"""A half tensor may reach `LARGEST` / HEADROOM in float32 over the recorded lines: other lines may go further."""


@dataclass(frozen=True)
class Call:
    """One run of a graph in the reference's loop: its inputs and float32 outputs."""

    inputs: Arrays
    outputs: Arrays


@dataclass(frozen=True)
class Found:
    """A keep-list and its evidence. Errors are max|a - b| / max|a| in the emulation, over all calls and outputs.

    ``macs`` counts one line. ``largest_sum`` (`export.ranges.largest_sum`) is over the first and the last call.
    ``alone`` has the error with each candidate promoted by itself, where a search had to be made; ``tried`` counts the
    keep-lists that were evaluated.
    """

    graph: HalfGraph
    keep: tuple[str, ...]
    error: float
    error_all_half: float
    ranges: tuple[Reached, ...]
    macs: Work
    largest_sum: Reached | None = None
    because_of_range: tuple[str, ...] = ()
    alone: Mapping[str, float] = field(default_factory=dict)
    tried: int = 1


class Search:
    """Finds the keep-list of one graph. Ranges are recorded once, over all calls; weights are held while it runs."""

    def __init__(self, traced: TracedGraph, calls: Sequence[Call], weights: Callable[[str], Arrays]) -> None:
        self.traced, self.calls, self._load = traced, calls, weights
        self.weights: Arrays = {}
        self.tried: dict[frozenset[str], float] = {}

    @cached_property
    def ranges(self) -> list[Reached]:
        """Largest magnitudes in float32. Raises EngineError where a value is not finite even there."""
        found = record(self.traced.model, (call.inputs for call in self.calls), self.weights)
        if not all(np.isfinite(entry.largest) for entry in found):
            fault = next(
                filter(None, (find_fault(self.traced.model, c.inputs, self.weights) for c in self.calls)), None
            )
            raise EngineError(f"{self._at(fault)} in float32 already")
        return found

    def run(self, budget: float) -> Found:
        """The smallest keep-list found whose error is at most ``budget``.

        First what leaves half precision's range, then, while the error is too large, the block that lowers it most
        (ranked once, each promoted alone). Then each block that turns out not to be needed goes, and each that is
        gives its convolutions and matrix products back to half where that is enough (`export.half.POINTWISE`).

        :raises EngineError: no keep-list does; names the graph and the node that goes wrong first.
        """
        self.weights = self._load(self.traced.name)
        try:
            return self._run(budget)
        finally:
            self.weights = {}

    def _run(self, budget: float) -> Found:
        ranged = self._out_of_range()
        without, alone = self.error(ranged), dict[str, float]()
        keep, error = set(ranged), without
        if not error <= budget:
            free = [name for name in candidates(self.traced.model) if name not in keep]
            alone = {name: self.error({*ranged, name}) for name in free}
            for name in sorted(free, key=alone.__getitem__):
                keep.add(name)
                error = self.error(keep)
                if error <= budget:
                    break
            else:
                self._refuse(keep, budget, error)
            keep = self._pruned(keep, ranged, alone, budget)
        keep = self._refined(keep, budget)
        graph = to_half(self.traced, keep)
        return Found(
            graph=graph,
            keep=tuple(sorted(keep, key=self._order)),
            error=self.error(keep),
            error_all_half=without if not ranged else self._all_half(),
            ranges=tuple(self.ranges),
            macs=self._work(graph),
            largest_sum=largest_sum(self.traced.model, self._ends(), self.weights),
            because_of_range=tuple(sorted(ranged)),
            alone=alone,
            tried=len(self.tried),
        )

    def error(self, keep: Collection[str]) -> float:
        """Largest relative error of the floating-point outputs over all calls; infinite where one is not finite."""
        key = frozenset(keep)
        if key not in self.tried:
            session = open_plain(emulated(to_half(self.traced, keep).graph.model))
            worst = 0.0
            for call in self.calls:
                found = run_plain(session, self.traced.name, call.inputs, self.weights)
                worst = max(worst, *(relative_error(a, found[name]) for name, a in floats(call.outputs).items()))
            self.tried[key] = worst
            logger.info("%s: error %.2e with %s in float32", self.traced.name, worst, sorted(key) or "nothing")
        return self.tried[key]

    def _pruned(self, keep: set[str], ranged: set[str], alone: Mapping[str, float], budget: float) -> set[str]:
        for name in sorted(keep - ranged, key=alone.__getitem__, reverse=True):
            if self.error(keep - {name}) <= budget:
                keep = keep - {name}
        return keep

    def _refined(self, keep: set[str], budget: float) -> set[str]:
        for name in sorted(keep - KINDS.keys()):
            less = keep - {name} | {name + POINTWISE}
            if not self._out_of_range(less) and self.error(less) <= budget:
                keep = less
        return keep

    def _out_of_range(self, keep: Collection[str] = ()) -> set[str]:
        """Blocks that make or read, in half precision, a value beyond the range."""
        too_large = {entry.tensor for entry in self.ranges if entry.largest > LARGEST / HEADROOM}
        model = self.traced.model
        blocks, half = node_blocks(model), half_nodes(model, keep)
        nodes = enumerate(model.graph.node)
        return {blocks[i] for i, node in nodes if i in half and too_large & {*node.input, *node.output}}

    def _order(self, name: str) -> int:
        return candidates(self.traced.model).index(name.removesuffix(POINTWISE))

    def _work(self, graph: HalfGraph) -> Work:
        model = graph.graph.model
        inputs = one_line(model, self.calls[len(self.calls) // 2].inputs)  # half of a text, where one is being read
        return work(model, observed_shapes(emulated(model), inputs, self.weights))

    def _ends(self) -> list[Arrays]:
        return [self.calls[0].inputs, self.calls[-1].inputs]

    def _all_half(self) -> float:
        """The error with no keep-list; infinite where a constant cannot even be stored."""
        try:
            return self.error(())
        except EngineError:
            return float("inf")

    def _refuse(self, keep: Collection[str], budget: float, error: float) -> None:
        model = emulated(to_half(self.traced, keep).graph.model)
        for call in self.calls:
            fault = find_fault(model, call.inputs, self.weights)
            if fault is not None:
                raise EngineError(f"{self._at(fault)} in half precision, with every block in float32")
        raise EngineError(
            f"graph {self.traced.name}: error {error:.3g} with every block in float32, more than the budget {budget:g}"
        )

    def _at(self, fault: Fault | None) -> str:
        place = f", node {fault.node}: {fault.what}" if fault else ": a value that is not finite"
        return f"graph {self.traced.name}{place}"


def floats(arrays: Arrays) -> dict[str, np.ndarray]:
    """The floating-point ones; the others are drawn or chosen from them and counted elsewhere."""
    return {name: value for name, value in arrays.items() if np.issubdtype(value.dtype, np.floating)}
