"""Scores, means, comparisons and ranking, on lines whose figures are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.train.evaluation.helpers import Restoration, brighter, brightness_judge, flat_line, scored
from train.evaluation.lines import settings
from train.evaluation.scores import BASE, OURS, TRUTH, Evaluation, Meter, Outcome
from train.evaluation.summary import ALL, FIGURES, READABLE, compare, headings, ranking, rows, table
from train.metrics import Interval

(X4,) = settings((4,), ())
TEXT = ("acc", "ned", "psnr")


def _evaluated(tmp_path: Path) -> Outcome:
    """Three lines that say 5, 6 and 7: before, the judge reads 5, 5, 7; a restoration reads one more."""
    lines = [flat_line(0, 50, "5"), flat_line(1, 50, "6", "strong"), flat_line(2, 70, "8", "strong")]
    evaluation = Evaluation(brighter, Meter(TEXT, brightness_judge), tmp_path, batch=2)
    assert evaluation.run(X4, lines, 3) == 3
    return evaluation.outcome


def test_scores(tmp_path: Path) -> None:
    outcome = _evaluated(tmp_path)
    assert [(s.method, s.index, s.figures["acc"]) for s in outcome.scores] == [
        (BASE, 0, 1), (OURS, 0, 0), (TRUTH, 0, 1),
        (BASE, 1, 0), (OURS, 1, 1), (TRUTH, 1, 0),
        (BASE, 2, 0), (OURS, 2, 1), (TRUTH, 2, 0),
    ]  # fmt: skip
    base, ours, truth = outcome.scores[:3]
    assert base.figures["psnr"] == 100
    assert ours.figures["psnr"] == pytest.approx(20 * np.log10(255 / 10), abs=1e-5)
    assert "psnr" not in truth.figures
    assert (ours.own_text, base.own_text) == ("7", None)
    assert outcome.picture("x4", 1, OURS).is_file()


def test_comparison(tmp_path: Path) -> None:
    found = compare(_evaluated(tmp_path).scores, "x4", TEXT)
    assert (found.base_right, found.kept, found.gained, found.lost, found.own_acc) == (1, 0.0, 2, 1, 0.0)
    assert found.differences["acc"].mean == pytest.approx(1 / 3)
    assert "of the 1 that bicubic has right 0.0% stay right" in found.text(headings(None, None))


def test_rows_by_group(tmp_path: Path) -> None:
    found = {(row.group, row.method): row for row in rows(_evaluated(tmp_path), TEXT)}
    assert {group for group, _ in found} == {"mild", "strong", READABLE, ALL}
    assert found["strong", OURS].figures["acc"].mean == 1
    assert found[ALL, OURS].figures["acc"].mean == pytest.approx(2 / 3)
    assert found[READABLE, BASE].lines == 1
    written = table(list(found.values()), TEXT, headings("ST-LPIPS", None))
    assert "| x4 | all | 3 | restored | 66.7 [0.0, 100.0] |" in written


def test_what_is_not_restored_is_measured_and_noted(tmp_path: Path) -> None:
    def fails(images: list[np.ndarray], scale: int) -> list[Restoration]:
        return [Restoration(item.image, applied=False, reason="too odd") for item in brighter(images, scale)]

    evaluation = Evaluation(fails, Meter(("psnr",)), tmp_path)  # type: ignore[arg-type]
    evaluation.run(X4, [flat_line(0, 50, "5")], 1)
    assert [score.note for score in evaluation.outcome.scores] == ["", "too odd", ""]
    assert [score.reading for score in evaluation.outcome.scores] == [None] * 3


def test_ranking_by_what_is_gained(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path)
    scored(outcome, "x4", 0, {"ned": (0.5, 0.5), "lpips": (0.5, 0.4), "acc": (0, 0)})
    scored(outcome, "x4", 1, {"ned": (0.2, 1.0), "lpips": (0.5, 0.5), "acc": (0, 1)})
    scored(outcome, "x4", 2, {"ned": (0.5, 0.5), "lpips": (0.5, 0.1), "acc": (0, 0)})
    scored(outcome, "x4", 3, {"ned": (1.0, 0.9), "lpips": (0.5, 0.1), "acc": (1, 0)})
    assert ranking(outcome.scores, "x4") == [1, 2, 0, 3]
    assert compare(outcome.scores, "x4", ("acc",)).own_acc == 1.0


def test_paired_intervals_leave_out_what_lines_share(tmp_path: Path) -> None:
    outcome, rng = Outcome(tmp_path), np.random.default_rng(0)
    for index in range(60):
        base = float(rng.normal(20, 5))
        scored(outcome, "x4", index, {"psnr": (base, base + float(rng.normal(1, 0.2)))})
    gap = compare(outcome.scores, "x4", ("psnr",)).differences["psnr"]
    assert 0.8 < gap.low < gap.mean < gap.high < 1.2


def test_figures_are_written_with_their_interval() -> None:
    nan = float("nan")
    assert FIGURES["acc"].write(Interval(0.5, 0.25, 0.75)) == "50.0 [25.0, 75.0]"
    assert FIGURES["fid"].write(Interval(1.23456, nan, nan)) == "1.235"
    assert FIGURES["psnr"].write(Interval(nan, nan, nan)) == "-"


def test_frechet_distance_is_of_the_whole_setting(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path)
    for index in range(4):
        scored(outcome, "x4", index, {"psnr": (1.0, 2.0)})
        for place, method in enumerate((BASE, OURS, TRUTH)):
            outcome.features["x4", method].append(np.array([index % 2, index // 2]) + (0, 3)[place == 0])
    found = {row.method: row.figures["fid"].mean for row in rows(outcome, ("fid",)) if "fid" in row.figures}
    assert found == {BASE: pytest.approx(18), OURS: pytest.approx(0, abs=1e-6)}
