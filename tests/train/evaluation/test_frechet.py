"""The Frechet distance against cases worked out by hand and against scipy."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from textsr.errors import InputError
from train.evaluation.frechet import INCEPTION, PerceptualFeatures, frechet_distance, open_features


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


def test_without_inception_the_features_are_st_lpips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("stlpips_pytorch", reason="its weights come with the package")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert isinstance(open_features(), PerceptualFeatures)


@pytest.mark.slow
def test_with_inceptions_weights_it_is_fid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a file of random weights, in the place and format of the published ones."""
    import_module("train.compat")
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    network = module.FeatureExtractorInceptionV3
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / INCEPTION
    path.parent.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *given, **options: {})
        patch.setattr(network, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        torch.save(network("random", ["2048"]).state_dict(), path)
    features = open_features()
    assert features.name == "FID"
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    found = features(image)
    assert found.shape == (2048,)
    assert np.isfinite(found).all()
    assert np.abs(found - features(255 - image)).max() > 0
    path.write_bytes(b"broken")
    with pytest.raises(InputError, match="no weights of Inception"):
        open_features()
