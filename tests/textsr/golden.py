"""Golden vectors that stand beside a checkout (../shared/reference/golden); tests skip where they are missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.lib.npyio import NpzFile
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "reference" / "golden"

needs_golden = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no golden vectors at {FOLDER}")


def load(name: str) -> NpzFile:
    """The vectors of one file."""
    return np.load(FOLDER / f"{name}.npz")


def recipe() -> ModuleType:
    """The module that makes the weights and inputs."""
    spec = importlib.util.spec_from_file_location("golden_recipe", FOLDER / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def normal(name: str, *shape: int) -> Tensor:
    """The recipe's normal input of that name."""
    return torch.from_numpy(recipe().normal(name, shape))


def integers(name: str, shape: tuple[int, ...], high: int) -> Tensor:
    """The recipe's integer input of that name."""
    return torch.from_numpy(recipe().integers(name, shape, high))


def published_state(name: str) -> dict[str, Tensor]:
    """The recipe's state dict under the published names and shapes, without what a network builds itself."""
    lines = (FOLDER / f"keys_{name}.tsv").read_text(encoding="utf-8").splitlines()
    weight, found = recipe().weight, {}
    for key, shape, _ in (line.split("\t") for line in lines if line):
        filled = weight(key, () if shape == "scalar" else tuple(map(int, shape.split("x"))))
        if filled is not None:
            found[key] = torch.from_numpy(np.asarray(filled))
    return found


def assert_close(ours: Tensor, golden: np.ndarray, share: float = 2e-4) -> None:
    """The largest difference is at most ``share`` of the golden vector's standard deviation."""
    worst = float(np.abs(ours.detach().numpy() - golden).max())
    assert worst <= share * float(golden.std()), f"differs by {worst / float(golden.std()):.2e} of the deviation"
