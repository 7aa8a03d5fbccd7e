"""The order in which lines are read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.pages.order import reading_order
from tests.runtime.pages.stand_ins import turned, upright

Box = NDArray[np.float32]


def check(boxes: list[Box]) -> None:
    """``boxes`` are in order: whatever order they come in, that is found."""
    for seed in range(4):
        shuffled = np.random.default_rng(seed).permutation(len(boxes))
        found = reading_order([boxes[place] for place in shuffled])
        assert [int(shuffled[place]) for place in found] == list(range(len(boxes)))


def about(boxes: list[Box], degrees: float) -> list[Box]:
    """All boxes turned about one point."""
    angle = np.deg2rad(degrees)
    matrix = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return [np.asarray((box - 200) @ matrix + 200, dtype=np.float32) for box in boxes]


ROWS = [upright(left, top, 90, 20) for top in (10, 40, 70) for left in (10, 120, 240)]
COLUMN = [upright(20, 30 * row, 150, 20) for row in range(2, 8)]
COLUMNS = [
    upright(20, 0, 330, 24),
    *COLUMN,
    *[box + np.array((180, 7), np.float32) for box in COLUMN],
    upright(20, 290, 330, 20),
]
STANDING = [upright(left, top, 22, 100) for left in (200, 160, 120) for top in (10, 130)]


@pytest.mark.parametrize("boxes", [[], ROWS[:1], ROWS, COLUMN, COLUMNS, STANDING])
def test_layouts(boxes: list[Box]) -> None:
    check(boxes)


@pytest.mark.parametrize("degrees", [-12, -3, 2, 8, 20])
@pytest.mark.parametrize("boxes", [ROWS, COLUMNS])
def test_turned_pages(boxes: list[Box], degrees: float) -> None:
    check(about(boxes, degrees))


def test_cells_of_a_table_are_read_row_by_row() -> None:
    check([upright(left, top, 50, 20) for top in (10, 40, 70, 100) for left in (10, 120, 240)])


def test_a_line_that_goes_up_a_little() -> None:
    check([turned(upright(10, 10, 100, 20), -2), upright(125, 6, 90, 20), upright(10, 45, 100, 20)])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 500), st.floats(0, 500), st.floats(5, 200), st.floats(5, 60)), max_size=25))
def test_every_line_once(drawn: list[tuple[float, float, float, float]]) -> None:
    boxes = [upright(*box) for box in drawn]
    assert sorted(reading_order(boxes)) == list(range(len(boxes)))
