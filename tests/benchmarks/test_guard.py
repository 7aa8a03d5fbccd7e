"""The guard's benchmark: counting, choosing, keeping; and that JSON, picture and README agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks import blocks, guard, guard_result
from benchmarks.guard_lines import GuardLine, Row, Rows, record
from benchmarks.guard_rates import (
    FOLDS,
    THRESHOLDS,
    choose,
    curve,
    held_out,
    interval,
    objections,
    rates,
    spared,
)
from runtime import InputError, Restorer
from runtime.guard import Evidence, GuardOptions
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_bundle

GOOD = Evidence("ab", 0.9, 0.9, "ab", "ab", "ab", None, None, 1.0, 1.0, 1.0, 1.0, 1.0, ("picture", "reading", "blind"))


def row(before: str, after: str, told: float = 1.0, confidence: float = 0.9, **evidence: Any) -> Row:
    found = replace(GOOD, weakest_told=told, **{"proof": 1.0, **evidence})
    return Row(0, "ab", "mild", before, after, confidence, found, 1.0, 0.5)


ROWS = [
    row("ab", "ab"),
    row("ab", "ax", 0.6),  # broken, unsure
    row("ab", "ax", proof=0.0),  # broken, proofread otherwise
    row("ax", "ab"),  # fixed
    row("ax", "ax", 0.7),  # painted, unsure
    row("ax", "ay", 0.3, confidence=0.5),  # wrong, and the judge is not sure of it
    replace(row("ax", "ax"), evidence=None),  # not restored
]
OPTIONS = GuardOptions(min_told=0.8)


def test_counts() -> None:
    without, under = rates(ROWS, None), rates(ROWS, OPTIONS)
    assert (without.right, without.applied, without.broken, without.painted, without.fixed) == (3, 6, 2, 1, 1)
    assert (under.applied, under.broken, under.painted, under.fixed) == (2, 0, 0, 1)
    assert (without.correct, under.correct) == (2, 4)
    assert under.gain == pytest.approx(1 / 7)
    assert without.broken_share == pytest.approx(2 / 3)
    assert without.painted_share == pytest.approx(1 / 4)
    assert objections(ROWS, OPTIONS) == {"told": 3, "proof": 1}


def test_thresholds_that_keep_the_bars_are_chosen_by_what_they_are_worth() -> None:
    """A broken line costs ten right ones: five unsure ones are let go for it, fifteen are not."""
    fine, unsure, broken = [row("ab", "ab")] * 120, row("ab", "ab", 0.65), row("ab", "ax", 0.65)
    for count, want in ((5, 0.7), (15, 0.0)):
        found = choose([*fine, *[unsure] * count, broken], GuardOptions())
        assert (found.min_told, found.min_proof) == (want, 0.0)
    unproven = row("ab", "ax", proof=0.965)
    assert choose([*fine, unproven], GuardOptions()).min_proof == 0.97
    for worth in (5, 500):  # two of a hundred may not be broken, whatever it is worth
        found = choose([*fine[:100], *[row("ax", "ab", 0.65)] * worth, *[broken] * 2], GuardOptions())
        assert found.min_told == 0.7


def test_lines_that_choose_thresholds_are_not_those_that_rate_them() -> None:
    """One unsure line is broken: the fifth that holds it was not asked, so it passes there and is counted."""
    fine, unsure = [row("ab", "ab")] * 120, row("ab", "ax", 0.65)
    found = held_out([*fine, unsure], GuardOptions())
    assert (found.lines, found.right, found.broken) == (121, 121, 1)
    assert rates([*fine, unsure], choose([*fine, unsure], GuardOptions())).broken == 0
    assert FOLDS > 1


@given(st.integers(0, 40), st.integers(0, 400))
def test_intervals_hold_the_share(count: int, more: int) -> None:
    low, high = interval(count, count + more)
    assert 0 <= low <= count / max(1, count + more) <= high <= 1
    assert interval(count, count + more, "less")[1] <= high


def test_an_interval_of_a_table() -> None:
    assert interval(0, 300, "less")[1] == pytest.approx(1 - 0.05 ** (1 / 300))
    assert interval(0, 0) == (0.0, 1.0)


def test_a_curve_falls() -> None:
    for name in THRESHOLDS:
        applied = [under.applied for _, under in curve(ROWS, OPTIONS, name)]
        assert applied == sorted(applied, reverse=True)


def test_what_a_rule_is_there_for() -> None:
    """The line that is proofread otherwise passes where that is not asked, and only there."""
    found = spared(ROWS, OPTIONS)
    assert {rule: under.broken for rule, under in found.items() if under.broken} == {"proof": 1, "told": 1}
    assert found["told"].painted == 1
    assert found["picture"] == rates(ROWS, OPTIONS)


def test_rows_are_kept_and_others_refused(tmp_path: Path) -> None:
    kept = Rows(tmp_path / "rows.jsonl", "key")
    assert kept.read() == []
    kept.add(ROWS[:3])
    kept.add(ROWS[3:])
    assert kept.read() == ROWS
    with pytest.raises(InputError, match="another run"):
        Rows(tmp_path / "rows.jsonl", "other").read()


def test_lines_are_recorded_with_all_evidence() -> None:
    def judge(image: NDArray[np.uint8]) -> tuple[str, float]:
        return str(image.shape[0]), 0.5

    restorer = Restorer(stub_bundle(), StubExecutor(), KnowingReader())
    pictures: Sequence[NDArray[np.uint8]] = [draw_line("a", 24, 90), np.full((24, 90, 3), 7, np.uint8)]
    lines = [GuardLine(place, "t", "mild", picture) for place, picture in enumerate(pictures)]
    first, flat = list(record(lines, restorer, judge, 1, 0, 2))
    assert first.evidence is not None
    assert first.evidence.witnesses == ("picture", "reading", "blind")
    assert (first.index, first.reading, first.confidence) == (0, "96", 0.5)
    assert flat.evidence is None
    assert flat.reading == flat.input_reading


def data() -> dict[str, Any]:
    part = guard_result.part(ROWS, OPTIONS, "PP", "test split")
    return {
        "format": guard_result.FORMAT,
        "steps": 4,
        "strength": 0.5,
        "paint": 0.5,
        "options": asdict(OPTIONS),
        "test": part,
        "validation": part | guard_result.fitted(ROWS, OPTIONS),
    }


def test_the_table_says_what_was_counted() -> None:
    text = guard_result.markdown(data())
    counted = "2 of 3 (66.7%) [9.4, 99.2] | 0 of 3 (0.0%) [0.0, 70.8]"
    assert f"| input read right, applied and read wrong | {counted} | at most 1% |" in text
    assert "the guard keeps 1 of 1." in text
    assert "proof 1 and 0, 0 more come out right" in text
    assert "| lines applied | 6 | 2 | |" in text
    assert "cannot be told" in text
    assert "in the fifths left out" in text
    short = guard_result.brief(data())
    assert "| lines applied | 6 | 2 | |" in short
    assert "guard.png" in text
    assert "guard.png" not in short
    assert "Not measured" not in text


def test_what_was_not_measured_is_said() -> None:
    found = {name: part for name, part in data().items() if name != "test"}
    assert "**Not measured on the test split yet**" in guard_result.brief(found)
    assert "7 lines of the validation split" in guard_result.markdown(found)
    assert "CPU seconds" in guard_result.markdown(found)
    untimed = guard_result.part([replace(row, restore_seconds=0.0) for row in ROWS], OPTIONS, "PP", "test split")
    assert untimed["cost"] is None
    assert "CPU seconds" not in guard_result.markdown(found | {"validation": found["validation"] | untimed})


def test_a_gain_is_kept_or_not() -> None:
    part = {"without": {"gain": 0.1}, "with": {"gain": 0.05}}
    assert guard_result.kept(part) == pytest.approx(0.5)
    assert guard_result.kept({"without": {"gain": 0.0}, "with": {"gain": 0.05}}) is None


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    guard_result.draw(data(), tmp_path / "guard.png")
    assert (tmp_path / "guard.png").stat().st_size > 5000


def test_what_is_shown_is_what_was_measured() -> None:
    """The README's part is made of the JSON, whose thresholds are the guard's defaults."""
    found = guard_result.read()
    default = GuardOptions()
    assert found["options"] == {name: getattr(default, name) for name in found["options"]}
    for split in (name for name in guard.SPLITS if name in found):
        for curve_name, (threshold, _) in guard_result.AXES.items():
            at = {point[threshold]: point for point in found[split][curve_name]}
            point = at[getattr(default, threshold)]
            assert {name: point[name] for name in found[split]["with"]} == found[split]["with"]
    assert found["validation"]["chosen_told"] == default.min_told
    assert found["validation"]["chosen_proof"] == default.min_proof
    assert guard_result.PICTURE.exists()
    assert not blocks.stale(guard_result.BLOCK, guard_result.parts(found)), "run python -m benchmarks.guard --readme"


def test_the_command_says_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.main(["--split", "validation", "--out", str(tmp_path)]) == 1
    assert "--data and --judge" in capsys.readouterr().err
    assert guard.main(["--lines", "0", "--out", str(tmp_path)]) == 1
