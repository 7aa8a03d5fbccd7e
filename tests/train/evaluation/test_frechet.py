"""The Frechet distance against cases worked out by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from train.evaluation.frechet import PerceptualFeatures, frechet_distance


def _with(mean: list[float], deviation: list[float]) -> NDArray[np.float64]:
    """Four points of exactly this mean and these uncorrelated (unbiased) deviations."""
    signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])
    return np.asarray(mean) + signs * np.asarray(deviation) * np.sqrt(3 / 4)


@pytest.mark.parametrize(
    ("mean", "deviation", "expected"),
    [
        ([0, 0], [1, 1], 0.0),
        ([3, 4], [1, 1], 25.0),  # equal covariances: the squared distance of the means
        ([0, 0], [2, 1], 1.0),  # (2 - 1)^2 + (1 - 1)^2
        ([0, 1], [3, 5], 1 + 4 + 16),
    ],
)
def test_by_hand(mean: list[float], deviation: list[float], expected: float) -> None:
    assert frechet_distance(_with([0, 0], [1, 1]), _with(mean, deviation)) == pytest.approx(expected, abs=1e-6)


def test_agrees_with_scipy() -> None:
    """Against the formula with scipy's matrix square root."""
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)), rng.normal(0.5, 2, size=(40, 5))
    one, other = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(one @ other).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(one + other - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_needs_two_of_each() -> None:
    assert np.isnan(frechet_distance(np.zeros((1, 3)), np.zeros((4, 3))))


def test_features_tell_pictures_apart_and_are_named_for_their_network() -> None:
    pytest.importorskip("stlpips_pytorch", reason="its weights come with the package")
    features = PerceptualFeatures()
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (8, 12, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    found = features(image)
    assert found.shape == (features.size,)
    assert np.array_equal(found, features(image.copy()))
    assert np.abs(found - features(255 - image)).max() > 0.01
    assert "FID" not in features.name
    assert "NOT FID" in features.detail
