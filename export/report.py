"""What parity measures and how it is reported: errors, flips, images, and the bounds that a bundle must keep."""

from __future__ import annotations

import math
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
"""dB that stand for equal values; ``-IDENTICAL``, of a ratio, for values that are not finite."""


@dataclass(frozen=True)
class Bounds:
    """What a comparison must keep.

    ``error``: max|a - b| / max|a| of every floating-point output on the same inputs. ``psnr``: dB of the final image,
    codebook indices forced. ``own``: dB of the one decoded from the candidate's own latent, tokens forced, or None.
    ``same_text``: the same text must be read on both images, where a recogniser is installed.
    """

    error: float = BOUND
    psnr: float = PSNR_BOUND
    own: float | None = None
    same_text: bool = False


BOUNDS = {"fp32": Bounds(), "fp16": Bounds(error=1e-2, psnr=40.0, own=40.0, same_text=True)}
"""By precision: fp16 where either side computes in it, or they store weights in different precisions. A graph's fp16
bound is twice what half graphs are built to (`export.halfreport.Budget`), as GPUs add up in another order."""


@dataclass(frozen=True)
class Measured:
    """Error of one output. ``where`` is "batch N", the sampler or "recognizer"; ``step`` is the loop's, -1 outside it.

    ``snr`` is the ratio of the reference's power to that of the difference in dB; None in reports that are older.
    """

    where: str
    step: int
    graph: str
    output: str
    error: float
    snr: float | None = None

    def __str__(self) -> str:
        place = f"{self.where} text, step {self.step}" if self.step >= 0 else self.where
        return f"graph {self.graph}, output {self.output} ({place}): relative error {self.error:.3g}"

    @classmethod
    def between(cls, where: str, step: int, graph: str, output: str, a: NDArray[Any], b: NDArray[Any]) -> Measured:
        """The entry of an output that is ``a`` on the reference and ``b`` on the candidate."""
        return cls(where, step, graph, output, relative_error(a, b), ratio(a, b))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measured:
        """From plain values, whose error is None where it is infinite."""
        return cls(**{**data, "error": _number(data["error"])})


@dataclass(frozen=True)
class Flips:
    """Discrete values that differ, of how many."""

    flipped: int
    total: int

    def __add__(self, other: Flips) -> Flips:
        """Both together."""
        return Flips(self.flipped + other.flipped, self.total + other.total)


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

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FreeRun:
        """From plain values."""
        flips = {name: Flips(**data[name]) for name in ("codes", "tokens")}
        return cls(**{**data, **flips, "z_0": _number(data["z_0"])})

    def __str__(self) -> str:
        return (
            f"z_0 {self.z_0:.1e}, codes flipped {self.codes.flipped} of {self.codes.total}, "
            f"tokens flipped {self.tokens.flipped} of {self.tokens.total}, image {self.psnr:.1f} dB, "
            f"codes forced {self.psnr_forced:.1f} dB"
        )


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

    def failed(self) -> str:
        """What is out of bounds, a line each."""
        return "\n".join(f"FAILED: {failure}" for failure in self.failures())

    def require(self) -> None:
        """Raises EngineError that says which graph and step moved first, and by how much, when parity fails."""
        found = self.failures()
        if found:
            raise EngineError(
                f"{self.candidate} does not compute what {self.reference} does (bound {self.bound:g}): {found[0]}"
                + (f"; and {len(found) - 1} more" if len(found) > 1 else "")
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; infinite errors are None."""
        found: dict[str, Any] = finite(asdict(self))
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ParityReport:
        """The inverse of `to_json`."""
        return cls(
            **{key: data[key] for key in ("reference", "candidate", "bound", "psnr_bound")},
            graphs=tuple(map(Measured.from_json, data["graphs"])),
            steps=tuple(map(Measured.from_json, data["steps"])),
            flips={key: Flips(**entry) for key, entry in data["flips"].items()},
            free={key: FreeRun.from_json(entry) for key, entry in data["free"].items()},
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
            lines.append(f"{sampler} text, left to itself: {run}")
        return "\n".join(lines)


def _largest(entries: tuple[Measured, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in entries:
        found[entry.graph] = max(found.get(entry.graph, 0.0), entry.error)
    return found


def finite(value: Any) -> Any:
    """Plain data with None for floats that JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return float("inf") if value is None else value


def relative_error(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """max|a - b| / max|a|; infinite where shapes differ or a value is not finite."""
    if reference.shape != other.shape or not (np.isfinite(reference).all() and np.isfinite(other).all()):
        return float("inf")
    scale = float(np.abs(reference).max(initial=0.0))
    worst = float(np.abs(reference.astype(np.float64) - other).max(initial=0.0))
    return worst / scale if scale > 0 else (0.0 if worst == 0 else float("inf"))


def ratio(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Power of ``reference`` over that of the difference in dB, within `IDENTICAL` either way."""
    if reference.shape != other.shape or not (np.isfinite(reference).all() and np.isfinite(other).all()):
        return -IDENTICAL
    power = float(np.mean(np.square(reference, dtype=np.float64)))
    error = float(np.mean((reference.astype(np.float64) - other) ** 2))
    if error == 0 or power == 0:
        return IDENTICAL if error == 0 else -IDENTICAL
    return min(max(10 * float(np.log10(power / error)), -IDENTICAL), IDENTICAL)


def psnr(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """PSNR in dB of images in [-1,1] (peak 2), at most `IDENTICAL`; 0 where a value is not finite."""
    if not np.isfinite(other).all():
        return 0.0
    error = float(np.mean((reference.astype(np.float64) - other) ** 2))
    return min(10 * float(np.log10(4 / error)), IDENTICAL) if error > 0 else IDENTICAL


def count_flips(expected: NDArray[Any], found: NDArray[Any]) -> Flips:
    """How many integers differ."""
    return Flips(int((expected != found).sum()), int(expected.size))
