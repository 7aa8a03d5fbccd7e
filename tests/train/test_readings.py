"""The noise model of readings: layout, properties of the draws, alignment with the truth."""

from __future__ import annotations

import time

import numpy as np
import pytest

from textsr.alphabet import Alphabet
from textsr.errors import InputError
from textsr.fit import Place
from textsr.reading import LineReading, conditions
from train.pool import PoolLine
from train.readings import DIFFICULTIES, PITCHES, NoiseModel, NoiseStats, find_lookalikes
from train.readings_fit import align, summarise

LEVELS = len(DIFFICULTIES)


@pytest.fixture(scope="module")
def alphabet() -> Alphabet:
    return Alphabet.load()


def _stats(**changes: object) -> NoiseStats:
    """Severity 0: all lines read right; severity 1: all lines of the class before the last."""
    mix = np.zeros((3, len(PITCHES) + 1, LEVELS + 1))
    mix[0, :, 0] = 1
    mix[1, :, LEVELS - 1] = 1
    mix[2, :, LEVELS] = 1
    errors = np.zeros((LEVELS, 3, 3))
    errors[LEVELS - 1] = [0.4, 0.2, 0.1]
    values = {
        "severities": np.array([0.0, 1.0]),
        "mix": mix,
        "errors": errors,
        "confidence": np.stack([np.stack([np.linspace(0.1, 0.5, 5), np.linspace(0.6, 1.0, 5)])] * LEVELS),
        "correlation": 0.5,
        "bias": 0.0,
        "line_shift": 0.0,
        "jitter": (0.0, 0.0),
        "unknown": 0.0,
        "confusions": {"口": {"日": 3}},
        "inserted": {"一": 1},
        **changes,
    }
    return NoiseStats(**values)  # type: ignore[arg-type]


def _model(alphabet: Alphabet, drop: float = 0.0, true_text: float = 0.0, **changes: object) -> NoiseModel:
    lookalikes = (np.arange(alphabet.padding)[:, None] + np.arange(1, 9)) % alphabet.padding
    return NoiseModel(_stats(**changes), alphabet, lookalikes.astype(np.int16), drop, true_text)


