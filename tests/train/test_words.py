"""Texts for rendered lines: of their split, drawn again alike, and usual where that is asked for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("jieba", reason="its word list is what texts are drawn from")
pytest.importorskip("wordfreq", reason="its word list is what texts are drawn from")

from train.words import KINDS, TextSource, default_symbols, in_split


@pytest.fixture(scope="module")
def varied() -> TextSource:
    return TextSource("train", default_symbols())


@pytest.fixture(scope="module")
def usual() -> TextSource:
    return TextSource("train", default_symbols(), "usual")


def drawn(source: TextSource, count: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(3)
    return [source.draw(rng) for _ in range(count)]


def test_texts_are_of_their_split_and_alphabet(varied: TextSource, usual: TextSource) -> None:
    for source in (varied, usual):
        found = drawn(source, 300)
        assert found == drawn(source, 300)
        for text, _ in found:
            assert 1 <= len(text) <= 24
            assert in_split(text, "train")
            assert set(text) <= source.allowed


def test_usual_texts_are_what_is_written(varied: TextSource, usual: TextSource) -> None:
    many, few = drawn(varied, 2000), drawn(usual, 2000)
    assert {kind for _, kind in many} == {kind for kind, _ in KINDS}
    assert {kind for _, kind in few} == {kind for kind, _ in KINDS} - {"random", "plate"}
    share = Counter(kind for _, kind in many)["phrase"] / len(many)
    assert share == pytest.approx(dict(KINDS)["phrase"], abs=0.04)
    characters = [len({symbol for text, _ in part for symbol in text}) for part in (many, few)]
    assert characters[1] < 0.75 * characters[0]  # rare ones are rare
