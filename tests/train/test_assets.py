"""The committed assets are what the builder makes of its sources."""

from __future__ import annotations

import numpy as np
import pytest

from textsr.alphabet import Alphabet
from textsr.atlas import load_atlas

pytest.importorskip("jieba", reason="the alphabet is ordered by jieba's counts")
pytest.importorskip("opencc", reason="folding comes from OpenCC's table")
pytest.importorskip("fontTools", reason="glyphs are checked with fontTools")

from train.assets import build_folding, build_symbols, gb2312
from train.glyphs import FONT, rasterise


def test_alphabet_and_folding_are_rebuilt_the_same() -> None:
    committed = Alphabet.load()
    assert build_symbols() == committed.symbols
    assert build_folding(committed.symbols) == committed.folding


def test_gb2312_is_whole() -> None:
    assert len(gb2312()) == 6763


@pytest.mark.skipif(not FONT.exists(), reason=f"{FONT} is not installed")
def test_glyphs_are_rebuilt_the_same() -> None:
    committed, text = Alphabet.load(), "国gM，i℃"
    places = [committed.symbols.index(symbol) for symbol in text]
    np.testing.assert_allclose(rasterise(text) * 17.0, load_atlas()[places], atol=34)
