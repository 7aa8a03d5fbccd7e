"""The Frechet distance of two sets of pictures, named for the features that it is measured on.

It is FID (Heusel et al. 2017) on Inception's features alone, whose weights come with no package. Without them it is
measured on another network's and must not be called FID.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Vector = NDArray[np.float64]


class Features(Protocol):
    """A network that makes a vector of a picture."""

    @property
    def name(self) -> str:
        """Of the distance on these features."""

    @property
    def detail(self) -> str:
        """The same in a sentence."""

    @property
    def size(self) -> int:
        """Numbers in a vector."""

    def __call__(self, image: NDArray[np.uint8]) -> Vector:
        """(size,) of a picture (H,W,3) uint8."""


class PerceptualFeatures:
    """The last stage of ST-LPIPS's shift-tolerant AlexNet, averaged over the picture: 256 numbers."""

    name = "Frechet (ST-LPIPS AlexNet)"
    detail = (
        "Frechet distance between restored and HR lines on 256 features of ST-LPIPS's AlexNet (last stage, averaged "
        "over the line). It is NOT FID, whose Inception weights are not here, and compares with no published FID"
    )
    size = 256

    def __init__(self) -> None:
        from train.losses import PerceptualLoss

        self._network = PerceptualLoss("st-lpips")

    def __call__(self, image: NDArray[np.uint8]) -> Vector:
        """(256,) of a picture (H,W,3) uint8 of at least 32 x 32 pixels."""
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            x = (x - self._network.get_buffer("shift")) / self._network.get_buffer("scale")
            for stage in self._network.stages:
                x = stage(x)
        return np.asarray(x[0].double().mean((1, 2)))


class _Given(nn.Module):
    """Hands features through: torchmetrics asks for a network, ours have been read already."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: NDArray[np.float64], made: NDArray[np.float64]) -> float:
    """Frechet distance of the normal distributions fitted to two sets of features (n, d); by torchmetrics.

    NaN for fewer than two pictures in a set. Both sets bias it upwards while n is not well above d.
    """
    import_module("train.compat")  # makes torchvision importable, which torchmetrics imports
    from torchmetrics.image.fid import FrechetInceptionDistance

    if min(len(real), len(made)) < 2:
        return float("nan")
    metric: Any = FrechetInceptionDistance(feature=_Given(real.shape[1]))
    metric.update(torch.from_numpy(np.asarray(real, np.float64)), real=True)
    metric.update(torch.from_numpy(np.asarray(made, np.float64)), real=False)
    return max(0.0, float(metric.compute()))  # equal sets give some -1e-5
