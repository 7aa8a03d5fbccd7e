"""What thresholds do to recorded lines: errors let through, gain kept; nothing is restored again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.guard_lines import Row
from runtime.guard import GuardOptions, decide
from runtime.guard.decide import objection

CONFIDENT = 0.8
"""Mean confidence of the judge from which on a wrong reading counts as confidently wrong."""
MOST_BROKEN, MOST_PAINTED = 0.01, 1 / 3
"""The bars: of lines read right before; and against the same without the guard."""
THRESHOLDS = (*(float(value) for value in np.round(np.arange(0, 1.0, 0.05), 2)), 0.96, 0.97, 0.98, 0.99)


@dataclass(frozen=True)
class Rates:
    """Counts of lines under one guard, or none; the judge says what is right.

    ``broken``: input right, applied, wrong. ``painted``: input wrong, applied, confidently wrong. ``fixed``: input
    wrong, applied, right. ``correct``: right as they come out, the input enlarged where not applied.
    """

    lines: int
    right: int  # inputs that are read right
    applied: int
    broken: int
    painted: int
    fixed: int
    correct: int

    @property
    def broken_share(self) -> float:
        """Of the lines whose input is read right."""
        return self.broken / self.right if self.right else 0.0

    @property
    def painted_share(self) -> float:
        """Of the lines whose input is read wrong."""
        return self.painted / (self.lines - self.right) if self.lines > self.right else 0.0

    @property
    def gain(self) -> float:
        """ACC less that of the inputs."""
        return (self.correct - self.right) / self.lines


def rates(rows: Sequence[Row], options: GuardOptions | None) -> Rates:
    """Under ``options``, or without a guard. At least one row."""
    applied = [row for row in rows if passes(row, options)]
    broken = sum(row.input_right and not row.right for row in applied)
    fixed = sum(not row.input_right and row.right for row in applied)
    painted = sum(not row.input_right and not row.right and row.confidence >= CONFIDENT for row in applied)
    right = sum(row.input_right for row in rows)
    return Rates(len(rows), right, len(applied), broken, painted, fixed, right - broken + fixed)


def passes(row: Row, options: GuardOptions | None) -> bool:
    """Whether the line comes out restored."""
    return row.evidence is not None and (options is None or not decide(row.evidence, options)[0])


def curve(
    rows: Sequence[Row], options: GuardOptions, values: Sequence[float] = THRESHOLDS
) -> list[tuple[float, Rates]]:
    """Rates at each ``min_confidence``, all else as ``options`` has it."""
    return [(value, rates(rows, replace(options, min_confidence=value))) for value in values]


def choose(found: Sequence[tuple[float, Rates]], without: Rates) -> float:
    """The lowest threshold that keeps both bars; where none does, the one that breaks and paints fewest lines."""
    for value, under in found:
        if under.broken_share <= MOST_BROKEN and under.painted <= MOST_PAINTED * without.painted:
            return value
    return min(found, key=lambda pair: (pair[1].broken + pair[1].painted, pair[0]))[0]


def objections(rows: Sequence[Row], options: GuardOptions) -> dict[str, int]:
    """How many lines each rule stops, the first that does counting."""
    found: dict[str, int] = {}
    for row in rows:
        rule = decide(row.evidence, options)[0] if row.evidence is not None else ""
        if rule:
            found[rule] = found.get(rule, 0) + 1
    return found


def asked(rows: Sequence[Row], options: GuardOptions) -> float:
    """Share of the restored lines for which the dear evidence is gathered: nothing cheap spoke against them."""
    evidence = [row.evidence for row in rows if row.evidence is not None]
    cheap = [replace(one, blind=None, second_after=None) for one in evidence]
    return sum(objection(one, options) is None for one in cheap) / max(1, len(cheap))
