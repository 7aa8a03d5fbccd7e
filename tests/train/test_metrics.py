"""Metrics against cases worked out by hand, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.metrics import PerceptualMetric, accuracy, bootstrap, ned, normalise, psnr

TEXT = st.text(alphabet="中文字國国Ａa1 　b", max_size=12)


def test_normalise() -> None:
    assert normalise("Ａｂ　Ｃ 國語！") == "abc国语!"
    assert normalise("，。") == ",。"


def test_accuracy() -> None:
    assert accuracy("ＡＢＣ１２", "abc12") == 1
    assert accuracy("京A 12345", "京A12345") == 1
    assert accuracy("國家", "国家") == 1
    assert accuracy("国家", "国冢") == 0


@pytest.mark.parametrize(
    ("reading", "truth", "expected"),
    [
        ("abcd", "abcd", 1.0),
        ("abxd", "abcd", 0.75),  # one substitution of four
        ("abc", "abcd", 0.75),  # one deletion, the longer has four
        ("abcde", "abcd", 0.8),  # one insertion, the longer has five
        ("", "abcd", 0.0),
        ("", "", 1.0),
        ("xyz", "abcd", 0.0),
    ],
)
def test_ned(reading: str, truth: str, expected: float) -> None:
    assert ned(reading, truth) == pytest.approx(expected)


@given(TEXT, TEXT)
def test_ned_properties(a: str, b: str) -> None:
    assert 0 <= ned(a, b) <= 1
    assert ned(a, b) == ned(b, a)
    assert ned(a, a) == 1
    assert (ned(a, b) == 1) == bool(accuracy(a, b))
    assert normalise(normalise(a)) == normalise(a)


def test_psnr() -> None:
    a = np.zeros((4, 5, 3), np.uint8)
    assert psnr(a, a) == 100
    assert psnr(a, a + np.uint8(255)) == pytest.approx(0)
    assert psnr(a, a + np.uint8(16)) == pytest.approx(20 * np.log10(255 / 16))
    with pytest.raises(ValueError, match="one shape"):
        psnr(a, a[:2])


def test_bootstrap() -> None:
    values = [0.0] * 40 + [1.0] * 60
    interval = bootstrap(values)
    assert interval.mean == pytest.approx(0.6)
    # The standard error is sqrt(.24 / 100) = .049.
    assert interval.low == pytest.approx(0.6 - 1.96 * 0.049, abs=0.02)
    assert interval.high == pytest.approx(0.6 + 1.96 * 0.049, abs=0.02)
    assert bootstrap(values) == interval
    assert bootstrap([2.0, 2.0]).format(1) == "2.0 [2.0, 2.0]"
    assert np.isnan(bootstrap([]).mean)


def test_paired_differences_are_narrower() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(0, 1, 200)
    other = base + 0.1 + rng.normal(0, 0.05, 200)
    paired = bootstrap(other - base)
    assert 0 < paired.low < 0.1 < paired.high
    assert paired.high - paired.low < 0.1 * (bootstrap(other).high - bootstrap(other).low)


def test_st_lpips() -> None:
    pytest.importorskip("stlpips_pytorch", reason="its weights come with the package")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
    metric = PerceptualMetric()
    assert metric(image, image) == 0
    assert metric(image, 255 - image) > 0.01
