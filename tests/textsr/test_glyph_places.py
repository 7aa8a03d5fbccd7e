"""Places of characters fitted to a picture: on lines drawn from the atlas, whose true places are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch.nn import functional as F

from textsr.alphabet import Alphabet
from textsr.batch import line_batch
from textsr.config import COMPACT, GlyphConfig
from textsr.fit import Place, fit_line
from textsr.glyph_places import _chain, fit_places
from textsr.networks.glyph_canvas import GlyphCanvas
from textsr.painting import fit_batch
from textsr.reading import PLACES, LineReading, TextArrays, conditions, spread, stacked

ALPHABET = Alphabet.load()
CANVAS = GlyphCanvas(COMPACT)
TEXTS = ("清晰文字识别", "北京市海淀区", "Restore 2048")
COLOURS = (((0.9, 0.9, 0.8), (0.1, 0.1, 0.3)), ((0.1, 0.4, 0.1), (0.95, 0.9, 0.2)), ((0.5, 0.2, 0.2), (0.2, 0.5, 0.2)))


def read(text: str, share: float = 0.8) -> TextArrays:
    """Surely read and evenly spread over the first ``share`` of the line."""
    return conditions(LineReading(text, (1.0,) * len(text), spread(text)), ALPHABET, Place(128, 512, share))


def elsewhere(text: TextArrays, seed: int) -> TextArrays:
    """As a picture may have it: all higher or lower and of another height, each a little beside its place."""
    rng, shape = np.random.default_rng(seed), text.centres.shape
    return replace(
        text,
        centres=text.centres + text.widths * rng.uniform(-0.3, 0.3, shape).astype(np.float32),
        widths=text.widths * rng.uniform(0.8, 1.1, shape).astype(np.float32),
        middles=(rng.uniform(0.42, 0.58) + rng.uniform(-0.03, 0.03, shape)).astype(np.float32),
        heights=(rng.uniform(0.65, 0.95) * rng.uniform(0.95, 1.05, shape)).astype(np.float32),
    )


def ink(text: TextArrays) -> NDArray[np.float32]:
    """(128, 512): the canvas of one line."""
    tensors = [torch.from_numpy(getattr(text, name))[None] for name in ("tokens", "weights", *PLACES)]
    return np.asarray(CANVAS(*tensors)[0, 0].numpy())


def picture(
    text: TextArrays, colours: tuple[tuple[float, ...], tuple[float, ...]], seed: int, softness: int = 9
) -> NDArray[np.float32]:
    """(32, 128, 3) in [-1, 1]: the line written so, blurred over so many pixels, shrunk and noisy."""
    drawn = torch.from_numpy(ink(text))[None, None]
    blurred = F.avg_pool2d(F.pad(drawn, (softness // 2,) * 4), softness, stride=1)
    small = F.avg_pool2d(blurred, 4)[0, 0].numpy()
    paper, colour = (np.array(value, np.float32) for value in colours)
    line = paper + small[..., None] * (colour - paper)
    noisy = line + np.random.default_rng(seed).normal(0, 0.03, line.shape)
    return np.asarray(noisy.clip(0, 1) * 2 - 1, dtype=np.float32)


def agreement(a: TextArrays, b: TextArrays) -> float:
    """Correlation of two canvases."""
    return float(np.corrcoef(ink(a).ravel(), ink(b).ravel())[0, 1])


@pytest.mark.parametrize("colours", COLOURS)
@pytest.mark.parametrize("text", TEXTS)
def test_glyphs_come_to_lie_on_the_strokes(text: str, colours: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    before, after, beside = [], [], []
    for seed in range(4):
        given_places = read(text)
        truth = elsewhere(given_places, seed)
        found = fit_places(given_places, picture(truth, colours, seed), 0.8)
        before.append(agreement(given_places, truth))
        after.append(agreement(found, truth))
        beside.append(np.abs(found.centres - truth.centres)[: len(text)] / truth.widths[: len(text)])
    assert np.mean(before) < 0.6
    assert np.mean(after) > 0.85
    assert np.median(beside) < 0.05


def test_the_colour_and_the_contrast_do_not_matter() -> None:
    text = read(TEXTS[0])
    seen = picture(elsewhere(text, 1), COLOURS[0], 1)
    found = fit_places(text, seen, 0.8)
    for other in (-seen, 0.25 * seen + 0.3, seen[..., ::-1]):
        again = fit_places(text, np.ascontiguousarray(other), 0.8)
        for name in PLACES:
            np.testing.assert_allclose(getattr(again, name), getattr(found, name), atol=1e-5)


def test_what_is_right_of_the_line_does_not_matter_for_its_height() -> None:
    text = read(TEXTS[1], share=0.5)
    seen = picture(elsewhere(text, 2), COLOURS[1], 2)
    other = seen.copy()
    other[:, 90:] = np.random.default_rng(0).uniform(-1, 1, other[:, 90:].shape)
    np.testing.assert_array_equal(fit_places(text, seen, 0.5).heights, fit_places(text, other, 0.5).heights)


def test_what_is_not_drawn_keeps_its_place() -> None:
    text = read("清☃晰 ")
    found = fit_places(text, picture(elsewhere(text, 3), COLOURS[0], 3), 0.8)
    assert text.weights[1] == 0
    for name in PLACES:
        still = [1, *range(4, 24)]
        np.testing.assert_array_equal(getattr(found, name)[still], getattr(text, name)[still])
    assert found.centres[3] == pytest.approx(text.centres[3], abs=1e-6), "a space has nothing to follow"
    np.testing.assert_array_equal(found.tokens, text.tokens)
    np.testing.assert_array_equal(found.weights, text.weights)


def test_nothing_is_changed_without_text_or_picture() -> None:
    nothing = conditions(None, ALPHABET, Place(128, 512))
    seen = picture(read(TEXTS[0]), COLOURS[0], 0)
    assert fit_places(nothing, seen, 1.0) is nothing
    text = read(TEXTS[0])
    assert fit_places(text, np.full_like(seen, 0.3), 1.0) is text


def test_lines_of_a_batch_do_not_see_each_other() -> None:
    preset = replace(COMPACT, glyph=GlyphConfig(fitted=True))
    texts = [read(text) for text in TEXTS]
    seen = [picture(elsewhere(text, seed), COLOURS[seed], seed) for seed, text in enumerate(texts)]
    together = fit_batch(stacked(texts), np.stack(seen).transpose(0, 3, 1, 2), [0.8] * 3, preset)
    for row, (text, line) in enumerate(zip(texts, seen, strict=True)):
        alone = fit_places(text, line, 0.8)
        for name in PLACES:
            np.testing.assert_array_equal(getattr(together, name)[row], getattr(alone, name))


@pytest.mark.parametrize("fitted", [False, True])
def test_the_preset_decides(fitted: bool) -> None:
    preset = replace(COMPACT, glyph=GlyphConfig(fitted=fitted))
    text = read(TEXTS[0], share=1.0)
    pixels = np.rint((picture(elsewhere(text, 5), COLOURS[0], 5) + 1) * 127.5).astype(np.uint8)
    reading = LineReading(TEXTS[0], (1.0,) * 6, spread(TEXTS[0]))
    batch = line_batch([fit_line(pixels, preset)], [b"a"], [reading], ALPHABET, preset)
    assert (batch.heights[0, 0] != text.heights[0]) == fitted
    assert (batch.centres[0, 0] != text.centres[0]) == fitted


@settings(max_examples=40, deadline=None)
@given(
    seen=arrays(np.float32, (8, 16, 3), elements=st.floats(-1, 1, width=32)),
    symbols=st.lists(st.sampled_from(ALPHABET.symbols), max_size=30),
    share=st.floats(1 / 128, 1),
    data=st.data(),
)
def test_any_picture_and_any_text_have_places(
    seen: NDArray[np.float32], symbols: list[str], share: float, data: st.DataObject
) -> None:
    count = len(symbols)
    numbers = st.lists(st.floats(0, 1), min_size=count, max_size=count).map(tuple)
    reading = LineReading("".join(symbols), data.draw(numbers), data.draw(numbers))
    text = conditions(reading, ALPHABET, Place(128, 512, share))
    found = fit_places(text, seen.repeat(4, 0).repeat(8, 1), share)
    for name in PLACES:
        values = getattr(found, name)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    drawn = (text.weights > 0) & (text.tokens < ALPHABET.padding)
    assert (np.abs(found.centres - text.centres)[drawn] < 1).all()
    assert (found.heights[drawn] > 0.2).all()
    assert (found.heights[drawn] < 2.5).all()


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 4), places=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_the_chain_is_the_best_of_all_choices(count: int, places: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, costs = rng.normal(size=(count, places)), rng.uniform(0, 2, (count - 1, places, places))

    def worth(chosen: Sequence[int]) -> float:
        between = sum(costs[at, one, other] for at, (one, other) in enumerate(pairwise(chosen)))
        return float(sum(scores[at, one] for at, one in enumerate(chosen)) - between)

    found = _chain(scores, costs)
    assert worth(found.tolist()) == pytest.approx(max(map(worth, product(range(places), repeat=count))))


@pytest.mark.parametrize("text", ["Brokered Dewey", "No.972003383", "014-76524715"])
def test_neighbours_do_not_lie_on_the_same_strokes(text: str) -> None:
    """On a line so blurred that each glyph by itself lies with 0.5 to 0.9 of its box on its neighbour's."""
    given_places = read(text)
    drawn = [place for place, symbol in enumerate(text) if symbol != " "]
    for seed in range(4):
        rng = np.random.default_rng(seed)
        shift = rng.uniform(-0.25, 0.25, given_places.centres.shape).astype(np.float32)
        told = replace(given_places, centres=given_places.centres + shift * given_places.widths)
        found = fit_places(told, picture(given_places, COLOURS[seed % 3], seed, softness=21), 0.8)
        left, right = found.centres - found.widths / 2, found.centres + found.widths / 2
        overlap = (right[drawn[:-1]] - left[drawn[1:]]) / np.minimum(found.widths[drawn[:-1]], found.widths[drawn[1:]])
        assert overlap.max() < 0.25


