"""Resizing against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textsr.errors import InputError
from textsr.resize import bicubic_resize, bicubic_x4, bilinear_resize, nearest_resize

SIDE = st.integers(1, 40)


@settings(deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.integers(0, 99))
def test_equals_torch(height: int, width: int, new_height: int, new_width: int, seed: int) -> None:
    image = np.random.default_rng(seed).uniform(-1, 1, (height, width, 3)).astype(np.float32)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    theirs = torch.nn.functional.interpolate(batch, size=(new_height, new_width), mode="bicubic", align_corners=False)
    ours = bicubic_resize(image, new_height, new_width)
    np.testing.assert_allclose(ours, theirs[0].permute(1, 2, 0).numpy(), atol=2e-5)


def test_x4_of_a_line() -> None:
    image = np.full((32, 128, 3), 0.25, dtype=np.float32)
    large = bicubic_x4(image)
    assert large.shape == (128, 512, 3)
    assert large.dtype == np.float32
    np.testing.assert_allclose(large, 0.25, atol=1e-6)


def test_empty() -> None:
    with pytest.raises(InputError, match="at least 1"):
        bicubic_resize(np.zeros((0, 4, 3), np.float32), 8, 8)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 900), st.integers(1, 70), st.integers(1, 300))
def test_recogniser_sizes_equal_torch(height: int, width: int, new_height: int, new_width: int) -> None:
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    batch, size = torch.from_numpy(image).permute(2, 0, 1)[None].float(), (new_height, new_width)
    nearest = torch.nn.functional.interpolate(batch, size, mode="nearest")
    np.testing.assert_array_equal(nearest_resize(image, *size), nearest[0].permute(1, 2, 0).numpy())
    smooth = torch.nn.functional.interpolate(batch, size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(bilinear_resize(image, *size), smooth[0].permute(1, 2, 0).numpy(), atol=2e-2)
