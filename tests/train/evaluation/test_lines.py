"""What the evaluation makes of records: sizes, seeds, real pairs, the sweep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.train.evaluation.helpers import record
from train.evaluation.degradation import SEVERITIES, degrade_line, down_up, enlarge, turn
from train.evaluation.lines import frame, prepare, settings


def test_settings() -> None:
    found = settings((4, 2), (2, 16))
    assert [(s.name, s.scale, s.factor) for s in found] == [
        ("x4", 4, None), ("x2", 2, None), ("down-up 2", 1, 2), ("down-up 16", 1, 16),
    ]  # fmt: skip
    assert [s.is_sweep for s in found] == [False, False, True, True]


@pytest.mark.parametrize("scale", [4, 2])
def test_degraded_lines_fit_their_scale_and_depend_on_seed_and_place(scale: int) -> None:
    records = [record(seed) for seed in range(3)]
    (setting,) = settings((scale,), ())
    lines = list(prepare(records, setting, 0))
    for line in lines:
        assert line.hr.shape == (128, 300, 3)
        assert line.lr.shape == (128 // scale, 300 // scale, 3)
        # What is enlarged again looks like the line: far nearer to it than to another one.
        near = np.abs(enlarge(line.lr, scale).astype(float) - line.hr).mean()
        assert near < 0.8 * np.abs(enlarge(line.lr, scale).astype(float) - line.hr[:, ::-1]).mean()
    assert [line.group for line in lines] == list(SEVERITIES)
    again = list(prepare(records[:2], setting, 0))
    assert all(np.array_equal(a.lr, b.lr) for a, b in zip(again, lines, strict=False))
    assert not np.array_equal(next(prepare(records, setting, 1)).lr, lines[0].lr)


def test_a_half_holds_more_than_a_quarter() -> None:
    hr = record(0).image
    errors = []
    for scale in (2, 4):
        lr = degrade_line(hr, "degraded", 0.0, 5, scale)
        errors.append(np.abs(enlarge(lr, scale).astype(float) - hr).mean())
    assert errors[0] < errors[1]


def test_turns_are_even() -> None:
    found = [turn(index) for index in range(9)]
    assert len(set(found)) == 9


def test_widths_become_a_multiple_of_four() -> None:
    assert frame(record(0, 301)).shape == (128, 304, 3)
    assert frame(record(0, 512)).shape == (128, 512, 3)
    narrow = replace(record(0), image=record(0).image[:, :101], width=101)
    assert frame(narrow).shape == (128, 104, 3)
    assert np.array_equal(frame(narrow)[:, 101:], np.repeat(frame(narrow)[:, 100:101], 3, 1))


def test_real_pairs_are_taken_as_they_are() -> None:
    rng = np.random.default_rng(0)
    lr, hr = rng.integers(0, 256, (21, 90, 3), np.uint8), rng.integers(0, 256, (85, 357, 3), np.uint8)
    pair = replace(record(0), lr_crop=lr, hr_crop=hr, scale=4, kind="real-ce")
    by_four, by_two, sweep = settings((4, 2), (8,))
    (line,) = prepare([pair], by_four, 0)
    assert np.array_equal(line.lr, lr)
    assert line.hr.shape == (84, 360, 3)
    assert line.group == "real-ce"
    assert list(prepare([pair], by_two, 0)) == []
    assert len(list(prepare([pair], sweep, 0))) == 1
    exact = replace(pair, hr_crop=hr[:84, :356], lr_crop=lr[:, :89])
    assert np.array_equal(next(prepare([exact], by_four, 0)).hr, hr[:84, :356])
    small = replace(pair, lr_crop=lr[:6])
    assert list(prepare([small], by_four, 0)) == []


def test_down_and_up() -> None:
    hr = record(3).image
    errors = [np.abs(down_up(hr, factor).astype(float) - hr).mean() for factor in (1, 2, 4, 8, 16)]
    assert errors[0] == 0
    assert errors == sorted(errors)
    assert errors[-1] > 20
    flat = np.full((128, 100, 3), 77, np.uint8)
    assert np.array_equal(down_up(flat, 16), flat)
    (setting,) = settings((), (8,))
    (line,) = prepare([record(3)], setting, 0)
    assert line.lr.shape == line.hr.shape
