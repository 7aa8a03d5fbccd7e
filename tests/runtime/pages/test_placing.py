"""Cut out, put back: places, colours, edges, overlaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.pages.geometry import cut_out, grown, homography, inverted, project, rectangle, sides, usable, warped
from runtime.pages.placing import Placing, detail, opacity, palette, placed
from runtime.result import enlarged
from tests.runtime.pages.stand_ins import draw_page, turned, upright

PAGE = draw_page()
BOX = upright(16, 18, 160, 26)
SCALE = 4


def put_back(restored: NDArray[np.uint8] | None = None, box: NDArray[np.float32] = BOX) -> NDArray[np.uint8]:
    """The page with its first line replaced; None: by itself enlarged."""
    crop = cut_out(PAGE, box)
    image = enlarged(crop, SCALE) if restored is None else restored
    return placed(enlarged(PAGE, SCALE), [Placing(image, crop, box, 3.0)], SCALE, SCALE)


quads = st.tuples(
    st.floats(-20, 200), st.floats(-20, 120), st.floats(12, 120), st.floats(6, 60), st.floats(0, 360),
    st.lists(st.floats(-0.2, 0.2), min_size=8, max_size=8),
).map(
    lambda drawn: turned(upright(*drawn[:4]), drawn[4])
    + np.array(drawn[5]).reshape(4, 2) * min(drawn[2], drawn[3])
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(quads)
def test_a_homography_goes_there_and_back(quad: NDArray[np.float64]) -> None:
    assert usable(quad)
    height, width = sides(quad)
    there = homography(rectangle(width, height), quad)
    assert np.allclose(project(there, rectangle(width, height)), quad, atol=1e-6)
    assert np.allclose(project(inverted(there), quad), rectangle(width, height), atol=1e-6)
    assert usable(grown(quad, 0.2 * min(height, width)))


def test_what_is_no_quadrilateral() -> None:
    box = upright(0, 0, 20, 8).astype(np.float64)
    assert usable(box)
    assert not usable(box[::-1])  # counterclockwise
    assert not usable(box[[0, 2, 1, 3]])  # crossing itself
    assert not usable(box * (1, 0))  # no area
    assert not usable(box * np.nan)
    assert not usable(box[:3])


def test_an_upright_box_is_cut_out_pixel_by_pixel() -> None:
    assert np.array_equal(cut_out(PAGE, BOX), PAGE[18:44, 16:176])
    assert np.array_equal(cut_out(PAGE, upright(-4, -3, 30, 20))[3:, 4:], PAGE[:17, :26])
    assert np.array_equal(cut_out(PAGE, upright(-4, -3, 30, 20))[0, 4:], PAGE[0, :26])  # beyond, the edge repeats


def test_a_quarter_turn_is_cut_out_turned() -> None:
    tall = upright(30, 20, 12, 60)
    assert np.array_equal(cut_out(PAGE, np.roll(tall, -1, axis=0)), np.rot90(PAGE[20:80, 30:42]))


@settings(max_examples=8, deadline=None)
@given(quads)
def test_a_line_that_nothing_was_done_to_leaves_the_page_as_it_is(quad: NDArray[np.float64]) -> None:
    crop = cut_out(PAGE, quad)
    before = enlarged(PAGE, SCALE)
    after = placed(before, [Placing(enlarged(crop, SCALE), crop, quad.astype(np.float32), 2.0)], SCALE, SCALE)
    assert np.array_equal(before, after)


@settings(max_examples=8, deadline=None)
@given(quads)
def test_outside_of_its_corners_nothing_changes(quad: NDArray[np.float64]) -> None:
    crop = cut_out(PAGE, quad)
    before = enlarged(PAGE, SCALE)
    wild = np.random.default_rng(0).integers(0, 256, (crop.shape[0] * 4, crop.shape[1] * 4, 3)).astype(np.uint8)
    after = placed(before, [Placing(wild, crop, quad.astype(np.float32), 0.0)], SCALE, SCALE)
    height, width = sides(quad)
    rows, columns = np.nonzero((before != after).any(axis=2))
    at = project(inverted(homography(rectangle(width, height), quad)), (np.column_stack([columns, rows]) + 0.5) / SCALE)
    assert (at >= -1e-3).all()
    assert (at <= np.array((width, height)) + 1e-3).all()


@pytest.mark.parametrize("degrees", [0, 4, 90, 200])
def test_a_mark_comes_to_its_place(degrees: float) -> None:
    """A black spot painted at a known place of the restored line is found at that place of the page."""
    page = draw_page(240, 300)
    box = turned(upright(70, 200, 100, 30), degrees)
    crop = cut_out(page, box)
    marked = enlarged(crop, SCALE)
    marked[14 * 4 : 17 * 4, 70 * 4 : 73 * 4] = 0
    before = enlarged(page, SCALE)
    change = np.abs(placed(before, [Placing(marked, crop, box, 2.0)], SCALE, SCALE).astype(float) - before).sum(axis=2)
    strong = change > change.max() / 2
    middle = np.array([np.nonzero(strong)[1].mean(), np.nonzero(strong)[0].mean()]) + 0.5
    wanted = project(homography(rectangle(100, 30), box), np.array([(71.5, 15.5)]))[0] * SCALE
    assert np.abs(middle - wanted).max() < 1.5


def test_sharper_strokes_are_taken() -> None:
    sharp = np.where(enlarged(cut_out(PAGE, BOX), SCALE).mean(axis=2, keepdims=True) > 140, 225, 40).astype(np.uint8)
    after = put_back(np.repeat(sharp, 3, axis=2)).astype(float)
    before = enlarged(PAGE, SCALE).astype(float)
    line = np.s_[18 * 4 + 16 : 44 * 4 - 16, 20 * 4 : 150 * 4]
    steep = [np.abs(np.diff(image[line].mean(axis=2), axis=1)).max() for image in (before, after)]
    assert steep[1] > 2 * steep[0]


@pytest.mark.parametrize("shift", [(40, 40, 40), (-30, 10, 50)])
def test_a_shift_of_colour_is_undone(shift: tuple[int, int, int]) -> None:
    crop = cut_out(PAGE, BOX)
    tinted = np.clip(enlarged(crop, SCALE).astype(int) * 0.6 + np.add(60, shift), 0, 255).astype(np.uint8)
    page = enlarged(PAGE, SCALE).astype(float)
    line = np.s_[18 * 4 : 44 * 4, 16 * 4 : 176 * 4]
    raw = np.abs(tinted.mean(axis=(0, 1)) - page[line].mean(axis=(0, 1)))
    kept = np.abs(put_back(tinted)[line].mean(axis=(0, 1)) - page[line].mean(axis=(0, 1)))
    assert raw.max() > 20
    assert kept.max() < 1


def test_paper_without_ink_stays_what_it_was() -> None:
    box = upright(180, 60, 50, 20)
    crop = cut_out(PAGE, box)
    grain = np.random.default_rng(0).normal(0, 2, (80, 200, 1))
    dull = np.clip(enlarged(crop, SCALE) + grain - 25, 0, 255).astype(np.uint8)
    off = np.abs(
        placed(enlarged(PAGE, SCALE), [Placing(dull, crop, box, 3.0)], SCALE, SCALE).astype(int) - enlarged(PAGE, SCALE)
    )
    assert off.max() <= 5
    assert off.mean() < 0.2


def test_colours_that_the_line_has_not_are_damped() -> None:
    crop = cut_out(draw_page(shade=0), BOX)
    before = enlarged(crop, SCALE)
    along = np.subtract((236, 232, 220), (30, 30, 80)) / 255.0  # ink to paper
    off = np.array((1.0, -1.0, 0.0))
    kept = along @ palette(crop)
    assert np.allclose(kept, along, atol=0.02)
    assert np.linalg.norm(off @ palette(crop)) < 0.35 * np.linalg.norm(off)
    noise = np.random.default_rng(1).normal(0, 40, (*before.shape[:2], 1)) * off
    speckled = np.clip(before + noise, 0, 255).astype(np.uint8)
    shown = before + detail(speckled, crop)
    wrong = [np.abs(np.diff(image.astype(float)[:, :, :2], axis=2)).mean() for image in (before, speckled, shown)]
    assert wrong[1] - wrong[0] > 4 * (wrong[2] - wrong[0])


@given(st.floats(-5, 45), st.floats(-5, 25))
def test_opacity(x: float, y: float) -> None:
    found = float(opacity(np.array(x), np.array(y), (20, 40), 4.0))
    inside = min(x, 40 - x, y, 20 - y)
    assert found == 0 if inside <= 0 else found <= 1
    assert found == 1 or inside < 4


def test_no_step_at_the_edges() -> None:
    """White instead of the line: the change grows from nothing at the edge by little a pixel."""
    crop = cut_out(PAGE, BOX)
    stripes = np.zeros((crop.shape[0] * 4, crop.shape[1] * 4, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = 255
    change = put_back(stripes).astype(float) - enlarged(PAGE, SCALE)
    assert np.abs(change[18 * 4 : 44 * 4, 16 * 4 + 2]).max() < 25
    assert np.abs(change[18 * 4 : 44 * 4, 16 * 4 + 60]).max() > 60
    outside = change.copy()
    outside[18 * 4 : 44 * 4, 16 * 4 : 176 * 4] = 0
    assert not outside.any()


def test_overlapping_lines_share_and_their_order_is_of_no_account() -> None:
    boxes = [upright(16, 18, 100, 26), turned(upright(80, 22, 100, 26), 10), upright(60, 30, 60, 30)]
    placings = []
    for number, box in enumerate(boxes):
        crop = cut_out(PAGE, box)
        image = np.roll(enlarged(crop, SCALE), 2 + number, axis=1)
        placings.append(Placing(image, crop, box, 3.0))
    page = enlarged(PAGE, SCALE)
    one = placed(page, placings, SCALE, SCALE).astype(int)
    other = placed(page, placings[::-1], SCALE, SCALE).astype(int)
    assert np.abs(one - other).max() <= 2  # each of three lines is rounded
    twice = placed(page, [placings[0], placings[0]], SCALE, SCALE).astype(int)
    once = placed(page, placings[:1], SCALE, SCALE).astype(int)
    full = np.s_[18 * 4 + 16 : 44 * 4 - 16, 20 * 4 : 110 * 4]
    assert np.abs(twice - once)[full].max() <= 1


def test_warped_by_the_identity() -> None:
    assert np.array_equal(warped(PAGE, np.eye(3), *PAGE.shape[:2]), PAGE)
