"""What thresholds do to recorded lines: errors let through, gain kept; nothing is restored again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from scipy.stats import binomtest

from benchmarks.guard_lines import Row
from runtime.guard import GuardOptions, decide

CONFIDENT = 0.8
"""Mean confidence of the judge from which on a wrong reading counts as confidently wrong."""
MOST_BROKEN, MOST_PAINTED = 0.01, 1 / 3
"""The bars: of lines read right before; and against the same without the guard."""
FOLDS = 5
"""Parts of the lines that `held_out` leaves out in turn."""
SURE = 0.95
"""Level of intervals."""
BROKEN_COSTS, PAINTED_COSTS = 10, 3
"""How many lines that come out right are worth one that is broken, or painted, where `choose` chooses."""
Threshold = Literal["min_told", "min_proof"]
THRESHOLDS: dict[Threshold, tuple[float, ...]] = {
    "min_told": (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99),
    "min_proof": (0.0, 0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995),
}
"""What is tried of each threshold that `choose` chooses; all others are `GuardOptions`' own."""


@dataclass(frozen=True)
class Rates:
    """Counts of lines under one guard, or none; the judge says what is right.

    ``broken``: input right, applied, wrong. ``painted``: input wrong, applied, confidently wrong. ``fixed``: input
    wrong, applied, right. ``passed``: applied, right. ``correct``: right as they come out, the input enlarged where not
    applied.
    """

    lines: int
    right: int  # inputs that are read right
    applied: int
    broken: int
    painted: int
    fixed: int
    passed: int
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
    def broken_most(self) -> float:
        """What `broken_share` is at most in other lines of the kind, `SURE` of it: one-sided, exact."""
        return interval(self.broken, self.right, "less")[1]

    @property
    def gain(self) -> float:
        """ACC less that of the inputs."""
        return (self.correct - self.right) / self.lines


def interval(count: int, of: int, side: Literal["two-sided", "less"] = "two-sided") -> tuple[float, float]:
    """Of a share ``count / of``, exact (Clopper and Pearson 1934), at level `SURE`; (0, 1) of nothing."""
    if not of:
        return 0.0, 1.0
    found = binomtest(count, of, alternative=side).proportion_ci(SURE, "exact")
    return float(found.low), float(found.high)


def rates(rows: Sequence[Row], options: GuardOptions | None) -> Rates:
    """Under ``options``, or without a guard. At least one row."""
    applied = [row for row in rows if passes(row, options)]
    broken = sum(row.input_right and not row.right for row in applied)
    fixed = sum(not row.input_right and row.right for row in applied)
    painted = sum(not row.input_right and not row.right and row.confidence >= CONFIDENT for row in applied)
    right = sum(row.input_right for row in rows)
    passed = sum(row.right for row in applied)
    return Rates(len(rows), right, len(applied), broken, painted, fixed, passed, right - broken + fixed)


def passes(row: Row, options: GuardOptions | None) -> bool:
    """Whether the line comes out restored."""
    return row.evidence is not None and (options is None or not decide(row.evidence, options)[0])


def curve(
    rows: Sequence[Row], options: GuardOptions, name: Threshold, values: Sequence[float] | None = None
) -> list[tuple[float, Rates]]:
    """Rates at each of a threshold's values, all else as ``options`` has it."""
    return [(value, rates(rows, _at(options, name, value))) for value in values or THRESHOLDS[name]]


def _at(options: GuardOptions, name: Threshold, value: float) -> GuardOptions:
    return replace(options, min_told=value) if name == "min_told" else replace(options, min_proof=value)


def choose(rows: Sequence[Row], options: GuardOptions) -> GuardOptions:
    """``options`` with the thresholds to take: of all pairs that keep both bars, that which is worth most: a line that
    comes out right counts one, those that are broken and painted cost `BROKEN_COSTS` and `PAINTED_COSTS`. Where none
    keeps the bars, of all pairs; among equals the loosest."""
    without, tried = rates(rows, None), []
    for proof in THRESHOLDS["min_proof"]:
        part = replace(options, min_proof=proof)
        for told, under in curve(rows, part, "min_told"):
            keeps = under.broken_share <= MOST_BROKEN and under.painted <= MOST_PAINTED * without.painted
            worth = under.passed - BROKEN_COSTS * under.broken - PAINTED_COSTS * under.painted
            tried.append(((keeps, worth, -proof - told), replace(part, min_told=told)))
    return max(tried, key=lambda pair: pair[0])[1]


def held_out(rows: Sequence[Row], options: GuardOptions) -> Rates:
    """What thresholds do to lines that did not choose them: each `FOLDS`-th part of the rows under those that the other
    parts choose, added up. Thresholds look better than they are on the lines that they were chosen on."""
    parts = [rows[fold::FOLDS] for fold in range(FOLDS)]
    others = [[row for place, row in enumerate(rows) if place % FOLDS != fold] for fold in range(FOLDS)]
    found = [asdict(rates(part, choose(rest, options))) for part, rest in zip(parts, others, strict=True)]
    return Rates(**{name: sum(one[name] for one in found) for name in found[0]})


def objections(rows: Sequence[Row], options: GuardOptions) -> dict[str, int]:
    """How many lines each rule stops, the first that does counting."""
    found: dict[str, int] = {}
    for row in rows:
        rule = decide(row.evidence, options)[0] if row.evidence is not None else ""
        if rule:
            found[rule] = found.get(rule, 0) + 1
    return found


OFF: dict[str, dict[str, float]] = {
    "picture": {"min_similarity": -1.0, "min_column": -1.0},
    "told": {"min_told": 0.0},
    "proof": {"min_proof": 0.0},
    "text": {"max_change": 1.0},
    "confidence": {"min_confidence": 0.0},
    "drop": {"max_drop": 1.0},
}
"""Each rule's thresholds when it is switched off."""


def spared(rows: Sequence[Row], options: GuardOptions) -> dict[str, Rates]:
    """Rates with each rule switched off alone: what no other rule would stop is what the rule is there for."""
    return {rule: rates(rows, replace(options, **loose)) for rule, loose in OFF.items()}  # type: ignore[arg-type]
