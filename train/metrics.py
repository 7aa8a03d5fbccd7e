"""How good restored lines are: PSNR, ACC, NED, ST-LPIPS, and bootstrap intervals of their means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from textsr.alphabet import Alphabet

NORMALISATION = (
    "texts are compared after full width -> half width, lower case, traditional -> simplified by character, "
    "and without spaces"
)
"""What `normalise` does, to be printed beside figures."""

FULL_TO_HALF = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}


@lru_cache(maxsize=1)
def _folding() -> dict[int, str]:
    return {ord(symbol): simple for symbol, simple in Alphabet.load().folding.items()}


def normalise(text: str) -> str:
    """``text`` as ACC and NED see it; see `NORMALISATION`."""
    half = text.translate(FULL_TO_HALF)
    return re.sub(r"\s+", "", half.translate(_folding()).lower())


def accuracy(reading: str, truth: str) -> float:
    """1.0 where the normalised texts are the same, else 0.0; the mean over lines is ACC."""
    return float(normalise(reading) == normalise(truth))


def ned(reading: str, truth: str) -> float:
    """(longest - edit distance) / longest of the normalised texts, 0..1, higher is better; 1 where both are empty."""
    return float(Levenshtein.normalized_similarity(normalise(reading), normalise(truth)))


def psnr(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """dB over all pixels and channels of two uint8 images of one shape; 100 for equal ones."""
    if image.shape != truth.shape:
        raise ValueError(f"PSNR compares images of one shape, not {image.shape} and {truth.shape}")
    error = np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2)
    return 100.0 if error == 0 else float(min(100.0, 10 * np.log10(255.0**2 / error)))


class PerceptualMetric:
    """ST-LPIPS (0 is equal, lower is better) of pairs of uint8 images. Needs torch and the package's weights."""

    name = "ST-LPIPS"

    def __init__(self) -> None:
        from train.losses import PerceptualLoss

        self._network = PerceptualLoss("st-lpips")

    def __call__(self, image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
        """The distance of two images (H,W,3) of one shape, at least 32 x 32 pixels."""
        import torch

        pair = np.stack([image, truth]).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        with torch.inference_mode():
            return float(self._network(torch.from_numpy(pair[:1]), torch.from_numpy(pair[1:])))


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its bootstrap interval."""

    mean: float
    low: float
    high: float

    def format(self, digits: int = 3, scale: float = 1.0) -> str:
        """``mean [low, high]`` times ``scale``."""
        mean, low, high = (f"{value * scale:.{digits}f}" for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]"


def bootstrap(
    values: Sequence[float] | NDArray[np.float64], level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the mean of ``values`` (n,), lines resampled with replacement.

    For a paired difference give the differences line by line. Deterministic in ``seed``; NaN for no values.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        return Interval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [array[rng.integers(0, array.size, (part, array.size))].mean(axis=1) for part in _parts(draws, array.size)]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(array.mean()), float(low), float(high))


def _parts(draws: int, size: int) -> list[int]:
    """Draws in portions of at most a million numbers."""
    most = max(1, 1_000_000 // size)
    return [min(most, draws - done) for done in range(0, draws, most)]
