"""The Frechet distance of two sets of pictures, named for the features that it is measured on.

It is FID (Heusel et al. 2017) on Inception's features alone, whose weights come with no package: see `open_features`.
Without them it is measured on another network's and must not be called FID.
"""

from __future__ import annotations

import pickle
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from textsr.errors import InputError

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
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode():
            x = (x - self._network.get_buffer("shift")) / self._network.get_buffer("scale")
            for stage in self._network.stages:
                x = stage(x)
        return np.asarray(x[0].double().mean((1, 2)))


INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
"""The file of torch-fidelity's release v0.2.0, the weights that FID is defined by."""

_DAMAGED = (OSError, RuntimeError, LookupError, ValueError, EOFError, pickle.UnpicklingError)
"""What torch raises on a file that is damaged or holds something else."""


class InceptionFeatures:
    """The 2048 pooled features of Inception v3 as FID takes them, by torch-fidelity through torchmetrics."""

    name = "FID"
    detail = (
        "FID between restored and HR lines: Inception v3, 2048 features, torch-fidelity's weights, lines resized to "
        "299 x 299"
    )
    size = 2048

    def __init__(self, path: Path) -> None:
        """Raises InputError when ``path`` holds anything but tensors, or other ones."""
        import_module("train.compat")
        from torchmetrics.image.fid import NoTrainInceptionV3

        try:
            # The package loads the file without this guard: what passes here cannot run code there.
            torch.load(path, map_location="cpu", weights_only=True)
            self._network: Any = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))
        except _DAMAGED as error:
            raise InputError(f"{path}: no weights of Inception for FID ({error}); fetch the file again") from error

    def __call__(self, image: NDArray[np.uint8]) -> Vector:
        """(2048,) of a picture (H,W,3) uint8."""
        with torch.inference_mode():
            found = self._network(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])
        return np.asarray(found[0].double())


def open_features() -> Features:
    """Inception's, where torch-fidelity is installed and its file `INCEPTION` is in torch's folder of downloads; else
    ST-LPIPS's. Nothing is downloaded. Raises InputError where the weights cannot be used."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION
    if path.is_file() and find_spec("torch_fidelity") is not None:
        return InceptionFeatures(path)
    return PerceptualFeatures()


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
