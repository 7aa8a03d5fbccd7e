"""Where a guard stands: it sees restored lines before they are results, and decides which are applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.recognizer import LineReader
from textsr.reading import LineReading


@dataclass(frozen=True)
class Candidate:
    """A restored line; pictures are RGB uint8 and upright, a vertical line as it was laid down for the network.

    ``place`` is the line's in the caller's list, ``restored`` is ``scale`` times as large as ``image``; ``reading``
    (None without one) and its ``reader`` are what the restoration was told, ``text`` is `runtime.Result.text`.
    ``proof``: how surely (0..1) the proofreader reads that text in ``restored``; None without proofreading.
    """

    place: int
    image: NDArray[np.uint8]
    restored: NDArray[np.uint8]
    reading: LineReading | None
    reader: str
    text: str
    proof: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether a restored line is applied; if not, ``reason`` says why. ``evidence`` goes into the result."""

    applied: bool
    reason: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Again(Protocol):
    """What a guard may ask of the restorer within its call."""

    @property
    def reader(self) -> LineReader | None:
        """The restorer's recogniser."""

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        """Readings of upright ``images``, RGB (h, w, 3) uint8 of any aspect, in order; empty ones without a
        recogniser."""

    def __call__(
        self, candidates: Sequence[Candidate], readings: Sequence[LineReading | None], *, steps: int | None = None
    ) -> list[NDArray[np.uint8]]:
        """The candidates restored with other readings, from the picture alone with None, in the size of `restored`.

        Same noise and same windows as before; ``steps`` None takes the call's.

        :raises DeadlinePassed: the call's time is over; the guard lets it through.
        """


class Guard(Protocol):
    """Judges restored lines. Called once a call of the restorer, in its thread, so it is safe from any."""

    def judge(self, candidates: Sequence[Candidate], again: Again) -> Sequence[Verdict]:
        """One verdict for each of ``candidates``, in order; ``again`` reads and restores for it. What it raises fails
        the call, but for `DeadlinePassed`."""
