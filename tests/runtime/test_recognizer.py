"""Readers: PP-OCRv6 against rapidocr's own pipeline, CTC decoding, the recogniser of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import recognizer
from runtime.recognizer import NARROWEST, PPOCRReader, find_model, padded_width, prepare
from runtime.restorer import open_reader
from tests.runtime.helpers import StubExecutor, draw_line, stub_bundle
from textsr.errors import BundleError, InputError
from textsr.recognition import TransOCRReader

LINES = [draw_line("Hello 42"), draw_line("The quick brown fox jumps over it", 40, 620), draw_line("ABC", 60, 140)]


@pytest.fixture(scope="module")
def reader() -> PPOCRReader:
    if find_model() is None:
        pytest.skip("rapidocr is not installed")
    return PPOCRReader(threads=1)


def test_lines_are_read(reader: PPOCRReader) -> None:
    readings = reader.read(LINES)
    assert [reading.text for reading in readings] == ["Hello 42", "The quick brown fox jumps over it", "ABC"]
    for reading in readings:
        assert min(reading.confidences) > 0.5
        assert list(reading.centres) == sorted(reading.centres)
    assert readings[2].centres[2] < 0.95


def test_a_reading_does_not_depend_on_the_batch(reader: PPOCRReader) -> None:
    together = reader.read([*LINES, *LINES])
    for line, reading in zip(LINES, together[3:], strict=True):
        alone = reader.read([line])[0]
        assert alone.text == reading.text
        assert np.allclose(alone.confidences, reading.confidences, atol=1e-4)
        assert alone.centres == reading.centres


def test_as_rapidocr_prepares(reader: PPOCRReader) -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    for line in LINES:
        width = padded_width(*line.shape[:2])
        array, used = prepare(line, width)
        theirs = cv2.resize(line[:, :, ::-1], (used, 48)).astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
        assert np.abs(array[:, :, :used] - theirs).max() < 1.5 / 127.5
        assert (array[:, :, used:] == 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (48, 20000)])
def test_extreme_sizes(reader: PPOCRReader, size: tuple[int, int]) -> None:
    assert len(reader.read([np.full((*size, 3), 128, np.uint8)])) == 1


def test_blank_pictures_read_as_nothing(reader: PPOCRReader) -> None:
    assert reader.read([np.full((48, 200, 3), 255, np.uint8)])[0].text == ""
    assert reader.read([]) == []


def test_ctc_decoding(reader: PPOCRReader) -> None:
    a, b = reader.classes.index("A"), reader.classes.index("B")
    steps = np.zeros((10, len(reader.classes)), np.float32)
    for step, (symbol, probability) in enumerate(
        [(0, 1), (a, 0.6), (a, 0.9), (0, 1), (a, 0.8), (b, 0.7), (0, 1), (0, 1), (0, 1), (0, 1)]
    ):
        steps[step, symbol] = probability
    reading = reader.decode(steps, share=0.8)
    assert reading.text == "AAB"
    assert np.allclose(reading.confidences, [0.9, 0.8, 0.7])
    assert np.allclose(reading.centres, [2 / 8, 4.5 / 8, 5.5 / 8])


def test_widths() -> None:
    assert padded_width(48, 10) == NARROWEST
    assert padded_width(48, 321) == 352


def test_without_rapidocr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.recognizer.find_model", lambda: None)
    with pytest.raises(InputError, match=r"\[ocr\]"):
        PPOCRReader()


def test_other_weights_are_taken(reader: PPOCRReader, tmp_path: Path) -> None:
    """Its own weights again read the same; with those of one layer gone the text is gone, and the name says so."""
    numpy_files, onnx = pytest.importorskip("safetensors.numpy"), pytest.importorskip("onnx")
    path = find_model()
    assert path is not None
    own = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer}
    for name, layer, factor in (("same", "linear_0.w_0", 1), ("gone", "linear_8.w_0", 0)):
        numpy_files.save_file({layer: own[layer] * np.float32(factor)}, tmp_path / f"{name}.safetensors")
    same, gone = (PPOCRReader(weights=tmp_path / f"{name}.safetensors", threads=1) for name in ("same", "gone"))
    assert (same.name, gone.name) == ("PP-OCRv6+same", "PP-OCRv6+gone")
    assert same.read(LINES) == reader.read(LINES)
    assert [reading.text for reading in gone.read(LINES)] != [reading.text for reading in reader.read(LINES)]


def test_the_product_reads_with_its_own_weights(reader: PPOCRReader) -> None:
    pytest.importorskip("onnx")
    ours = recognizer.open_reader(threads=1)
    assert ours.name == "PP-OCRv6+degraded"
    assert [found.text for found in ours.read(LINES)] == [found.text for found in reader.read(LINES)]
    assert any(
        not np.allclose(one.confidences, other.confidences, atol=1e-3)
        for one, other in zip(ours.read(LINES), reader.read(LINES), strict=True)
    )


def test_weights_for_another_version_are_left_out_and_that_is_said(
    reader: PPOCRReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "degraded.safetensors"
    numpy_files.save_file({"linear_0.w_0": np.zeros((120, 360), np.float32)}, path, {recognizer.BASE: "0" * 64})
    with pytest.raises(BundleError, match="belongs to another PP-OCRv6"):
        PPOCRReader(weights=path)
    monkeypatch.setattr(recognizer, "WEIGHTS", path)
    plain = recognizer.open_reader(threads=1)
    assert plain.name == "PP-OCRv6"
    assert "reading with PP-OCRv6's own weights" in caplog.text
    assert plain.read(LINES) == reader.read(LINES)


def test_weights_of_another_model_are_refused(reader: PPOCRReader, tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy")
    for values, said in (
        ({"other": np.zeros(3, np.float32)}, "another model"),
        ({"linear_0.w_0": np.zeros((2, 2), np.float32)}, "another model"),
        ({"linear_0.w_0": np.zeros((120, 360), np.int8)}, "lacks the factors"),
    ):
        numpy_files.save_file(values, tmp_path / "w.safetensors")
        with pytest.raises(BundleError, match=said):
            PPOCRReader(weights=tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(BundleError, match="cannot be read"):
        PPOCRReader(weights=tmp_path / "w.safetensors")
    with pytest.raises(BundleError, match="cannot be read"):
        PPOCRReader(weights=tmp_path / "missing.safetensors")


def test_the_bundle_must_bring_all_that_its_recogniser_needs() -> None:
    graphs: Mapping[str, Any] = dict.fromkeys(("recognizer_encoder", "recognizer_step"))
    symbols = [chr(ord("a") + i) for i in range(95)]
    bundle = replace(stub_bundle(), graphs=graphs, manifest={"recognizer_symbols": symbols}, recognizer="transocr")
    reader = open_reader(bundle, StubExecutor())
    assert isinstance(reader, TransOCRReader)
    assert reader.symbols == tuple(symbols)
    with pytest.raises(BundleError, match="95 symbols"):
        open_reader(replace(bundle, manifest={}), StubExecutor())
    with pytest.raises(BundleError, match="lacks its graphs"):
        open_reader(replace(bundle, graphs={}), StubExecutor())
