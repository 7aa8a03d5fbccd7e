"""The restorer over a stand-in for the graphs: sizes, order, seeds, bad pictures, texts."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import Gate, InputError, LineText, Restorer, Split
from runtime.restorer import open_reader
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_bundle, stub_restorer
from textsr.batch import NO_READER, NO_TEXT
from textsr.config import TINY


@settings(max_examples=25, deadline=None)
@given(height=st.integers(2, 90), width=st.integers(1, 60), scale=st.sampled_from([4, 1, 2.5]))
def test_any_size_comes_back_scaled(height: int, width: int, scale: float) -> None:
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    result = stub_restorer()([image], steps=1, scale=scale, gate=Gate.off())[0]
    assert result.applied
    assert result.image.dtype == np.uint8
    assert result.image.shape == (max(1, round(height * scale)), max(1, round(width * scale)), 3)


def test_the_whole_line_comes_back_in_its_place() -> None:
    """A ramp from left to right stays one, wide or narrow: nothing is cut off, padding is cut away."""
    for width in (20, 60, 96, 400):
        ramp = np.linspace(0, 255, width).astype(np.uint8)
        image = np.repeat(np.tile(ramp, (24, 1))[:, :, None], 3, axis=2)
        result = stub_restorer()([image], steps=1)[0].image
        middle = result[48, :, 0].astype(float)
        assert np.abs(middle - np.interp((np.arange(width * 4) + 0.5) / 4 - 0.5, np.arange(width), ramp)).max() < 16


def test_order_is_kept_and_inputs_are_unchanged() -> None:
    images = [draw_line(str(i), 20 + i, 50 + 37 * i) for i in range(7)]
    copies = [image.copy() for image in images]
    for image in images:
        image.setflags(write=False)
    results = stub_restorer(KnowingReader())(images, batch_size=3, steps=2)
    assert [result.image.shape[0] for result in results] == [4 * image.shape[0] for image in images]
    assert all((image == copy).all() for image, copy in zip(images, copies, strict=True))


def test_same_seed_gives_the_same_image_alone_and_in_a_batch() -> None:
    images = [draw_line(str(i), 24, 60 + 30 * i) for i in range(5)]
    restorer = stub_restorer(KnowingReader())
    together = restorer(images, seed=3, batch_size=4)
    backwards = restorer(images[::-1], seed=3, batch_size=2)[::-1]
    for image, result, other in zip(images, together, backwards, strict=True):
        alone = restorer([image], seed=3)[0]
        assert (alone.image == result.image).all()
        assert (alone.image == other.image).all()


@pytest.mark.parametrize(("default", "asked", "run"), [(None, None, 18), (4, None, 4), (4, 18, 18), (4, 1, 1)])
def test_steps_not_asked_for_are_the_bundles(default: int | None, asked: int | None, run: int) -> None:
    bundle = replace(stub_bundle(), preset=replace(TINY, default_steps=default))
    executor = StubExecutor()
    (result,) = Restorer(bundle, executor, None)([draw_line()], steps=asked)
    assert result.steps == run
    assert [graph for graph, _ in executor.runs].count("unet_step") == run


def test_noise_depends_on_seed_and_image() -> None:
    restorer, line = stub_restorer(), draw_line()
    noises = []
    for image, seed in ((line, 0), (line, 1), (line[:, ::-1], 0), (line, 0)):
        restorer([image], seed=seed, steps=1)
    assert isinstance(restorer.executor, StubExecutor)
    noises = [inputs["noise"] for graph, inputs in restorer.executor.runs if graph == "vqgan_encoder"]
    assert (noises[0] == noises[3]).all()
    assert (noises[0] != noises[1]).any()
    assert (noises[0] != noises[2]).any()


def test_one_bad_picture_leaves_the_others_alone() -> None:
    line = draw_line()
    bad = [np.zeros((0, 5, 3), np.uint8), line[:, :, 0], line.astype(np.float32), "x.png", None]
    images = [line, *bad, line]
    results = stub_restorer(KnowingReader())(images, steps=1)  # type: ignore[arg-type]
    assert [result.applied for result in results] == [True, *[False] * 5, True]
    assert all(result.reason for result in results[1:6])
    assert (results[0].image == results[6].image).all()
    assert results[2].image.shape == (96, 480, 3)
    assert results[1].image.shape == results[5].image.shape == (0, 0, 3)


def test_texts_replace_the_recogniser() -> None:
    reader = KnowingReader()
    texts = [None, "AB", LineText("CD", (0.5, 1.0), (0.25, 0.75)), ""]
    results = stub_restorer(reader)([draw_line()] * 4, texts, steps=1)
    assert reader.images == 1
    assert [result.text for result in results] == ["Hello 42", "AB", "CD", ""]
    assert [result.reader for result in results] == ["knowing", "given", "given", "given"]
    assert results[2].confidences == (0.5, 1.0)
    assert results[2].confidence == 0.75
    assert [result.reason for result in results] == ["", "", "", NO_TEXT]


def test_what_the_graphs_are_told() -> None:
    restorer = stub_restorer()
    restorer([draw_line(width=80)], [LineText("A龘", (0.5, 0.9), (0.25, 0.75))], steps=1)
    assert isinstance(restorer.executor, StubExecutor)
    inputs = next(inputs for graph, inputs in restorer.executor.runs if graph == "glyph_canvas")
    alphabet = restorer.bundle.alphabet
    assert inputs["tokens"][0, :2].tolist() == [alphabet.symbols.index("A"), alphabet.padding]
    assert inputs["weights"][0].tolist() == [0.5, 0.0, *[1.0] * 22]
    share = 80 * 32 / 24 / 128
    assert np.allclose(inputs["centres"][0, :2], np.array([0.25, 0.75]) * share, atol=0.05)  # the first is fitted
    assert np.isclose(inputs["centres"][0, 1], 0.75 * share, atol=0.01)
    painted = next(inputs for graph, inputs in restorer.executor.runs if graph == "painted_encoder")
    assert np.array_equal(painted["tokens"], inputs["tokens"])
    assert np.array_equal(painted["centres"], inputs["centres"])
    assert np.flatnonzero(painted["contrasts"][0].any(1)).tolist() == [0]


def test_bad_texts_are_that_pictures_problem() -> None:
    texts = [LineText("AB", (0.5,)), LineText("A", (2.0,)), LineText("A", None, (-1.0,)), 5, "fine"]
    results = stub_restorer()([draw_line()] * 5, texts, steps=1)  # type: ignore[arg-type]
    assert [result.applied for result in results] == [False] * 4 + [True]
    assert all(result.image.shape == (96, 480, 3) for result in results)


def test_without_recogniser_or_reading_that_is_said() -> None:
    assert stub_restorer()([draw_line()], steps=1)[0].reason == NO_READER
    assert stub_restorer(KnowingReader(""))([draw_line()], steps=1)[0].reason == NO_TEXT
    long = stub_restorer(KnowingReader("x" * 30))([draw_line()], steps=1, split=Split(enabled=False))[0]
    assert "30 characters" in long.reason
    assert long.applied


def test_a_missing_recogniser_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from dataclasses import replace

    monkeypatch.setattr("runtime.restorer.find_model", lambda: None)
    assert open_reader(replace(stub_bundle(), recognizer="rapidocr"), StubExecutor()) is None
    assert "[ocr]" in caplog.text


def test_sampled_text_is_what_the_result_says() -> None:
    result = stub_restorer(KnowingReader())([draw_line(width=90)], steps=2, text_sampler="categorical")[0]
    assert result.text == stub_bundle().alphabet.decode(result.tokens)
    assert result.text != "Hello 42"


def test_output_that_is_not_finite_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    restorer = stub_restorer()
    monkeypatch.setattr(StubExecutor, "unet_step", lambda self, **inputs: {"z_prev": inputs["z_t"] * np.nan})
    result = restorer([draw_line()], steps=1)[0]
    assert not result.applied
    assert "not finite" in result.reason
    assert result.image.shape == (96, 480, 3)


def test_empty_list_and_empty_batches() -> None:
    assert stub_restorer(KnowingReader())([]) == []


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"steps": 19}, {"batch_size": 0}, {"scale": 0}, {"scale": 99}, {"text_sampler": "x"}, {"seed": 0.5}],
)
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        stub_restorer()([draw_line()], **options)  # type: ignore[arg-type]


def test_one_picture_is_no_list() -> None:
    with pytest.raises(InputError, match="list"):
        stub_restorer()(draw_line())  # type: ignore[arg-type]


def test_a_large_picture_needs_no_huge_arrays() -> None:
    image = np.full((300, 3000, 3), 90, np.uint8)
    tracemalloc.start()
    result = stub_restorer()([image], steps=1, gate=Gate.off())[0]
    assert result.image.shape == (1200, 12000, 3)
    assert tracemalloc.get_traced_memory()[1] < 3 * result.image.nbytes
    tracemalloc.stop()


def test_texts_of_another_length() -> None:
    with pytest.raises(InputError, match="one for each"):
        stub_restorer()([draw_line()], ["a", "b"])


def test_the_report_of_a_result() -> None:
    result = stub_restorer(KnowingReader())([draw_line(width=90)], steps=4, seed=7)[0]
    assert (result.executor, result.reader, result.seed, result.steps) == ("stub", "knowing", 7, 4)
    assert set(result.timings) == {"read", "restore", "finish"}
    assert len(result.tokens) == 24
    assert result.confidence == pytest.approx(0.9)


def test_real_graphs(tiny_bundle: object) -> None:
    """The tiny bundle on ONNX Runtime: alone and in a batch, up to the last bit of a float sum."""
    restorer = Restorer.open(str(tiny_bundle), device="cpu", threads=1)
    images = [draw_line("Hi", 20, 40), draw_line(), draw_line("x", 33, 500)]
    results = restorer(images, [None, "Hello 42", ""], steps=2, seed=5)
    assert [result.image.shape[:2] for result in results] == [(80, 160), (96, 480), (132, 2000)]
    assert results[0].reader == "TransOCR"
    for image, text, result in zip(images, [None, "Hello 42", ""], results, strict=True):
        alone = restorer([image], [text], steps=2, seed=5)[0]
        assert np.abs(alone.image.astype(int) - result.image).max() <= 1
        assert alone.text == result.text
    sampled = restorer(images[:1], steps=2, text_sampler="categorical")[0]
    assert sampled.applied


def test_the_torch_executor_says_the_same(tiny_bundle: object) -> None:
    line = [draw_line()]
    fast = Restorer.open(str(tiny_bundle), device="cpu", threads=1)(line, ["Hello 42"], steps=2)[0]
    slow = Restorer.open(str(tiny_bundle), device="cpu", executor="torch", threads=1)(line, ["Hello 42"], steps=2)[0]
    assert slow.executor != fast.executor
    assert np.abs(slow.image.astype(int) - fast.image).mean() < 1
