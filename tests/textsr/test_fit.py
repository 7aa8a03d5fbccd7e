"""Fitting a crop and cutting the result back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textsr.config import COMPACT, PAPER, Preset
from textsr.errors import InputError
from textsr.fit import fit_line, to_uint8, unfit_line
from textsr.resize import bicubic_x4

PRESETS = st.sampled_from([PAPER, COMPACT])


@settings(deadline=None)
@given(PRESETS, st.integers(1, 90), st.integers(1, 700), st.integers(0, 9))
def test_any_size_fits_and_comes_back(preset: Preset, height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = image.copy()
    line = fit_line(image, preset)
    assert line.lq.shape == (32, 128, 3)
    assert line.lq.dtype == np.float32
    assert np.abs(line.lq).max() <= 1
    assert 0 < line.width_share <= 1
    restored = unfit_line(bicubic_x4(line.lq), line)
    assert restored.shape == (4 * height, 4 * width, 3)
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


@settings(deadline=None)
@given(st.integers(1, 128))
def test_a_line_of_the_right_height_is_kept_exactly(width: int) -> None:
    image = np.random.default_rng(width).integers(0, 256, (32, width, 3), dtype=np.uint8)
    line = fit_line(image, COMPACT)
    assert line.place.columns == 4 * width
    np.testing.assert_array_equal(to_uint8(line.lq[:, :width]), image)
    np.testing.assert_array_equal(line.lq[:, width:], np.repeat(line.lq[:, width - 1 : width], 128 - width, axis=1))


def test_wide_lines_are_squeezed_and_paper_stretches() -> None:
    wide = np.zeros((20, 500, 3), dtype=np.uint8)
    narrow = np.zeros((32, 40, 3), dtype=np.uint8)
    assert fit_line(wide, COMPACT).width_share == 1
    assert fit_line(narrow, COMPACT).width_share == pytest.approx(40 / 128)
    assert fit_line(narrow, PAPER).width_share == 1


@pytest.mark.parametrize("height", [8, 32, 300])
def test_plain_colour_survives(height: int) -> None:
    image = np.full((height, 100, 3), (10, 128, 250), dtype=np.uint8)
    line = fit_line(image, COMPACT)
    restored = unfit_line(bicubic_x4(line.lq), line, scale=1)
    np.testing.assert_array_equal(restored, image)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_other_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="RGB"):
        fit_line(np.zeros(shape, dtype=np.uint8), COMPACT)


def test_unfit_refuses_other_sizes() -> None:
    line = fit_line(np.zeros((32, 32, 3), dtype=np.uint8), COMPACT)
    with pytest.raises(InputError, match="fitted for"):
        unfit_line(np.zeros((64, 64, 3), dtype=np.float32), line)
