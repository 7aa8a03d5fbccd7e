"""Rounding and storing of weights, and the errors of values that half precision cannot hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from export.weights import layout, round_weights, save_weights
from textsr.errors import InputError


@pytest.fixture
def small() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 5), nn.Embedding(7, 2))
    module.register_buffer("atlas", torch.arange(6, dtype=torch.uint8).view(2, 3))
    return module


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_layout_points_at_the_tensors(small: nn.Module, precision: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    round_weights(small, precision)
    save_weights(small, path, precision, {"licence": "Apache-2.0"})
    content = path.read_bytes()
    for name, tensor in load_file(path).items():
        place = layout(path)[name]
        raw = np.frombuffer(content[place.offset : place.offset + place.length], tensor.dtype)
        np.testing.assert_array_equal(raw.reshape(place.shape), tensor)
        np.testing.assert_array_equal(tensor.astype(np.float32), small.state_dict()[name].float().numpy())


def test_the_file_is_the_same_every_time(small: nn.Module, tmp_path: Path) -> None:
    words = {f"word {number}": str(number) for number in range(20)}
    contents = set()
    for number in range(5):
        path = tmp_path / f"{number}.safetensors"
        save_weights(small, path, "fp32", words)
        contents.add(path.read_bytes())
    assert len(contents) == 1


@pytest.mark.parametrize(("value", "precision"), [(1e5, "fp16"), (float("nan"), "fp32"), (float("inf"), "fp16")])
def test_what_cannot_be_stored_is_named(small: nn.Module, value: float, precision: str) -> None:
    with torch.no_grad():
        small.get_parameter("0.weight")[1, 2] = value
    with pytest.raises(InputError, match=r"weight 0\.weight is not finite in " + precision):
        round_weights(small, precision)
