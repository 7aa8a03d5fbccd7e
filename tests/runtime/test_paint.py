"""What was read, painted on: how it is drawn, where it goes, and when nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime import Gate, InputError, Restorer, Split
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_bundle, stub_restorer
from textsr.alphabet import Alphabet
from textsr.checkpoint.stated import stated_preset
from textsr.config import TINY, preset
from textsr.errors import BundleError
from textsr.fit import fit_line
from textsr.linetext import LineText
from textsr.painting import strokes
from textsr.reading import LineReading, conditions, spread

TEXT = "Hello 42"
COMPACT = preset("compact")


def read(text: str = TEXT, sure: float = 0.9) -> LineReading:
    return LineReading(text, (sure,) * len(text), spread(text))


def drawn(image: NDArray[np.uint8], reading: LineReading) -> NDArray[np.float32]:
    line = fit_line(image, COMPACT)
    text = conditions(reading, Alphabet.load(), line.place, COMPACT.max_chars)
    return strokes(text, line.lq.transpose(2, 0, 1), line.width_share, COMPACT)


@settings(deadline=None, max_examples=10)
@given(st.text("Hello42中文字符", min_size=1, max_size=24), st.floats(0.1, 1.0), st.integers(0, 3))
def test_it_is_what_the_canvas_paints(text: str, sure: float, seed: int) -> None:
    """`GlyphCanvas.painted` is torch's way, for networks; the product has no torch."""
    torch = pytest.importorskip("torch")
    from textsr.batch import line_batch
    from textsr.networks.glyph_canvas import GlyphCanvas

    painted = preset("painted")
    noise = np.random.default_rng(seed).normal(0, 6, (24, 120, 3))
    image = np.clip(draw_line(text, 24, 120) + noise, 0, 255).astype(np.uint8)
    line = fit_line(image, painted)
    arrays = line_batch([line], [b""], [read(text, sure)], Alphabet.load(), painted)
    names = ("tokens", "centres", "widths", "middles", "heights", "contrasts", "softness")
    given_ = {name: torch.from_numpy(getattr(arrays, name)) for name in names}
    given_["contrasts"] = given_["contrasts"] * 0.1  # far from where it is clamped
    wanted = GlyphCanvas(painted).painted(torch.zeros(1, 3, 128, 512), **given_)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(0.1 * drawn(image, read(text, sure)), wanted, atol=1e-5)


def test_the_right_text_makes_a_blurred_line_more_like_the_sharp_one() -> None:
    from PIL import Image, ImageFilter

    sharp = draw_line(TEXT, 96, 480)
    blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(8)).resize((120, 24)))
    wanted = fit_line(sharp, COMPACT).lq[:, :, 0] - fit_line(blurred, COMPACT).lq[:, :, 0]
    found = {}
    for text in (TEXT, "WMKXRQ88"):
        small = drawn(blurred, read(text))[:, :, 0].reshape(32, 4, 128, 4).mean((1, 3))
        found[text] = float((small * wanted).sum() / np.linalg.norm(small) / np.linalg.norm(wanted))
    assert found[TEXT] > 0
    assert found[TEXT] > 1.5 * found["WMKXRQ88"]


def test_nothing_read_is_nothing_painted() -> None:
    image = draw_line(TEXT)
    assert not drawn(image, read("")).any()
    assert not drawn(image, read(TEXT, 0.0)).any()
    assert np.abs(drawn(np.full((24, 120, 3), 128, np.uint8), read())).max() < 1e-3
    assert np.abs(drawn(image, read())).max() > 0.1


def test_paint_is_added_in_proportion() -> None:
    image = draw_line(TEXT, 32, 160)
    results = {p: stub_restorer(KnowingReader(TEXT))([image], paint=p, strength=0.5)[0] for p in (0.0, 0.25, 0.5)}
    plain, weak, strong = (results[p].image.astype(float) for p in results)
    assert [results[p].paint for p in results] == [0, 0.25, 0.5]
    inside = (strong > 1) & (strong < 254)
    assert np.abs((strong - plain - 2 * (weak - plain))[inside]).max() <= 1.5
    assert np.abs(strong - plain).max() > 20
    untold = stub_restorer()([image], paint=0.5, strength=0.5)[0]
    assert (untold.image == stub_restorer()([image], strength=0.5)[0].image).all()


def test_a_given_text_is_what_is_painted() -> None:
    image = draw_line(TEXT, 32, 160)
    restorer = stub_restorer(KnowingReader("WMKXRQ88"))
    given_, read_ = (restorer([image], texts, paint=0.5)[0] for texts in ([TEXT], None))
    assert (given_.image != read_.image).any()
    unsure = [LineText(TEXT, confidences=(0.0,) * len(TEXT))]
    painted, plain = (restorer([image], unsure, paint=paint)[0] for paint in (0.5, 0.0))
    np.testing.assert_array_equal(painted.image, plain.image)


def test_pieces_of_a_long_line_are_painted_each() -> None:
    image = draw_line(TEXT * 7, 32, 640)
    how = {"split": Split(max_aspect=4.0), "gate": Gate.off()}
    painted, plain = (stub_restorer(KnowingReader(TEXT * 7))([image], paint=paint, **how)[0] for paint in (0.5, 0.0))  # type: ignore[arg-type]
    assert len(painted.pieces) > 1
    assert painted.image.shape == plain.image.shape
    changed = (painted.image != plain.image).any((0, 2))
    for piece in painted.pieces:
        assert changed[4 * piece.core_left : 4 * piece.core_right].any()


def test_the_default_is_the_bundles() -> None:
    bundle = stub_bundle()
    half = Restorer(
        replace(bundle, preset=replace(bundle.preset, default_paint=0.5)), StubExecutor(), KnowingReader(TEXT)
    )
    image = draw_line(TEXT)
    (by_default,), (asked,) = half([image]), stub_restorer(KnowingReader(TEXT))([image], paint=0.5)
    np.testing.assert_array_equal(by_default.image, asked.image)
    assert by_default.paint == 0.5


def test_what_is_not_restored_has_none() -> None:
    (kept,) = stub_restorer(KnowingReader(TEXT))([np.full((24, 90, 3), 200, np.uint8)], paint=0.5)
    assert (kept.applied, kept.paint) == (False, 0)


@pytest.mark.parametrize("paint", [-0.1, 2.01, float("nan"), float("inf")])
def test_no_share_is_refused(paint: float) -> None:
    with pytest.raises(InputError, match="paint"):
        stub_restorer()([draw_line()], paint=paint)


def test_a_checkpoint_states_it() -> None:
    assert stated_preset(TINY, {"default_paint": "0.4"}).default_paint == 0.4
    assert stated_preset(TINY, {"default_paint": "0"}).default_paint == 0
    for wrong in ("-1", "1.5", "nan", "much"):
        with pytest.raises(BundleError, match="paint"):
            stated_preset(TINY, {"default_paint": wrong})
