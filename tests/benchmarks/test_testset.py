"""The test split is the same each time it is made, and its quotas are what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import testset
from textsr.errors import InputError

FONTS = "the test split's fonts are not on this machine"


def _constant(text: str) -> Callable[[NDArray[np.uint8]], str]:
    return lambda image: text


@pytest.fixture(scope="module")
def generator() -> testset.Generator:
    try:
        return testset.Generator(testset.SEED, _constant("nothing reads like this"))
    except InputError as error:
        pytest.skip(f"{FONTS}: {error}")


def test_a_line_depends_on_seed_and_index_alone(generator: testset.Generator) -> None:
    alone = generator.line(4)
    generator.line(0)
    again = generator.line(4)
    assert alone.entry == again.entry
    np.testing.assert_array_equal(alone.hr, again.hr)
    np.testing.assert_array_equal(alone.lr, again.lr)
    assert alone.entry.draws == testset.DRAWS  # the judge never reads it
    height, width, _ = alone.hr.shape
    assert (height, width % 4) == (128, 0)
    assert alone.lr.shape == (32, width // 4, 3)
    other = testset.Generator(testset.SEED + 1, _constant(""))
    assert other.line(4).entry.text != alone.entry.text or not np.array_equal(other.line(4).hr, alone.hr)


def test_severities_and_sources_take_turns(generator: testset.Generator) -> None:
    entries = [generator.line(index).entry for index in range(9)]
    assert [entry.severity for entry in entries[:3]] == list(testset.SEVERITIES)
    assert len({(entry.severity, entry.source) for entry in entries}) == 9


def test_degradation_is_seeded_and_grows(generator: testset.Generator) -> None:
    hr = generator.line(2).hr
    one, two = (testset.degrade_line(hr, "degraded", 0.5, 7) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, testset.degrade_line(hr, "degraded", 0.5, 8))
    assert not np.array_equal(one, testset.degrade_line(hr, "camera", 0.5, 7))


def test_write_read_and_extend(tmp_path: Path, generator: testset.Generator) -> None:
    judge = _constant("x")
    testset.write(tmp_path, 2, testset.SEED, judge)
    testset.write(tmp_path, 3, testset.SEED, judge)  # adds one
    lines = list(testset.read(tmp_path, 3))
    assert [line.entry.index for line in lines] == [0, 1, 2]
    expected = testset.Generator(testset.SEED, judge).line(2)
    assert lines[2].entry == expected.entry
    np.testing.assert_array_equal(lines[2].lr, expected.lr)
    np.testing.assert_array_equal(lines[2].hr, expected.hr)
    with pytest.raises(InputError, match="another test set"):
        testset.write(tmp_path, 3, 1, judge)


def test_no_test_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no test set"):
        testset.entries(tmp_path)


def test_check_says_whether_the_quotas_are_met() -> None:
    entry = testset.Entry(0, "ab", "mild", "camera", "f", "k", 1, "AB", "a b")
    wrong = replace(entry, severity="strong", lr_reading="x")
    medium = replace(entry, severity="medium")
    assert testset.check([entry, medium, wrong]).endswith(": met")
    assert "0.667 of the bicubic" in testset.check([entry, medium, wrong])
    assert "NOT MET" in testset.check([entry, entry, medium, replace(wrong, hr_reading="x")])


def test_enlarge() -> None:
    lr = np.full((8, 5, 3), 77, np.uint8)
    assert (testset.enlarge(lr) == 77).all()
    assert testset.enlarge(lr).shape == (32, 20, 3)
