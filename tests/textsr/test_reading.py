"""From a recogniser's reading to the arrays of the text modules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textsr.alphabet import Alphabet
from textsr.errors import InputError
from textsr.fit import Place
from textsr.reading import LineReading, character_widths, conditions, spread

CHINESE = Alphabet.load()
WHOLE = Place(128, 512)


@given(st.text(max_size=30), st.floats(0.05, 1), st.data())
def test_arrays(text: str, share: float, data: st.DataObject) -> None:
    sure = tuple(data.draw(st.lists(st.floats(0, 1), min_size=len(text), max_size=len(text))))
    arrays = conditions(LineReading(text, sure, spread(text)), CHINESE, Place(128, 512, share))
    count = min(24, len(text))
    for name, kind in (("tokens", np.int64), ("weights", np.float32), ("centres", np.float32), ("widths", np.float32)):
        values = getattr(arrays, name)
        assert values.shape == (24,)
        assert values.dtype == kind
    if text:
        np.testing.assert_array_equal(arrays.weights[count:], 1)
        unknown = [character not in CHINESE for character in CHINESE.fold(text)[:24]]
        assert (arrays.weights[:count][unknown] == 0).all()
    assert (arrays.tokens[count:] == CHINESE.padding).all()
    assert (arrays.centres <= share + 1e-6).all()
    assert (arrays.widths[:count] > 0).all()


@pytest.mark.parametrize("reading", [None, LineReading("", (), ())])
def test_nothing_read(reading: LineReading | None) -> None:
    arrays = conditions(reading, CHINESE, WHOLE)
    assert (arrays.tokens == CHINESE.padding).all()
    assert not arrays.weights.any()


def test_folds_and_places() -> None:
    reading = LineReading("臺A☃", (0.5, 0.25, 0.9), (0.2, 0.5, 0.8))
    arrays = conditions(reading, CHINESE, Place(128, 512, 0.5))
    assert CHINESE.decode(arrays.tokens) == "台A"
    np.testing.assert_allclose(arrays.weights[:4], [0.5, 0.25, 0, 1])
    np.testing.assert_allclose(arrays.centres[:3], [0.1, 0.25, 0.4])


def test_widths() -> None:
    np.testing.assert_allclose(character_widths("中a", np.array([100.0, 400.0]), 128), [0.86 * 128, 0.62 * 128])
    np.testing.assert_allclose(character_widths("中中中", np.array([50.0, 90.0, 150.0]), 128), [36.8, 36.8, 55.2])
    assert (character_widths("中中", np.array([5.0, 5.0]), 128) > 0).all()


def test_spread_gives_wide_characters_double() -> None:
    np.testing.assert_allclose(spread("中ab"), [0.25, 0.625, 0.875])
    assert spread("") == ()


@pytest.mark.parametrize("values", [((1.0,), (0.5, 0.5)), ((1.0, 1.2), (0.5, 0.5)), ((1.0, float("nan")), (0.5, 0.5))])
def test_bad_readings(values: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    with pytest.raises(InputError):
        LineReading("ab", *values)
