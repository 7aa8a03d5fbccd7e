"""``python -m benchmarks.ocr``: pages, matching, figures, tables and the README's part."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks import blocks, ocr, ocr_result
from benchmarks.ocr_pages import FADE, PAPERS, compose, match
from benchmarks.testset import Entry, TestLine
from textsr.errors import InputError

CONDITIONS = {
    "bundle": "compact", "executor": "onnxruntime:cpu", "threads": 1, "steps": 4, "seed": 0, "below": 0.9,
    "deadline_ms": None, "lines_per_page": 8, "papers": list(PAPERS),
}  # fmt: skip


def line(index: int, width: int = 80) -> TestLine:
    lr = np.random.default_rng(index).integers(0, 256, (32, width, 3), np.uint8)
    entry = Entry(index, f"text {index}", "mild", "camera", "f", "k", 1, "", "")
    return TestLine(entry, np.zeros((128, 4 * width, 3), np.uint8), lr)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(8, 128), min_size=1, max_size=9), st.sampled_from(PAPERS), st.integers(0, 9))
def test_lines_are_on_the_page_as_they_are(widths: list[int], paper: str, seed: int) -> None:
    lines = [line(place, width) for place, width in enumerate(widths)]
    page = compose(lines, paper, seed)
    assert np.array_equal(page.image, compose(lines, paper, seed).image)
    for placed, one in zip(page.lines, lines, strict=True):
        (left, top), (right, bottom) = placed.quad[0].astype(int), placed.quad[2].astype(int)
        assert np.array_equal(page.image[top:bottom, left:right], one.lr)
    covered = np.zeros(page.image.shape[:2], int)
    for placed in page.lines:
        (left, top), (right, bottom) = placed.quad[0].astype(int), placed.quad[2].astype(int)
        covered[top - FADE : bottom + FADE, left - FADE : right + FADE] += 1
    assert covered.max() == 1  # no line fades into another one


def test_boxes_find_their_lines() -> None:
    page = compose([line(0), line(1), line(2)], "white", 0)
    first, second = page.lines[0].quad, page.lines[1].quad
    middle = first.mean(axis=0)
    left, right = np.minimum(first, middle), np.maximum(first, middle)
    away = np.array([[0, 0], [4, 0], [4, 4], [0, 4]])
    readings, stray = match(page, [right, second + 3, left, away], ["lo", "you", "Hel", "x"])
    assert (readings, stray) == (["Hello", "you", ""], 1)
    assert match(page, [], []) == (["", "", ""], 0)


class Fake:
    """In RapidOCR's place: what it reads, and how long that takes on a clock of its own."""

    def __init__(self, clock: list[float], seconds: float, wrong: int | None = None) -> None:
        self.clock, self.seconds, self.wrong, self.calls = clock, seconds, wrong, 0

    def read(self, _: NDArray[np.uint8]) -> tuple[list[str], int]:
        self.clock[0] += self.seconds
        self.calls += 1
        return ["??" if self.wrong == self.calls else f"text {self.calls - 1}"], 1


def result() -> dict[str, Any]:
    clock = [0.0]
    ways = [
        ocr.Way("without us", Fake(clock, 0.5, wrong=1)),
        ocr.Way("every line restored", Fake(clock, 2.0, wrong=3)),
    ]
    for index in range(4):
        ocr.in_turn(ways, line(index).lr, lambda fake, image: fake.read(image), lambda: clock[0])
    part = ocr_result.part("lines", "default", ways, [line(index).entry.text for index in range(4)])
    return {
        "format": 1, "command": "c", "commit": "abc", "versions": {"rapidocr": "3.10.0"}, "conditions": CONDITIONS,
        "device": {"kind": "cpu", "name": "A processor", "cores": 2}, "load": [0.1, 0.2], "parts": [part],
    }  # fmt: skip


def test_figures_of_ways_in_turn() -> None:
    plain, ours = result()["parts"][0]["rows"]
    assert (plain["acc"]["mean"], ours["acc"]["mean"]) == (0.75, 0.75)
    assert plain["times"] is None
    assert ours["times"] == {"median": 4.0, "low": 4.0, "high": 4.0}
    assert (ours["gained"], ours["lost"], ours["acc_less_base"]["mean"], ours["stray"]) == (1, 1, 0.0, 4)


def test_tables_and_files(tmp_path: Path) -> None:
    found = result()
    made = ocr_result.table(found)
    assert "| its own PP-OCRv6 | 4 lines | every line restored | 75.0" in made
    assert "| 1, 1 | 2 (2 to 2) | 4 (4 to 4) |" in made
    assert "busy" not in made
    busy = copy.deepcopy(found) | {"load": [0.1, 3.0]}
    assert "busy with other work** (load 0.1 to 3.0 on 2 cores)" in ocr_result.table(busy)
    ocr_result.save(found, tmp_path)
    assert ocr_result.read(tmp_path / "ocr.json") == json.loads(json.dumps(found))
    assert (tmp_path / "ocr.md").read_text(encoding="utf-8") == made
    with pytest.raises(InputError, match=r"missing\.json"):
        ocr_result.read(tmp_path / "missing.json")


def test_the_readme_s_part() -> None:
    found = result()
    made = ocr_result.brief(found)
    assert made.startswith("**RapidOCR 3.10.0** with and without us")
    assert "| its own PP-OCRv6 | every line restored | 75.0 (+0.0" in made
    assert {line.count("|") for line in made.splitlines() if line.startswith("|")} == {4}


def test_lines_that_were_spoilt_are_shown() -> None:
    made = ocr_result.spoilt(result())
    assert made.startswith("1 of 4 readings of lines")
    assert "| text 2 | its own PP-OCRv6 | text 2 | ?? |  |" in made


def test_readme_and_results_agree() -> None:
    found = ocr_result.read()
    table = (ocr_result.RESULTS / ocr_result.MARKDOWN).read_text(encoding="utf-8")
    assert table == ocr_result.table(found)
    assert not blocks.stale(ocr_result.BLOCK, ocr_result.parts(found)), "run python -m benchmarks.ocr --readme"


@pytest.mark.parametrize("words", [["--lines", "-1"], ["--lines", "0", "--pages", "0"], ["--recognisers", "nobody"]])
def test_wrong_options_are_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ocr.main(words) == 1
    assert "--" in capsys.readouterr().err


@pytest.mark.slow
def test_the_real_thing(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rapidocr", reason="RapidOCR is not installed (extra [ocr])")

    def lines(*_: Any) -> Iterator[TestLine]:
        from tests.runtime.helpers import draw_line

        for number, text in enumerate(("Hello 42", "Grand")):
            entry = Entry(number, text, "mild", "camera", "f", "k", 1, "", "")
            yield TestLine(entry, np.zeros((128, 480, 3), np.uint8), draw_line(text, 32, 120))

    monkeypatch.setattr(ocr, "_test_lines", lines)
    words = ["--lines", "2", "--pages", "1", "--recognisers", "default", "--steps", "1", "--threads", "1"]
    assert ocr.main([*words, "--bundle", str(tiny_bundle), "--out", str(tmp_path)]) == 0
    found = ocr_result.read(tmp_path / "ocr.json")
    assert [part["kind"] for part in found["parts"]] == ["lines", "pages"]
    plain, restored, *_ = found["parts"][0]["rows"]
    assert plain["acc"]["mean"] == 1.0
    assert restored["counts"]["failed"] == 0
    assert found["parts"][1]["rows"][0]["found"] > 0
