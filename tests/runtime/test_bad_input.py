"""The restorer on bad arrays, texts and options: a typed error or a result that says why, and the others go on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runtime import Gate, InputError, LineText, Split
from runtime.plugins import Lines
from tests.runtime.helpers import KnowingReader, draw_line, stub_restorer

LINE = draw_line()
BAD = {
    "float": LINE.astype(np.float32), "NaN": np.full((20, 40, 3), np.nan), "objects": np.empty((4, 4, 3), object),
    "16 bits": LINE.astype(np.uint16) * 257, "signed": LINE.astype(np.int8), "bool": LINE > 99,
    "words": np.full((3, 3, 3), "a"),
    "records": np.zeros((3, 3), [("r", "u1"), ("g", "u1")]), "no rows": LINE[:0], "no columns": LINE[:, :0],
    "no channels": LINE[:, :, :0], "grey": LINE[:, :, 0], "RGBA": np.dstack([LINE, LINE[:, :, :1]]),
    "a number": np.array(5, np.uint8),
    "a list": LINE.tolist(), "bytes": LINE.tobytes(), "too long": np.tile(LINE[:2], (1, 10, 1)),
}  # fmt: skip
GOOD = {
    "upside down": LINE[::-1, ::-1], "BGR": LINE[:, :, ::-1], "columns first": np.asfortranarray(LINE),
    "every third": np.repeat(LINE, 3, axis=1)[:, ::3], "masked": np.ma.masked_array(LINE, LINE > 100),
    "transposed": LINE.transpose(1, 0, 2).copy().transpose(1, 0, 2), "high byte first": LINE.astype(">u1"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_told_and_leave_the_others_alone(name: str) -> None:
    first, bad, last = stub_restorer(KnowingReader())([LINE, BAD[name], LINE], steps=1, gate=Gate.off())
    assert (bad.applied, bad.cause) == (False, "input")
    assert bad.reason
    assert first.applied
    assert (first.image == last.image).all()


@pytest.mark.parametrize("name", GOOD)
def test_arrays_in_any_memory_are_the_pixels_they_show(name: str) -> None:
    array = GOOD[name]
    array.setflags(write=False)
    plain = np.ascontiguousarray(np.asarray(array))
    found, expected = stub_restorer(KnowingReader())([array, plain], steps=1)
    assert found.applied
    assert type(found.image) is np.ndarray
    assert (found.image == expected.image).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 100), (100, 1), (20, 1000), (1000, 20), (1, 600), (14, 14)])
def test_extreme_shapes_have_a_result_of_their_size(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    for gate in (Gate(), Gate.off()):
        (result,) = stub_restorer(KnowingReader())([image], steps=1, gate=gate)
        assert result.image.shape == (4 * shape[0], 4 * shape[1], 3)
        assert result.applied != bool(result.cause)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck), database=None)
@given(st.data())
def test_any_array_has_a_result(data: st.DataObject) -> None:
    kinds = st.one_of(arrays.scalar_dtypes(), st.just(np.dtype(np.uint8)), st.just(np.dtype(object)))
    shapes = st.one_of(arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=30), st.just((9, 9, 3)))
    array = np.zeros(data.draw(shapes), data.draw(kinds))
    if array.ndim:
        steps = data.draw(st.tuples(*[st.sampled_from([1, 2, -1, -2])] * array.ndim))
        array = array[tuple(slice(None, None, step) for step in steps)]
    (result,) = stub_restorer()([array], steps=1, gate=Gate.off())
    assert result.image.dtype == np.uint8
    assert result.image.shape[2:] == (3,)
    assert result.applied == (not result.cause)


@pytest.mark.parametrize(
    "images", [(LINE for _ in "a"), "abc", b"abc", {"a": LINE}, {1, 2}, None, 5, LINE, LINE[None, None]], ids=type
)
def test_what_is_no_list_of_pictures(images: Any) -> None:
    with pytest.raises(InputError, match="list"):
        stub_restorer()(images)


@pytest.mark.parametrize("texts", ["ab", b"ab", (text for text in "ab"), {0: "a", 1: "b"}, 3, ["a"], []], ids=type)
def test_what_is_no_list_of_texts(texts: Any) -> None:
    with pytest.raises(InputError, match="texts"):
        stub_restorer()([LINE, LINE], texts)


NAN = float("nan")
BAD_TEXTS: list[Any] = [
    5, b"ab", ["a"], LineText(None), LineText(b"ab"), LineText(["a"]), LineText("a\ud800"), LineText("a", 0.5),  # type: ignore[arg-type]
    LineText("a", ("x",)), LineText("a", (None,)), LineText("a", (NAN,)), LineText("a", None, (NAN,)),  # type: ignore[arg-type]
    LineText("a", (-0.1,)), LineText("a", (float("inf"),)), LineText("ab", (1.0,)), LineText("a", None, (0.1, 0.2)),
    LineText("ab", np.ones((2, 2))), LineText("a", None, (1.01,)), LineText("", (0.5,)),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_TEXTS, ids=repr)
def test_bad_texts_are_told_and_leave_the_others_alone(text: Any) -> None:
    bad, good = stub_restorer()([LINE, LINE], [text, "fine"], steps=1)
    assert (bad.applied, bad.cause, bad.image.shape) == (False, "input", (96, 480, 3))
    assert good.applied


GOOD_TEXTS = [
    LineText("a\0b"),
    LineText("a\nb\x1b[2J"),
    LineText("é e\u0301 ﬁ"),
    LineText("👩\u200d👩\u200d👧"),
    LineText("龘㐀𠮷"),
    LineText("x" * 3000),
    LineText(""),
    LineText("abc", None, (0.9, 0.1, 0.5)),
    LineText("abc", None, (0.5,) * 3),
    LineText("ab", np.array([0.5, 1])),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("text", GOOD_TEXTS, ids=repr)
def test_odd_texts_are_taken_as_they_are(text: LineText) -> None:
    for image in (LINE, np.tile(LINE, (1, 4, 1))):  # whole and split
        (result,) = stub_restorer()([image], [text], steps=1)
        assert result.applied
        assert result.text == text.text


@settings(deadline=None, max_examples=8, suppress_health_check=list(HealthCheck), database=None)
@given(st.text(max_size=60), st.data())
def test_any_text_with_any_places(text: str, data: st.DataObject) -> None:
    shares = st.lists(st.floats(0, 1), min_size=len(text), max_size=len(text))
    given_text = LineText(text, tuple(data.draw(shares)), tuple(data.draw(shares)))
    (result,) = stub_restorer()([np.tile(LINE, (1, 3, 1))], [given_text], steps=1)
    halves = any("\ud800" <= character <= "\udfff" for character in text)
    assert result.applied != halves
    assert result.text == ("" if halves else text)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 2.5}, {"steps": "4"}, {"steps": True}, {"batch_size": 1.5}, {"batch_size": "8"}, {"batch_size": None},
        {"scale": "4"}, {"scale": None}, {"scale": NAN}, {"seed": "0"}, {"seed": None}, {"deadline_ms": "5"},
        {"deadline_ms": NAN}, {"deadline_ms": float("inf")}, {"deadline_ms": 1e300}, {"split": None}, {"gate": None},
        {"gate": 5}, {"split": Split(max_chars=5.5)}, {"split": Split(overlap="1")}, {"gate": Gate(min_height="a")},  # type: ignore[arg-type]
        {"gate": Gate(max_detail=NAN)}, {"gate": Gate(max_confidence="1")}, {"text_sampler": ["fixed"]},  # type: ignore[arg-type]
    ],
    ids=repr,
)  # fmt: skip
def test_options_of_another_kind(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        stub_restorer()([LINE], **options)


def test_plugins_hand_on_what_cannot_be_restored() -> None:
    crops: list[Any] = [array for name, array in BAD.items() if name not in ("grey", "too long")]
    lines = Lines(stub_restorer())
    assert all(one is other for one, other in zip(lines.restore(crops), crops, strict=True))
    assert lines.counts.causes == {"input": len(crops)}
    assert lines.restore([LINE[::-1, ::-1]], "bgr")[0].shape == (96, 480, 3)
