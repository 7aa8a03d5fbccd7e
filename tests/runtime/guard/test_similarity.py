"""SSIM in NumPy against its definition and torchmetrics; and the distance of texts against rapidfuzz."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.guard.evidence import distance, edits, fold
from runtime.guard.similarity import similarity, spans, ssim_map
from tests.runtime.helpers import draw_line


def test_ssim_is_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    import train.compat  # noqa: F401  (makes torchmetrics' pictures importable)

    functional = pytest.importorskip("torchmetrics.functional.image")
    rng = np.random.default_rng(0)
    one = rng.uniform(0, 255, (40, 90)).astype(np.float32)
    other = np.clip(one + rng.normal(0, 30, one.shape), 0, 255).astype(np.float32)
    pair = [torch.from_numpy(plane)[None, None] for plane in (one, other)]
    _, whole = functional.structural_similarity_index_measure(*pair, data_range=255.0, return_full_image=True)
    inside = np.s_[12:-12, 12:-12]  # where the edges' padding plays no part
    np.testing.assert_allclose(ssim_map(one, other)[inside], whole[0, 0].numpy()[inside], atol=1e-4)


def test_one_changed_character_is_not_averaged_away() -> None:
    line = draw_line("Hello 42 again", 32, 300)
    grown = line.repeat(4, axis=0).repeat(4, axis=1)
    same = similarity(line, grown, (0.25, 0.5, 0.75))
    assert same.whole > 0.95
    assert same.column > 0.9
    painted = grown.copy()
    painted[30:100, 580:640] = 255 - painted[30:100, 580:640]
    found = similarity(line, painted, (0.25, 0.4, 0.5, 0.6, 0.75))
    assert found.whole > 0.75
    assert found.column < found.whole - 0.2
    assert similarity(line, painted).column < 0.6  # also without known characters


@given(st.integers(1, 300), st.integers(1, 40), st.lists(st.floats(0, 1), max_size=12))
def test_spans_are_columns(columns: int, rows: int, centres: list[float]) -> None:
    found = spans(columns, rows, centres)
    assert all(0 <= first < last <= columns for first, last in found)
    assert len(found) == (len(centres) or min(columns, max(1, round(2 * columns / rows))))


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (90, 400)])
def test_any_shape(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = similarity(image, image, (0.5,))
    assert found.whole == pytest.approx(1, abs=1e-3)
    assert found.column == pytest.approx(1, abs=1e-3)


@given(st.text("abc三", max_size=8), st.text("abc三", max_size=8))
def test_edits_are_levenshtein_s(one: str, other: str) -> None:
    levenshtein = pytest.importorskip("rapidfuzz.distance").Levenshtein
    assert edits(one, other) == levenshtein.distance(one, other)
    assert distance(one, other) == pytest.approx(1 - levenshtein.normalized_similarity(one, other))


def test_width_case_and_spaces_are_no_change() -> None:
    assert fold("Ａ b　１") == "ab1"
    assert distance("ＡＢ", "a b") == 0
