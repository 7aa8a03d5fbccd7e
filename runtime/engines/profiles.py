"""Optimisation profiles: for each batch class, the shapes of every input that has a free axis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtime.bundle import GraphSpec
from textsr.errors import InputError

BATCHES = (1, 8, 32)
"""Batch classes: a page's line by itself, a few, many."""
LENGTHS = (1, 12, 24)
"""Shortest, usual and longest prefix of the recogniser's step (axis ``L``)."""
LARGEST = 4096
"""What the graphs were exported for."""


@dataclass(frozen=True)
class Shapes:
    """Smallest, best and largest shape of one input."""

    name: str
    least: tuple[int, ...]
    best: tuple[int, ...]
    most: tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """Shapes for batches from ``first`` to ``batch``, tuned for ``batch``."""

    first: int
    batch: int
    inputs: tuple[Shapes, ...]


def batch_classes(batches: Iterable[int]) -> tuple[int, ...]:
    """Batch classes in rising order, without repetitions. Raises InputError unless each is 1 to 4096."""
    classes = tuple(sorted(set(batches)))
    if not classes or classes[0] < 1 or classes[-1] > LARGEST:
        raise InputError(f"batch sizes {list(classes)}: give one or more from 1 to {LARGEST}")
    return classes


def profiles(graph: GraphSpec, batches: Sequence[int] = BATCHES) -> tuple[Profile, ...]:
    """One profile a batch class. They join without gaps: every batch from 1 to the largest has exactly one.

    :raises InputError: a free axis of the graph is neither B (batch) nor L (length).
    """
    classes = batch_classes(batches)
    firsts = (1, *(batch + 1 for batch in classes[:-1]))
    return tuple(
        Profile(first, batch, tuple(_shapes(graph, first, batch))) for first, batch in zip(firsts, classes, strict=True)
    )


def _shapes(graph: GraphSpec, first: int, batch: int) -> Iterable[Shapes]:
    sizes = {"B": (first, batch, batch), "L": LENGTHS}
    for tensor in graph.inputs:
        free = {axis for axis in tensor.shape if isinstance(axis, str)}
        if free - sizes.keys():
            odd = ", ".join(sorted(free - sizes.keys()))
            raise InputError(f"graph {graph.name}, input {tensor.name}: free axis {odd} is not B or L")
        if free:
            least, best, most = (
                tuple(sizes[axis][place] if isinstance(axis, str) else axis for axis in tensor.shape)
                for place in range(3)
            )
            yield Shapes(tensor.name, least, best, most)


def profile_for(batches: Sequence[int], batch: int) -> int:
    """Number of the profile that takes ``batch`` lines, of an engine built for the classes ``batches`` (rising).

    :raises InputError: no profile takes it: the caller splits the batch.
    """
    for number, most in enumerate(batches):
        if 1 <= batch <= most:
            return number
    raise InputError(f"batch {batch} fits no profile: the engine was built for 1 to {batches[-1]}")


def written(found: Sequence[Profile]) -> str:
    """The profiles as the cache's key holds them."""
    return json.dumps(
        [[[shape.name, shape.least, shape.best, shape.most] for shape in profile.inputs] for profile in found],
        separators=(",", ":"),
    )
