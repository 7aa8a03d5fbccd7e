"""The real RapidOCR, with its weights, with us between detection and recognition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.plugins import Lines, detach
from runtime.restorer import Restorer
from tests.runtime.plugins.stand_ins import ALL, page, spied

pytest.importorskip("rapidocr", reason="RapidOCR is not installed (extra [ocr])")
from rapidocr import RapidOCR

from runtime.plugins.rapidocr import attach

PAGE = np.ascontiguousarray(page()[:, :, ::-1])


@pytest.fixture(scope="module")
def ocr() -> Any:
    return RapidOCR(params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": 1})


def test_crops_of_both_lines_pass_through_us(ocr: Any) -> None:
    plain = ocr(PAGE)
    assert len(plain.txts) == 2
    spy, lines = spied(keep="better")
    spy.blank = True
    attach(ocr, lines)
    try:
        found = ocr(PAGE, return_word_box=True)
    finally:
        detach(ocr)
    assert len(spy.seen) == lines.counts.restored == 2
    assert type(found) is type(plain)
    assert np.array_equal(found.boxes, plain.boxes)
    # What was painted cannot be read: the surer reading is that of the crop as it came.
    assert found.txts == plain.txts
    assert lines.counts.kept_first == 2
    assert len(found.word_results) == 2
    blue = int(spy.seen[0][..., 2].astype(int).mean() - spy.seen[0][..., 0].astype(int).mean())
    assert blue < 0  # warm paper: the spy was shown RGB, RapidOCR works with BGR


def test_what_the_restorer_paints_is_what_is_read(ocr: Any) -> None:
    spy, lines = spied()
    spy.blank = True
    attach(ocr, lines)
    try:
        read = ocr.recognize_txt([page()[30:66, 30:290]])
        spy.fails = True
        unchanged = ocr.recognize_txt([page()[30:66, 30:290]])
    finally:
        detach(ocr)
    assert (lines.counts.restored, lines.counts.failed) == (1, 1)
    assert unchanged.txts[0].replace(" ", "") == "Hello42"
    assert read.txts == ("",)
    assert read.imgs[0].shape == (36, 260, 3)  # the crop as it came


def test_a_page_without_text_is_left_to_rapidocr(ocr: Any) -> None:
    _, lines = spied()
    attach(ocr, lines)
    try:
        assert not ocr(np.full((80, 200, 3), 255, np.uint8)).txts
    finally:
        detach(ocr)
    assert lines.counts.lines == 0


def test_end_to_end_with_a_bundle(ocr: Any, tiny_bundle: Path) -> None:
    with Restorer.open(tiny_bundle, threads=1) as restorer:
        lines = Lines(restorer, ALL, keep="better")
        attach(ocr, lines)
        try:
            found = ocr(PAGE)
        finally:
            detach(ocr)
    assert [text.replace(" ", "") for text in found.txts] == ["Hello42", "GrandHotel"]
    assert lines.counts.restored == 2
    assert lines.counts.failed == 0
