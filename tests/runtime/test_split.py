"""Splitting long lines and putting them together: nothing lost, nothing doubled, cuts where there is no ink."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.split import Limits, Window, cut_cost, ink, windows
from runtime.stitch import blended, fades, merged, owns, seen
from textsr.errors import InputError
from textsr.reading import LineReading

LIMITS = Limits(128, 24, 16)


def noise(columns: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (32, columns, 3)).astype(np.float32)


def bars(count: int, bar: int, gap: int) -> NDArray[np.float32]:
    """Characters as blocks of ``bar`` columns with ``gap`` empty ones around each."""
    line = np.ones((32, count * (bar + gap) + gap, 3), np.float32)
    for place in range(count):
        start = gap + place * (bar + gap)
        line[4:28, start : start + bar] = -1
    return line


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 1500),
    st.integers(0, 2**31),
    st.integers(0, 120),
    st.sampled_from([LIMITS, Limits(64, 4, 16), Limits(96, 10, 5), Limits(128, 24, 0)]),
)
def test_every_column_and_character_is_covered_once(columns: int, seed: int, chars: int, limits: Limits) -> None:
    centres = np.sort(np.random.default_rng(seed).uniform(0, columns, chars)).tolist()
    found = windows(noise(columns, seed), limits, centres)
    assert found[0].left == found[0].core_left == 0
    assert found[-1].right == found[-1].core_right == columns
    assert all(one.core_right == other.core_left for one, other in pairwise(found))
    for window in found:
        assert 0 <= window.left <= window.core_left < window.core_right <= window.right <= columns
        assert window.right - window.left <= limits.columns
    assert all(sum(owns(window, centre, columns) for window in found) == 1 for centre in centres)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 1200), st.integers(0, 2**31), st.floats(0, 40), st.integers(0, 16))
def test_the_windows_weights_sum_to_one(columns: int, seed: int, blend: float, overlap: int) -> None:
    found = windows(noise(columns, seed), Limits(128, 24, overlap))
    total = np.zeros(columns * 4)
    for window, weight in zip(found, fades(found, blend), strict=True):
        assert weight.min() >= 0
        total[window.left * 4 : window.right * 4] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(130, 700), st.integers(0, 2**31))
def test_windows_of_a_picture_blend_into_the_picture(columns: int, seed: int) -> None:
    picture = np.random.default_rng(seed).normal(size=(8, columns * 4, 3)).astype(np.float32)
    found = windows(noise(columns, seed), LIMITS)
    parts = [picture[:, window.left * 4 : window.right * 4] for window in found]
    np.testing.assert_allclose(blended(parts, found, 8), picture, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(6, 60), st.integers(9, 27), st.integers(4, 9))
def test_cuts_lie_in_gaps(count: int, bar: int, gap: int) -> None:
    line = bars(count, bar, gap)
    empty = ink(line) < 0.3
    for window in windows(line, LIMITS)[1:]:
        assert empty[window.core_left - 1 : window.core_left + 1].any()


@settings(max_examples=30, deadline=None)
@given(st.integers(25, 90), st.integers(8, 24))
def test_no_window_has_too_many_characters(count: int, most: int) -> None:
    line = bars(count, 5, 2)
    centres = [2 + place * 7 + 2.5 for place in range(count)]
    found = windows(line, Limits(128, most, 8), centres)
    assert max(sum(window.left <= centre < window.right for centre in centres) for window in found) <= most


def test_a_short_line_is_one_window() -> None:
    assert windows(noise(128, 0), LIMITS, list(range(24))) == (Window(0, 128, 0, 128),)
    assert len(windows(noise(129, 0), LIMITS)) == 2
    assert len(windows(noise(128, 0), LIMITS, [place * 5.0 for place in range(25)])) == 2


def test_windows_are_as_few_as_they_can_be() -> None:
    for count in (10, 20, 30):
        line = bars(count, 24, 4)
        found = windows(line, LIMITS)
        assert len(found) <= 1 + -(-line.shape[1] // (128 - 2 * 24))


@settings(max_examples=25, deadline=None)
@given(st.integers(9, 13), st.integers(0, 2**31))
def test_the_cuts_are_the_cheapest_of_all(columns: int, seed: int) -> None:
    """Against trying every set of cuts, without overlap: then a window is its core."""
    line, limits = noise(columns, seed), Limits(6, 24, 0)
    cost = cut_cost(line)

    def price(cuts: tuple[int, ...]) -> float:
        lengths = np.diff([0, *cuts, columns])
        if lengths.max() > limits.columns:
            return np.inf
        return float(len(lengths) + cost[list(cuts)].sum() + 0.5 * ((lengths / limits.columns) ** 2).sum())

    every = [cuts for size in range(5) for cuts in combinations(range(1, columns), size)]
    found = windows(line, limits)
    assert price(tuple(window.core_left for window in found[1:])) == pytest.approx(min(map(price, every)))


def test_a_crop_that_is_no_line_is_refused() -> None:
    with pytest.raises(InputError, match="no text line"):
        windows(np.zeros((1, 20000, 3), np.float32), LIMITS)
    with pytest.raises(InputError, match="overlap"):
        Limits(32, 24, 16)


@settings(max_examples=60, deadline=None)
@given(st.text("abあ文l", min_size=1, max_size=90), st.integers(0, 2**31))
def test_a_reading_in_windows_is_neither_doubled_nor_cut(text: str, seed: int) -> None:
    """Each window reads what it sees, places off by up to a fifth of a character."""
    columns, rng = len(text) * 16, np.random.default_rng(seed)
    found = windows(noise(columns, seed), LIMITS)
    readings = []
    for window in found:
        width = window.right - window.left
        places = [place for place in range(len(text)) if window.left <= place * 16 + 8 < window.right]
        at = [place * 16 + 8 + rng.uniform(-3, 3) for place in places]
        shares = tuple(float(np.clip((x - window.left) / width, 0, 1)) for x in at)
        readings.append(LineReading("".join(text[place] for place in places), (0.5,) * len(places), shares))
    assert merged(readings, found, columns).text == text


@settings(max_examples=60, deadline=None)
@given(st.text("abc文字", min_size=15, max_size=90), st.integers(0, 2**31))
def test_the_own_characters_of_all_windows_are_the_text(text: str, seed: int) -> None:
    columns = 9 * len(text)
    rng = np.random.default_rng(seed)
    centres = tuple(np.sort(rng.uniform(0, 1, len(text))).tolist())
    reading = LineReading(text, tuple(rng.uniform(0, 1, len(text)).tolist()), centres)
    found = windows(noise(columns, seed), LIMITS, [centre * columns for centre in centres])
    parts = [seen(reading, window, columns) for window in found]
    assert "".join(part.text[own.start : own.stop] for part, own in parts) == text
