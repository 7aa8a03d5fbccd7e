"""How good restored lines are: PSNR, SSIM, LPIPS, ACC, NED, and bootstrap intervals of their means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from textsr.alphabet import Alphabet

if TYPE_CHECKING:
    from torch import Tensor

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


BEST_PSNR = 100.0
"""dB that `psnr` gives at most, equal images included."""


def psnr(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """dB over all pixels and channels of two uint8 images of one shape, at most `BEST_PSNR`; by torchmetrics."""
    one, other = _planes("PSNR", image, truth)
    return min(BEST_PSNR, float(_library().peak_signal_noise_ratio(one, other, data_range=255.0)))


def ssim(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Structural similarity (Wang et al. 2004) of two uint8 images (H,W,3), at most 1 for equal ones; by torchmetrics.

    A Gaussian window of 11 pixels and sigma 1.5, the mean over the three channels. At least 11 x 11 pixels.
    """
    one, other = (planes.float() for planes in _planes("SSIM", image, truth))  # ten times faster, equal to 1e-4
    return float(_library().structural_similarity_index_measure(one, other, data_range=255.0))


def _library() -> Any:
    """torchmetrics' functions of pictures. It imports torchvision, which `train.compat` makes possible."""
    import_module("train.compat")
    return import_module("torchmetrics.functional.image")


def _planes(name: str, image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Two images (H,W,3) uint8 as (1,3,H,W) float64."""
    import torch

    if image.shape != truth.shape:
        raise ValueError(f"{name} compares images of one shape, not {image.shape} and {truth.shape}")
    pair = torch.from_numpy(np.stack([image, truth])).permute(0, 3, 1, 2).double()
    return pair[:1], pair[1:]


class PerceptualMetric:
    """ST-LPIPS or LPIPS (0 is equal, lower is better) of pairs of uint8 images; ``name`` says which.

    Needs torch and the weights, see `train.losses.PerceptualLoss`; "auto" is LPIPS where its weights are here.
    """

    def __init__(self, variant: Literal["auto", "lpips", "st-lpips"] = "st-lpips") -> None:
        from train.losses import PerceptualLoss

        self._network = PerceptualLoss(variant)
        self.name = self._network.name.upper()

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
