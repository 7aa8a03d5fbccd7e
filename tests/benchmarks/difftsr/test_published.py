"""DiffTSR's own networks against the golden vectors, its parameter counts, and what a wrong state dict is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.difftsr import KLAutoencoder, from_published
from tests.textsr import golden


def listed(name: str) -> dict[str, Tensor]:
    """The recipe's state dict under the published names."""
    lines = (golden.FOLDER / f"keys_{name}.tsv").read_text(encoding="utf-8").split("\n")
    weight = golden.recipe().weight
    shapes = {key: tuple(map(int, shape.split("x"))) for key, shape, _ in (row.split("\t") for row in lines if row)}
    return {key: torch.from_numpy(np.asarray(weight(key, shape))) for key, shape in shapes.items()}


@golden.needs_golden
@pytest.mark.slow
@torch.no_grad()
def test_image_denoiser_equals_published() -> None:
    vectors = golden.load("difftsr_idm")
    idm = from_published("difftsr-idm", {"IDM_Unet": listed("difftsr_idm")})
    inputs = (
        golden.normal("idm.x", 1, 6, 32, 128),
        torch.from_numpy(vectors["t"]),
        golden.normal("idm.context", 1, 24, 160),
    )
    golden.assert_close(idm(*inputs), vectors["eps"])


@golden.needs_golden
@pytest.mark.slow
@torch.no_grad()
def test_autoencoder_equals_published() -> None:
    vectors = golden.load("difftsr_vae")
    vae = from_published("difftsr-vae", {f"module.{key}": value for key, value in listed("difftsr_vae").items()})
    assert isinstance(vae, KLAutoencoder)
    decoded = vae.decode(golden.normal("vae.z", 1, 3, 32, 128))
    golden.assert_close(decoded[..., ::4, ::4], vectors["decoded"])
    assert float(decoded.mean()) == pytest.approx(float(vectors["mean"]), abs=1e-5)
    assert float(decoded.std()) == pytest.approx(float(vectors["std"]), rel=1e-4)
