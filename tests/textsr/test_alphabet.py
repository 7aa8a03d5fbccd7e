"""The alphabet: its make-up, encoding, folding and file forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textsr.alphabet import Alphabet
from textsr.errors import InputError

CHINESE = Alphabet.load()


def test_size_and_content() -> None:
    assert len(CHINESE.symbols) == 6735 == CHINESE.padding
    for symbol in map(chr, range(32, 127)):
        assert symbol in CHINESE
    for symbol in "，。、；：？！“”‘’（）《》【】—…·￥℃㎡№①的一国龟":
        assert symbol in CHINESE


@given(st.text(st.sampled_from(CHINESE.symbols), max_size=24))
def test_round_trip(text: str) -> None:
    tokens, known = CHINESE.encode(text)
    assert tokens.shape == known.shape == (24,)
    assert tokens.dtype == np.int64
    assert known.all()
    assert CHINESE.decode(tokens) == text


@given(st.text(max_size=40))
def test_fold_keeps_length_and_symbols(text: str) -> None:
    folded = CHINESE.fold(text)
    assert len(folded) == len(text)
    assert CHINESE.fold(folded) == folded
    assert all(after == before for before, after in zip(text, folded, strict=True) if before in CHINESE)


@given(st.text(max_size=40))
def test_unknown_characters_are_marked(text: str) -> None:
    tokens, known = CHINESE.encode(text)
    assert [bool(flag) for flag in known[: len(text)]] == [character in CHINESE for character in text[:24]]
    assert ((tokens == CHINESE.padding) >= ~known).all()


def test_folds_per_character() -> None:
    assert CHINESE.fold("憂鬱的臺灣龜") == "忧郁的台湾龟"
    assert CHINESE.fold("ＡＢ１２\u3000乾") == "AB12 乾"


def test_forms(tmp_path: Path) -> None:
    assert Alphabet.from_json(CHINESE.to_json()) == CHINESE
    path = tmp_path / "letters.txt"
    path.write_text("a\n \n\u2028\n", encoding="utf-8")
    assert Alphabet.load(path).symbols == ("a", " ", "\u2028")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"symbols": "aa"}', '{"symbols": "a", "folding": {"b": "c"}}', "null"]
)
def test_damaged_json(text: str) -> None:
    with pytest.raises(InputError):
        Alphabet.from_json(text)


def test_unknown_name_and_token() -> None:
    with pytest.raises(InputError, match="no alphabet called"):
        Alphabet.load("klingon")
    with pytest.raises(InputError, match="token ids"):
        CHINESE.decode([6736])