def test_the_order_in_which_characters_are_told_does_not_matter() -> None:
    text = read(TEXTS[0])
    seen = picture(elsewhere(text, 6), COLOURS[0], 6)
    order = np.r_[3, 0, 5, 1, 4, 2, 6 : len(text.tokens)]
    values = (getattr(text, field.name) for field in fields(TextArrays))
    told = TextArrays(*(value[order] if len(value) == len(order) else value for value in values))
    found, other = fit_places(text, seen, 0.8), fit_places(told, seen, 0.8)
    for name in PLACES:
        np.testing.assert_allclose(getattr(other, name), getattr(found, name)[order], atol=1e-6)


@pytest.mark.parametrize(("text", "share"), product(TEXTS, (1.0, 0.8)))
def test_glyphs_stay_in_the_picture(text: str, share: float) -> None:
    """Also where nothing in it holds them: in noise, without that cost, up to half of a box lay outside."""
    told, drawn = read(text, share), [place for place, symbol in enumerate(text) if symbol != " "]
    for seed in range(3):
        noise = np.random.default_rng(seed).uniform(-1, 1, (8, 16, 3)).astype(np.float32)
        found = fit_places(told, noise.repeat(4, 0).repeat(8, 1), share)
        for at, size, end in ((found.centres, found.widths, share), (found.middles, found.heights, 1.0)):
            middle, half = at[drawn], size[drawn] / 2
            assert (np.maximum(half - middle, middle + half - end) < half / 2).all()
