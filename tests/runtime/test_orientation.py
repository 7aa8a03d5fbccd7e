"""Vertical lines: laid down, restored, stood up again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from runtime import Gate, Split
from runtime.options import Vertical
from runtime.orientation import choose_turn, is_tall, stacked, turned
from tests.runtime.helpers import KnowingReader, draw_line, stub_restorer
from textsr.config import TINY
from textsr.reading import LineReading, spread


def column(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def times_four(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image.repeat(4, axis=0).repeat(4, axis=1)


@pytest.mark.parametrize("degrees", [90, 270])
def test_a_turned_crop_comes_back(degrees: int) -> None:
    image = column(60, 20)
    laid = turned(image, degrees)
    assert laid.image.shape == (20, 60, 3)
    assert (laid.back(times_four(laid.image), 4) == times_four(image)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(30, 160), st.integers(8, 30), st.lists(st.floats(0, 1), max_size=9), st.integers(0, 99))
def test_a_column_laid_out_as_a_row_comes_back(height: int, width: int, centres: list[float], seed: int) -> None:
    image = column(height, width, seed)
    laid = stacked(image, centres, TINY)
    assert laid.cells[0] == 0
    assert laid.cells[-1] == height
    assert list(laid.cells) == sorted(set(laid.cells))
    assert laid.image.shape[1] == width * (len(laid.cells) - 1)
    assert (laid.back(times_four(laid.image), 4) == times_four(image)).all()
    assert laid.back(times_four(laid.image), 2.5).shape == (round(height * 2.5), round(width * 2.5), 3)


def test_cells_are_cut_between_the_characters() -> None:
    image = np.full((200, 20, 3), 230, np.uint8)
    for place in range(10):
        image[place * 20 + 4 : place * 20 + 16, 4:16] = 20
        image[place * 20 + 8 : place * 20 + 12, 7:13] = 230
    laid = stacked(image, [(place + 0.5) / 10 for place in range(10)], TINY)
    assert len(laid.cells) == 11
    assert all(image[row, :].min() == 230 for row in laid.cells[:-1])
    reading = LineReading("0123456789", (1.0,) * 10, tuple((place + 0.5) / 10 for place in range(10)))
    assert laid.centres(reading) == pytest.approx([(place + 0.5) / 10 for place in range(10)], abs=0.02)


HOWS: tuple[Vertical, ...] = ("auto", "turn", "stack", "off")


class TurnReader:
    """Reads a line whose upper left corner is dark: it knows which way is up."""

    name = "turns"

    def __init__(self, text: str = "竖排文字", *, rows_too: bool = False) -> None:
        self.text, self.rows_too = text, rows_too

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        return [self._read(image) for image in images]

    def _read(self, image: NDArray[np.uint8]) -> LineReading:
        height, width = image.shape[:2]
        lies = width > 2 * height
        dark = lies and int(image[: height // 2, : width // 16].mean()) < 60
        text = self.text if dark or (lies and self.rows_too) else "?"
        return LineReading(text, ((0.95 if dark else 0.3),) * len(text), spread(text))


def tall() -> NDArray[np.uint8]:
    """A crop 24 wide and 96 high, dark in its upper right corner."""
    image = np.full((96, 24, 3), 220, np.uint8)
    image[:12, 12:] = 20
    image[30:40, 4:20] = 90
    return image


def test_a_vertical_line_is_turned_restored_and_turned_back() -> None:
    restorer = stub_restorer(TurnReader("turned"))
    for image, degrees in ((tall(), 90), (tall()[::-1, ::-1], 270)):
        result = restorer([image], steps=2)[0]
        assert (result.turned, result.text, result.stacked) == (degrees, "turned", False)
        assert result.image.shape == (384, 96, 3)
        lying = restorer([np.ascontiguousarray(np.rot90(image, degrees // 90))], steps=2)[0]
        assert np.abs(np.rot90(lying.image, -degrees // 90).astype(int) - result.image).mean() < 12
        corner = result.image[:40, 56:] if degrees == 90 else result.image[-40:, :40]
        assert corner.mean() < 90


def test_centres_of_a_line_that_was_turned_clockwise_count_from_the_top() -> None:
    result = stub_restorer(TurnReader("ab"))([tall()[::-1, ::-1]], steps=1)[0]
    assert result.turned == 270
    assert list(result.centres) == sorted(result.centres, reverse=True)


def test_upright_characters_are_laid_out_as_a_row() -> None:
    result = stub_restorer(TurnReader(rows_too=True))([tall()], steps=1)[0]
    assert result.stacked
    assert result.turned == 0
    assert result.image.shape == (384, 96, 3)
    assert list(result.centres) == sorted(result.centres)
    smaller = stub_restorer(TurnReader(rows_too=True))([tall()], steps=1, scale=1)[0]
    assert smaller.image.shape == (96, 24, 3)


def test_what_is_asked_for_is_done() -> None:
    images = [tall()]
    restorer = stub_restorer()
    found = {how: restorer(images, steps=1, split=Split(vertical=how), gate=Gate.off())[0] for how in HOWS}
    assert [found[how].turned for how in found] == [90, 90, 0, 0]
    assert [found[how].stacked for how in found] == [False, False, True, False]
    assert all(result.applied and result.image.shape == (384, 96, 3) for result in found.values())


def test_a_narrow_character_is_left_as_it_is() -> None:
    sure, unsure = LineReading("1", (0.9,), (0.5,)), LineReading("-", (0.9,), (0.5,))
    assert choose_turn(column(40, 20), [sure, unsure, unsure]) == 0
    assert choose_turn(column(80, 20), [sure, unsure, unsure]) == 90
    assert is_tall(column(30, 20), "auto")
    assert not is_tall(column(29, 20), "auto")
    assert not is_tall(column(90, 20), "off")


def test_a_slight_slant_is_kept() -> None:
    """What leans by three degrees leans by three degrees afterwards: the same rows are dark at both ends."""
    level = draw_line("=======", 32, 110)
    leaning = np.asarray(Image.fromarray(level).rotate(3, Image.Resampling.BICUBIC, fillcolor=(236, 232, 220)))
    result = stub_restorer(KnowingReader())([leaning], steps=4, gate=Gate.off())[0]

    def height_of_ink(part: NDArray[np.uint8]) -> float:
        dark = 255 - part.mean(axis=2)
        weights = (dark - dark.min()).sum(axis=1)
        return float((np.arange(len(weights)) * weights).sum() / weights.sum())

    given_slope = height_of_ink(leaning[:, 12:36]) - height_of_ink(leaning[:, 60:84])
    shown_slope = height_of_ink(result.image[:, 48:144]) - height_of_ink(result.image[:, 240:336])
    assert shown_slope / 4 == pytest.approx(given_slope, abs=0.6)
    assert given_slope > 0.6
