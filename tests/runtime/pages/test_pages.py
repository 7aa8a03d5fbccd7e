"""Whole pages through stand-ins: what is found, sent, placed and said."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.options import Gate
from runtime.pages import PageOptions, Pages, RapidOCRDetector
from runtime.pages import detector as detectors
from runtime.pages.options import MAX_PIXELS
from runtime.restorer import Restorer
from runtime.result import enlarged
from tests.runtime.helpers import KnowingReader, StubExecutor, stub_bundle, stub_restorer
from tests.runtime.pages.stand_ins import KnownBoxes, PaintingRestorer, draw_page, turned, upright
from textsr.errors import EngineError, InputError

PAGE = draw_page()
FIRST, SECOND, THIRD = (upright(16, 18 + 45 * number, 160, 26) for number in range(3))


def negative(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(255 - image)


def test_a_page_restored_by_nothing_is_the_page_enlarged() -> None:
    restorer = PaintingRestorer()
    page = Pages(restorer, KnownBoxes(THIRD, turned(FIRST, 3), SECOND))(PAGE)
    assert np.array_equal(page.image, enlarged(PAGE, 4))
    assert (page.scale, page.applied, page.reason, page.cause) == (4.0, True, "", "")
    assert [round(float(line.box[0, 1])) for line in page.lines] == [14, 63, 108]  # in reading order
    assert all(line.placed for line in page.lines)
    assert set(page.timings) == {"detect", "restore", "read", "place"}
    assert len(restorer.seen) == 1  # all lines in one call
    assert len(restorer.seen[0]) == 3


def test_crops_have_the_margin_and_corners_say_where_they_lie() -> None:
    restorer = PaintingRestorer()
    page = Pages(restorer, KnownBoxes(FIRST))(PAGE, PageOptions(margin=0.5))
    assert np.array_equal(page.lines[0].box, FIRST)
    assert np.allclose(page.lines[0].corners, upright(3, 5, 186, 52))
    assert np.array_equal(restorer.seen[0][0], PAGE[5:57, 3:189])
    assert page.lines[0].result.image.shape == (52 * 4, 186 * 4, 3)


def test_only_restored_lines_change_the_page() -> None:
    restorer = PaintingRestorer(negative)
    before = enlarged(PAGE, 4)
    assert not np.array_equal(Pages(restorer, KnownBoxes(FIRST))(PAGE).image, before)
    kept = Pages(PaintingRestorer(negative, applied=False, cause="sharp"), KnownBoxes(FIRST, SECOND))(PAGE)
    assert np.array_equal(kept.image, before)
    assert (kept.applied, kept.cause) == (False, "sharp")
    assert kept.reason == "all 2 lines are only enlarged: sharp 2"


def test_no_text() -> None:
    page = Pages(PaintingRestorer(), KnownBoxes())(PAGE)
    assert np.array_equal(page.image, enlarged(PAGE, 4))
    assert (page.lines, page.cause, page.text) == ((), "no_text", "")
    assert "no text" in page.reason


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3), (300, 2, 3)])
def test_tiny_pages(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 200, np.uint8)
    page = Pages(PaintingRestorer(negative), KnownBoxes(upright(-5, -5, 30, 20)))(image)
    assert page.image.shape == (4 * shape[0], 4 * shape[1], 3)


def test_boxes_that_are_none_or_too_low_or_elsewhere_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    boxes = KnownBoxes(FIRST, FIRST[::-1], FIRST * np.nan, upright(10, 10, 50, 2), upright(400, 10, 50, 20))
    assert len(Pages(PaintingRestorer(), boxes)(PAGE).lines) == 1
    assert caplog.text.count("no quadrilateral") == 2


def test_scales() -> None:
    pages = Pages(PaintingRestorer(negative), KnownBoxes(FIRST))
    small = pages(PAGE, PageOptions(scale=1.5))
    assert (small.image.shape, small.scale, small.reason) == ((240, 360, 3), 1.5, "")
    bound = pages(PAGE, PageOptions(max_pixels=160 * 240 * 7))
    assert bound.scale == 2.64
    assert bound.image.shape[0] * bound.image.shape[1] <= 160 * 240 * 7
    assert "enlarged 2.64 times instead of 4" in bound.reason
    with pytest.raises(InputError, match="ask for a lower scale"):
        pages(PAGE, PageOptions(scale=4, max_pixels=160 * 240 * 7))
    assert PageOptions().scale_for(2048, 2048) == (4.0, "")
    assert PageOptions().scale_for(8192, 8192)[0] == 1.0
    with pytest.raises(InputError, match="more than the"):
        PageOptions().scale_for(8193, MAX_PIXELS // 8192)


@pytest.mark.parametrize(
    "wrong", [{"scale": 0}, {"scale": 17}, {"margin": -1}, {"feather": 0.6}, {"margin": 2}, {"min_line_height": np.nan}]
)
def test_options_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="page: "):
        PageOptions(**wrong)


@pytest.mark.parametrize("image", [None, PAGE[:, :, 0], PAGE.astype(float), PAGE[:0], np.zeros((4, 4, 4), np.uint8)])
def test_what_is_no_page(image: Any) -> None:
    with pytest.raises(InputError, match="a page"):
        Pages(PaintingRestorer(), KnownBoxes())(image)


def test_options_of_the_restorer_are_checked_before_work() -> None:
    class Never:
        def detect(self, image: object) -> list[Any]:
            raise AssertionError

    with pytest.raises(InputError, match="batch size"):
        Pages(stub_restorer(), Never())(PAGE, batch_size=0)


def test_the_real_restorer_with_its_reader() -> None:
    """Stub networks: lines are restored, read before and after, and the gate's lines are read too."""
    reader = KnowingReader("Hello 42")
    page = Pages(stub_restorer(reader), KnownBoxes(FIRST, upright(16, 63, 80, 8)))(PAGE, steps=1)
    one, low = page.lines
    assert (one.placed, one.result.applied, one.result.text, one.after, one.text) == (True, True, *["Hello 42"] * 3)
    assert one.after_confidence == pytest.approx(0.9)
    assert (low.placed, low.result.cause, low.after, low.text) == (False, "too_low", None, "Hello 42")
    assert low.result.reader == "knowing"
    assert page.text == "Hello 42\nHello 42"
    assert page.reason == "1 of 2 lines are only enlarged: too_low 1"
    unread = Pages(stub_restorer(reader), KnownBoxes(FIRST))(PAGE, PageOptions(read=False), steps=1)
    assert (unread.lines[0].after, unread.lines[0].text) == (None, "Hello 42")


