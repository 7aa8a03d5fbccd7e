"""The atlas of reference glyphs and the canvas drawn from it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from textsr.alphabet import Alphabet
from textsr.atlas import FILE, load_atlas, load_packed, pack, read_atlas, save_atlas, unpack
from textsr.config import COMPACT, PAPER
from textsr.errors import InputError
from textsr.fit import Place
from textsr.networks.glyph_canvas import GlyphCanvas
from textsr.reading import PLACES, LineReading, conditions, spread

CHINESE = Alphabet.load()


def canvas(*texts: str, weight: float = 1.0) -> Tensor:
    """Canvases (B,128,512) of texts spread over the whole line."""
    arrays = [
        conditions(LineReading(text, (weight,) * len(text), spread(text)), CHINESE, Place(128, 512)) for text in texts
    ]
    inputs = [torch.from_numpy(np.stack([getattr(a, name) for a in arrays])) for name in (
        "tokens", "weights", *PLACES)]  # fmt: skip
    with torch.no_grad():
        return GlyphCanvas(COMPACT)(*inputs)[:, 0]


def test_atlas() -> None:
    bitmaps = load_atlas()
    assert bitmaps.shape == (6736, 48, 48)
    assert not bitmaps[-1].any()
    blank = {CHINESE.symbols[number] for number in np.flatnonzero(~bitmaps[:-1].any((1, 2)))}
    assert blank == {" "}
    assert len((resources.files("textsr") / "assets" / FILE).read_bytes()) <= 2.2 * 2**20
    assert load_packed().shape == (6736, 48 * 24)


def test_files(tmp_path: Path) -> None:
    bitmaps = np.random.default_rng(0).integers(0, 16, (3, 48, 48), dtype=np.uint8)
    np.testing.assert_array_equal(unpack(pack(bitmaps)), bitmaps)
    save_atlas(tmp_path / "a.xz", bitmaps)
    np.testing.assert_array_equal(unpack(read_atlas(tmp_path / "a.xz")), bitmaps)
    (tmp_path / "a.xz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a\.xz"):
        read_atlas(tmp_path / "a.xz")


def test_canvas_shows_each_character_at_its_place() -> None:
    drawn = canvas("中文", "国")
    assert drawn.shape == (2, 128, 512)
    assert drawn.min() >= 0
    assert drawn.max() <= 1 + 1e-5
    columns = drawn[0].amax(0) > 0.5
    assert columns[80:176].any()
    assert columns[336:432].any()
    assert not columns[200:312].any()
    rows = drawn[1].amax(1) > 0.5
    assert not rows[:8].any()
    assert not rows[120:].any()


def test_brightness_is_the_weight() -> None:
    torch.testing.assert_close(canvas("清晰", weight=0.25), 0.25 * canvas("清晰"))
    assert not canvas("清晰", weight=0.0).any()


def test_an_enlarged_glyph_keeps_its_ink() -> None:
    """Resampling weights add up to 1, so the mean grey stays, enlarged or shrunk."""
    token = CHINESE.encode("国")[0][:1]
    mean = load_atlas()[token[0]].mean() / 255
    module = GlyphCanvas(COMPACT)
    for width in (0.03, 0.1, 0.2):
        for height in (0.3, 0.86):
            inputs = (torch.full((1, 1), value) for value in (1.0, 0.5, width, 0.5, height))
            drawn = module(torch.from_numpy(token)[None], *inputs)
            assert float(drawn.sum()) == pytest.approx(mean * height * 128 * width * 512, rel=0.01)


def test_padding_and_unknown_draw_nothing() -> None:
    assert not canvas("☃☃").any()


def test_a_preset_without_canvas_is_refused() -> None:
    with pytest.raises(InputError, match="no glyph canvas"):
        GlyphCanvas(PAPER)