def _truth(alphabet: Alphabet, text: str, lines: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    centres = tuple((np.arange(len(text)) + 0.5) / len(text))
    arrays = conditions(LineReading(text, (1.0,) * len(text), centres), alphabet, Place(128, 512, 0.8))
    return tuple(np.repeat(array[None], lines, 0) for array in (arrays.tokens, arrays.centres, arrays.widths))  # type: ignore[return-value]


def test_an_easy_line_is_its_truth(alphabet: Alphabet) -> None:
    tokens, centres, widths = _truth(alphabet, "中文Ab 12", 50)
    got = _model(alphabet).sample_batch(np.random.default_rng(0), tokens, centres, widths, np.zeros(50))
    assert got.tokens.shape == got.weights.shape == got.centres.shape == got.widths.shape == (50, 24)
    assert got.tokens.dtype == np.dtype(np.int64)
    assert got.weights.dtype == np.dtype(np.float32)
    np.testing.assert_array_equal(got.tokens, tokens)
    np.testing.assert_allclose(got.centres, centres, atol=1e-6)
    np.testing.assert_allclose(got.widths, widths, atol=1e-6)  # the runtime's own rule
    assert (got.weights[:, 7:] == 1).all()
    assert (got.weights[:, :7] >= 0.6).all()


def test_a_share_of_hard_lines_is_read_right_where_it_is_asked_for(alphabet: Alphabet) -> None:
    tokens, centres, widths = _truth(alphabet, "中文字符", 4000)
    got = _model(alphabet, true_text=0.3).sample_batch(np.random.default_rng(0), tokens, centres, widths, np.ones(4000))
    right = (got.tokens == tokens).all(1)
    by_chance = (1 - 0.4 - 0.2) ** 4  # a hard line without an error
    assert right.mean() == pytest.approx(0.3 + 0.7 * by_chance, abs=0.03)
    assert (got.weights[right, :4] >= 0.6).all()


def test_a_hard_line_has_errors_at_the_measured_rates(alphabet: Alphabet) -> None:
    tokens, centres, widths = _truth(alphabet, "中文字符", 4000)
    got = _model(alphabet).sample_batch(np.random.default_rng(0), tokens, centres, widths, np.ones(4000))
    count = (got.tokens != alphabet.padding).sum(1)
    assert count.mean() == pytest.approx(4 * (1 - 0.2 + 0.1), abs=0.05)
    kept = np.isin(got.tokens, tokens[0, :4]).sum(1).mean()
    assert kept == pytest.approx(4 * 0.4, abs=0.1)
    assert (np.diff(got.centres, axis=1)[got.tokens[:, 1:] != alphabet.padding] >= 0).all()
    wrong = ~np.isin(got.tokens, tokens[0])
    assert (got.weights[wrong] <= 0.5).all()


def test_measured_confusions_are_mixed_in(alphabet: Alphabet) -> None:
    tokens, centres, widths = _truth(alphabet, "口", 3000)
    model = _model(alphabet, errors=np.tile([1.0, 0.0, 0.0], (LEVELS, 3, 1)))
    got = model.sample_batch(np.random.default_rng(0), tokens, centres, widths, np.ones(3000))
    measured = (got.tokens[:, 0] == alphabet.encode("日")[0][0]).mean()
    assert measured == pytest.approx(0.5, abs=0.04)
    assert (got.tokens[:, 0] != tokens[:, 0]).all()


def test_no_text_is_the_layout_of_no_reading(alphabet: Alphabet) -> None:
    tokens, centres, widths = _truth(alphabet, "中文", 400)
    nothing = conditions(None, alphabet, Place(128, 512, 1.0))
    rng = np.random.default_rng(0)
    failed = _model(alphabet).sample_batch(rng, tokens, centres, widths, np.full(400, np.nan))  # the marginal row
    dropped = _model(alphabet, drop=0.25).sample_batch(rng, tokens, centres, widths, np.zeros(400))
    for name in ("tokens", "weights", "centres", "widths"):
        np.testing.assert_array_equal(getattr(failed, name), np.repeat(getattr(nothing, name)[None], 400, 0))
    assert (dropped.weights.sum(1) == 0).mean() == pytest.approx(0.25, abs=0.06)


def test_unknown_symbols_have_no_weight(alphabet: Alphabet) -> None:
    tokens, centres, widths = _truth(alphabet, "中", 20)
    model = _model(alphabet, errors=np.tile([1.0, 0.0, 0.0], (LEVELS, 3, 1)), unknown=1.0)
    got = model.sample_batch(np.random.default_rng(0), tokens, centres, widths, np.ones(20))
    assert (got.tokens[:, 0] == alphabet.padding).all()
    assert (got.weights[:, 0] == 0).all()
    assert (got.centres[:, 0] > 0).all()
    assert (got.weights[:, 1:] == 1).all()


def test_full_lines_of_insertions_stay_within_24(alphabet: Alphabet) -> None:
    tokens, centres, widths = _truth(alphabet, "一二三四五六七八九十" * 2 + "甲乙丙丁", 10)
    model = _model(alphabet, errors=np.tile([0.0, 0.0, 1.0], (LEVELS, 3, 1)), jitter=(40.0, 40.0), line_shift=40.0)
    got = model.sample_batch(np.random.default_rng(0), tokens, centres, widths, np.ones(10))
    assert (got.tokens != alphabet.padding).all()
    assert ((got.centres >= 0) & (got.centres <= 1)).all()
    assert (got.widths > 0).all()


def test_one_line_and_determinism(alphabet: Alphabet) -> None:
    tokens, centres, widths = (array[0] for array in _truth(alphabet, "中文字"))
    model = _model(alphabet)
    one, two = (model.sample(np.random.default_rng(5), tokens, centres, widths, 0.5) for _ in range(2))
    assert one.tokens.shape == (24,)
    np.testing.assert_array_equal(one.weights, two.weights)


def test_empty_line(alphabet: Alphabet) -> None:
    tokens, empty = np.full(24, alphabet.padding), np.zeros(24, np.float32)
    got = _model(alphabet).sample(np.random.default_rng(0), tokens, empty, empty, None)
    assert got.weights.sum() == 0


def test_fast_enough(alphabet: Alphabet) -> None:
    tokens, centres, widths = _truth(alphabet, "中文字符识别", 64)
    model, rng = _model(alphabet), np.random.default_rng(0)
    best = min(_timed(lambda: model.sample_batch(rng, tokens, centres, widths, np.full(64, 0.5))) for _ in range(5))
    assert best / 64 < 0.3e-3


def _timed(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


def test_json_round_trip() -> None:
    stats = _stats()
    again = NoiseStats.from_json(stats.to_json())
    assert again.confusions == stats.confusions
    np.testing.assert_array_equal(again.mix, stats.mix)
    assert again.jitter == (0.0, 0.0)
    for damaged in ("{}", "[", '{"format": 99}'):
        with pytest.raises(InputError):
            NoiseStats.from_json(damaged)


def test_lookalikes() -> None:
    atlas = np.zeros((12, 48, 48), np.uint8)
    for place in range(12):
        atlas[place, 4 * place // 2 : 4 * place // 2 + 12, 10:40] = 255
    found = find_lookalikes(atlas)
    assert found.shape == (12, 8)
    assert set(found[5, :2]) == {4, 6}
    assert all(place not in row for place, row in enumerate(found))


def _line(text: str) -> PoolLine:
    centres = (np.arange(len(text), dtype=np.float32) + 0.5) * 0.05
    widths = np.full(len(text), 0.05, np.float32)
    return PoolLine(np.zeros((128, 512, 3), np.uint8), text, centres, widths, 512, "f", "k")


def test_align_counts_what_happened(alphabet: Alphabet) -> None:
    reading = LineReading("中丈符号x", (0.9, 0.4, 0.8, 0.7, 0.2), (0.025, 0.08, 0.175, 0.225, 0.24))
    item = align(_line("中文字符号"), reading, alphabet)
    assert item.operations[0].tolist() == [1, 1, 1]
    assert item.counts.tolist() == [5, 0, 0]
    assert item.inserted == ("x",)
    assert len(item.pairs) == 1
    assert sorted(item.confidences[1]) == [0.7, 0.8, 0.9]
    np.testing.assert_allclose(item.shifts[1], [0, 0, 0], atol=1e-3)
    assert item.difficulty == 3
    assert align(_line("中文"), LineReading("", (), ()), alphabet).difficulty == LEVELS
    assert align(_line("a b"), LineReading("ab", (1.0, 1.0), (0.1, 0.2)), alphabet).difficulty == 0


def test_summary_recovers_what_was_put_in(alphabet: Alphabet) -> None:
    """Readings drawn from a known rate of errors give a model with that rate."""
    rng = np.random.default_rng(0)
    found = []
    for severity in (0.0, 1.0):
        items = []
        for _ in range(150):
            text = "".join(rng.choice(list("中文字符识别"), 8))
            wrong = rng.random(8) < 0.25 * severity
            read = "".join("龙" if bad else symbol for bad, symbol in zip(wrong, text, strict=True))
            line = _line(text)
            reading = LineReading(read, tuple(np.where(wrong, 0.3, 0.9)), tuple(line.centres))
            items.append(align(line, reading, alphabet))
        found.append(items)
    stats = summarise(found, np.array([0.0, 1.0]), alphabet)
    assert stats.mix[0, :, 0].min() > 0.75
    levels = stats.mix[1, 2, :-1]
    assert (levels * stats.errors[:, 0, 0]).sum() == pytest.approx(0.25, abs=0.05)
    assert stats.confusions["中"].keys() == {"龙"}
    assert stats.confidence[1, 0].max() == pytest.approx(0.3)
    assert stats.confidence[1, 1].min() == pytest.approx(0.9)
    np.testing.assert_allclose(stats.mix.sum(-1), 1)
