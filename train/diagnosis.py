"""A diagnosis: rows of figures on validation lines, and what is chosen by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textsr.errors import InputError
from train.metrics import Interval, bootstrap

BICUBIC, CLEAN, CEILING = "bicubic", "clean", "autoencoder"
CEILING_BAR = 0.98
"""Share of the clean lines read right that must still be read right after the autoencoder."""
LPIPS_SLACK = 1.05
"""ST-LPIPS of fewer steps may be so many times that of all."""
RULE = "ACC no lower than the undistilled weights in all steps within the paired interval, ST-LPIPS within 5%"


@dataclass(frozen=True)
class Row:
    """Figures of one way to make lines, each a value a line: ``right`` and ``told`` are 0 or 1.

    ``told``: read as the text that the model was given says; empty where it was given none.
    """

    name: str
    text: str
    steps: int | None
    right: list[float]
    ned: list[float]
    psnr: list[float]
    st_lpips: list[float]
    told: list[float] = field(default_factory=list)
    seconds: float = 0.0  # a line, reading and judging not counted


@dataclass
class Diagnosis:
    """All rows so far, and the pictures behind them by row."""

    about: dict[str, object]
    rows: list[Row] = field(default_factory=list)
    pictures: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """Raises InputError where there is none of that name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise InputError(f"the diagnosis has no row {name!r}; it has {', '.join(row.name for row in self.rows)}")

    @property
    def ceiling(self) -> float:
        """Of the clean lines that are read right, the share that still is after the autoencoder."""
        clean, after = np.array(self.row(CLEAN).right), np.array(self.row(CEILING).right)
        return float(after[clean == 1].mean()) if clean.any() else float("nan")

    def by_steps(self) -> dict[int, Row]:
        """The rows with the recogniser's text by their steps."""
        return {row.steps: row for row in self.rows if row.text == "recogniser" and row.steps is not None}


@dataclass(frozen=True)
class StepsChoice:
    """Whether so many steps are as good as all: the paired difference of ACC to all steps, the ratio of ST-LPIPS."""

    steps: int
    accuracy: Interval
    lpips_ratio: float

    @classmethod
    def of(cls, row: Row, most: Row) -> StepsChoice:
        """``row`` against the row of all steps, on the same lines."""
        difference = bootstrap(np.array(row.right) - np.array(most.right))
        ratio = float(np.mean(row.st_lpips)) / max(float(np.mean(most.st_lpips)), 1e-9)
        return cls(row.steps or 0, difference, ratio)

    @property
    def holds(self) -> bool:
        """ACC no lower within the paired interval, and ST-LPIPS within 5%."""
        return self.accuracy.high >= 0 and self.lpips_ratio <= LPIPS_SLACK


def choose_steps(rows: dict[int, Row]) -> tuple[int, list[StepsChoice]]:
    """The fewest steps that are as good as the most, and how each compares, most steps first. One row at least."""
    most = rows[max(rows)]
    judged = [StepsChoice.of(rows[steps], most) for steps in sorted(rows, reverse=True)]
    return min(choice.steps for choice in judged if choice.holds), judged


def decide(found: dict[str, Diagnosis]) -> tuple[str, int, dict[str, Any]]:
    """Which weights, in how many steps by default, and why: of ``diffusion`` and ``distil``, one at least.

    The distilled weights are taken with the fewest of their steps that are as good as the undistilled in all steps
    (`RULE`); where none is, the undistilled ones with the fewest of their own.
    """
    plain, distilled = found.get("diffusion"), found.get("distil")
    base = (plain or distilled).by_steps() if plain or distilled else {}  # type: ignore[union-attr]
    if not base:
        raise InputError("nothing was diagnosed: there is nothing to choose from")
    most = base[max(base)]
    if distilled is not None:
        judged = [StepsChoice.of(row, most) for row in distilled.by_steps().values()]
        if holding := [choice for choice in judged if choice.holds]:
            return "distil", min(c.steps for c in holding), _told(judged)
    if plain is None:
        return "distil", max(base), {"rule": RULE, "holds": "no number of steps"}
    steps, judged = choose_steps(plain.by_steps())
    return "diffusion", steps, _told(judged)


def _told(judged: Sequence[StepsChoice]) -> dict[str, Any]:
    return {
        "rule": RULE,
        "steps": [
            {"steps": c.steps, "acc_difference": asdict(c.accuracy), "st_lpips_ratio": c.lpips_ratio, "holds": c.holds}
            for c in judged
        ],
    }
