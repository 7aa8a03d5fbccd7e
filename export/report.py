"""What parity measures and how it is reported: errors, flips, images, and the bounds that a bundle must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textsr.errors import EngineError

BOUND = 1e-4
"""Largest max|a - b| / max|a| of any floating-point output in float32."""
PSNR_BOUND = 50.0
"""Least PSNR in dB of the final image, codebook indices forced."""
IDENTICAL = 200.0
"""PSNR in dB that stands for equal images."""


@dataclass(frozen=True)
class Measured:
    """Error of one output. ``where`` is "batch N" or the sampler; ``step`` is the loop's, -1 outside it."""

    where: str
    step: int
    graph: str
    output: str
    error: float

    def __str__(self) -> str:
        place = f"{self.where} text, step {self.step}" if self.step >= 0 else self.where
        return f"graph {self.graph}, output {self.output} ({place}): relative error {self.error:.3g}"


@dataclass(frozen=True)
class Flips:
    """Discrete values that differ, of how many."""

    flipped: int
    total: int


@dataclass(frozen=True)
class FreeRun:
    """The loop left to itself on both executors, per text sampler.

    ``z_0`` is the relative error of the last latent, ``codes`` and ``tokens`` count the flips, ``psnr`` compares the
    images as they come, flips included, ``psnr_forced`` those decoded from the reference's code vectors (dB, peak 2).
    """

    z_0: float
    codes: Flips
    tokens: Flips
    psnr: float
    psnr_forced: float


@dataclass(frozen=True)
class ParityReport:
    """What was measured; goes into bundle.json.

    ``graphs`` has one entry an output and batch size, ``steps`` one an output and step with the reference's tensors
    fed at every step; ``flips`` counts the discrete outputs among these; ``free`` has each sampler's loop by itself.
    """

    reference: str
    candidate: str
    bound: float
    psnr_bound: float
    graphs: tuple[Measured, ...]
    steps: tuple[Measured, ...]
    flips: Mapping[str, Flips] = field(default_factory=dict)
    free: Mapping[str, FreeRun] = field(default_factory=dict)

    @property
    def worst(self) -> Measured:
        """The largest error of all."""
        return max((*self.graphs, *self.steps), key=lambda measured: measured.error)

    def failures(self) -> list[str]:
        """What is out of bounds, in the order of running: graphs first, then steps, then the image."""
        found = [str(entry) for entry in (*self.graphs, *self.steps) if not entry.error <= self.bound]
        for sampler, run in self.free.items():
            if not run.psnr_forced >= self.psnr_bound:
                found.append(f"final image ({sampler} text): {run.psnr_forced:.1f} dB, {self.psnr_bound:g} needed")
        return found

    def require(self) -> None:
        """Raises EngineError that says which graph and step moved first, and by how much, when parity fails."""
        found = self.failures()
        if found:
            raise EngineError(
                f"{self.candidate} does not compute what {self.reference} does (bound {self.bound:g}): {found[0]}"
                + (f"; and {len(found) - 1} more" if len(found) > 1 else "")
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ParityReport:
        """The inverse of `to_json`."""
        return cls(
            **{key: data[key] for key in ("reference", "candidate", "bound", "psnr_bound")},
            graphs=tuple(Measured(**entry) for entry in data["graphs"]),
            steps=tuple(Measured(**entry) for entry in data["steps"]),
            flips={key: Flips(**entry) for key, entry in data["flips"].items()},
            free={
                key: FreeRun(**{**entry, "codes": Flips(**entry["codes"]), "tokens": Flips(**entry["tokens"])})
                for key, entry in data["free"].items()
            },
        )

    def table(self) -> str:
        """The largest error a graph, alone and in the loop, and the loops left to themselves."""
        alone, looped = _largest(self.graphs), _largest(self.steps)
        lines = [
            f"{self.reference} against {self.candidate}; bound {self.bound:g}",
            "",
            f"{'graph':<20}{'alone':>10}{'in loop':>10}",
        ]
        for name in alone:
            inside = f"{looped[name]:10.1e}" if name in looped else f"{'-':>10}"
            lines.append(f"{name:<20}{alone[name]:10.1e}{inside}")
        lines += ["", *(f"flips of {name}: {flips.flipped} of {flips.total}" for name, flips in self.flips.items())]
        for sampler, run in self.free.items():
            lines.append(
                f"{sampler} text, left to itself: z_0 {run.z_0:.1e}, "
                f"codes flipped {run.codes.flipped} of {run.codes.total}, "
                f"tokens flipped {run.tokens.flipped} of {run.tokens.total}, image {run.psnr:.1f} dB, "
                f"codes forced {run.psnr_forced:.1f} dB"
            )
        return "\n".join(lines)


def _largest(entries: tuple[Measured, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in entries:
        found[entry.graph] = max(found.get(entry.graph, 0.0), entry.error)
    return found


def relative_error(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """max|a - b| / max|a|; infinite where shapes differ or a value is not finite."""
    if reference.shape != other.shape or not (np.isfinite(reference).all() and np.isfinite(other).all()):
        return float("inf")
    scale = float(np.abs(reference).max(initial=0.0))
    worst = float(np.abs(reference.astype(np.float64) - other).max(initial=0.0))
    return worst / scale if scale > 0 else (0.0 if worst == 0 else float("inf"))


def psnr(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """PSNR in dB of images in [-1,1] (peak 2), at most `IDENTICAL`; 0 where a value is not finite."""
    if not np.isfinite(other).all():
        return 0.0
    error = float(np.mean((reference.astype(np.float64) - other) ** 2))
    return min(10 * float(np.log10(4 / error)), IDENTICAL) if error > 0 else IDENTICAL


def count_flips(expected: NDArray[Any], found: NDArray[Any]) -> Flips:
    """How many integers differ."""
    return Flips(int((expected != found).sum()), int(expected.size))