def test_without_a_reader() -> None:
    page = Pages(stub_restorer(), KnownBoxes(FIRST))(PAGE, steps=1)
    assert (page.lines[0].placed, page.lines[0].after, page.text) == (True, None, "")


def test_a_deadline_leaves_the_page_enlarged() -> None:
    page = Pages(stub_restorer(KnowingReader()), KnownBoxes(FIRST, SECOND))(PAGE, steps=1, deadline_ms=1e-3)
    assert np.array_equal(page.image, enlarged(PAGE, 4))
    assert page.cause == "deadline"
    assert [line.text for line in page.lines] == ["", ""]


def test_a_column_has_its_corners_in_reading_direction() -> None:
    tall = upright(20, 10, 26, 140)
    page = Pages(stub_restorer(KnowingReader()), KnownBoxes(tall))(PAGE, steps=1, gate=Gate.off())
    line = page.lines[0]
    first = {(90, False): 1, (0, True): 1, (270, False): 3, (0, False): 0}[line.result.turned, line.result.stacked]
    assert first != 0
    assert np.array_equal(line.box, np.roll(tall, -first, axis=0))
    assert line.result.image.shape[0] > line.result.image.shape[1]  # as it stands on the page


def test_one_line_that_fails_stops_no_other() -> None:
    class Breaking(StubExecutor):
        """Not a number comes out where the line is darker."""

        def vqgan_decoder(self, z_0: NDArray[Any]) -> dict[str, NDArray[Any]]:
            out = super().vqgan_decoder(z_0)
            dark = out["image"].mean(axis=(1, 2, 3)) < 0
            out["image"][dark] = np.nan
            return out

    dark = PAGE.copy()
    dark[60:95] = dark[60:95] // 4
    restorer = Restorer(stub_bundle(), Breaking(), None)
    page = Pages(restorer, KnownBoxes(FIRST, SECOND, THIRD))(dark, steps=1)
    assert [line.placed for line in page.lines] == [True, False, True]
    assert page.lines[1].result.cause == "not_finite"
    assert (page.cause, page.applied) == ("", True)


def test_rapidocr_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"extra \[ocr\]"):
        Pages(PaintingRestorer())
    with pytest.raises(InputError, match="box threshold"):
        RapidOCRDetector(box_threshold=2)


@pytest.mark.slow
def test_rapidocr_finds_the_lines_of_a_drawn_page() -> None:
    pytest.importorskip("rapidocr", reason="the extra [ocr] is not installed")
    image = draw_page(480, 320)
    detector = RapidOCRDetector(threads=1)
    boxes = detector.detect(image)
    assert len(boxes) == 3
    for box in boxes:
        middle = box.mean(axis=0)
        near = [abs(middle[1] - (31 + 45 * number)) for number in range(3)]
        assert min(near) < 6
    assert detector.detect(np.full((64, 64, 3), 255, np.uint8)) == []
    with pytest.raises(EngineError, match="the detector failed"):
        detector.detect(np.zeros((0, 5, 3), np.uint8))


def test_a_detector_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where OpenCV lacks the system's libraries: the service then takes lines only."""
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    monkeypatch.setattr("runtime.pages.detector.find_spec", lambda name: object())
    with pytest.raises(InputError, match="cannot be imported"):
        RapidOCRDetector()
