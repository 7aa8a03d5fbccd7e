"""Metrics against cases worked out by hand, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from train.metrics import PerceptualMetric, accuracy, bootstrap, ned, normalise, psnr, ssim

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


def _edits(a: str, b: str) -> int:
    """Levenshtein's distance by its definition."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (one != other))
    return row[-1]


@given(TEXT, TEXT)
def test_ned_agrees_with_its_definition(a: str, b: str) -> None:
    reading, truth = normalise(a), normalise(b)
    longest = max(len(reading), len(truth))
    assert ned(a, b) == pytest.approx((longest - _edits(reading, truth)) / longest if longest else 1)


def _picture(seed: int, shape: tuple[int, int, int] = (40, 56, 3)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_psnr() -> None:
    a = np.zeros((4, 5, 3), np.uint8)
    assert psnr(a, a) == 100
    assert psnr(a, a + np.uint8(255)) == pytest.approx(0, abs=1e-6)
    assert psnr(a, a + np.uint8(16)) == pytest.approx(20 * np.log10(255 / 16))
    with pytest.raises(ValueError, match="one shape"):
        psnr(a, a[:2])


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_psnr_agrees_with_numpy(seed: int) -> None:
    a, b = _picture(seed), _picture(seed + 1)
    error = np.mean((a.astype(np.float64) - b) ** 2)
    assert psnr(a, b) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-6)


def test_ssim_of_flat_pictures_is_its_luminance_term() -> None:
    a, constant = np.full((32, 32, 3), 100, np.uint8), (0.01 * 255) ** 2
    assert ssim(a, a) == pytest.approx(1)
    expected = (2 * 100 * 160 + constant) / (100**2 + 160**2 + constant)
    assert ssim(a, a + np.uint8(60)) == pytest.approx(expected, abs=1e-3)
    with pytest.raises(ValueError, match="one shape"):
        ssim(a, a[:20])


def test_ssim_agrees_with_scipy() -> None:
    """Against the formula of Wang et al. 2004 with scipy's Gaussian."""
    ndimage = pytest.importorskip("scipy.ndimage")
    a = _picture(0)
    b = (0.7 * a + 0.3 * _picture(1)).astype(np.uint8)

    def mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.gaussian_filter(plane, 1.5, truncate=3.5, mode="mirror"))

    found = []
    for x, y in zip(a.transpose(2, 0, 1).astype(np.float64), b.transpose(2, 0, 1).astype(np.float64), strict=True):
        mx, my = mean(x), mean(y)
        vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        found.append(((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())
    assert ssim(a, b) == pytest.approx(np.mean(found), abs=1e-4)


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


def test_bootstrap_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).exponential(2.0, 150)
    found = bootstrap(values, draws=4000)
    other = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(5))
    spread = found.high - found.low
    assert found.low == pytest.approx(other.confidence_interval.low, abs=0.06 * spread)
    assert found.high == pytest.approx(other.confidence_interval.high, abs=0.06 * spread)


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
