"""The quality benchmark on lines made here: scores, comparisons, tables and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks import quality
from benchmarks.methods import MethodOptions, Output, bicubic, find_method
from benchmarks.pictures import Panel, write_pictures
from benchmarks.testset import Entry, TestLine
from textsr.errors import InputError
from train.evaluation.judge import Judge

TEXTS = ("aa", "bb", "cc", "dd")


def _line(index: int, right: bool) -> TestLine:
    lr = np.full((32, 40, 3), 50 * index, np.uint8)
    entry = Entry(index, TEXTS[index], ("mild", "strong")[index % 2], "camera", "f", "k", 1, TEXTS[index], "")
    return TestLine(entry, np.full((128, 160, 3), 50 * index + 10 * (not right), np.uint8), lr)


def _judge(image: NDArray[np.uint8]) -> str:
    """Reads the line that its brightness names; brighter by 5: wrongly."""
    value = int(image[0, 0, 0])
    return TEXTS[value // 50] if value % 50 == 0 else "??"


def _spoils_first_mends_none(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
    values = [int(image[0, 0, 0]) for image in images]
    return [Output(np.full((128, 160, 3), value or 5, np.uint8), "aa") for value in values]


def test_scores_and_comparison(tmp_path: Path) -> None:
    lines = [_line(index, True) for index in range(4)]
    methods = {"bicubic": bicubic, "new": _spoils_first_mends_none}
    scores, panels = quality.score_lines(lines, methods, _judge, 4, perceptual=False)
    assert len(scores) == 12
    assert len(panels["HR"]) == 4
    item = quality.compare(scores, "new")
    assert (item.base_right, item.lost, item.gained) == (4, 1, 0)
    assert item.kept_right == pytest.approx(0.75)
    assert item.acc_difference[0] == pytest.approx(-0.25)
    assert item.own_acc == pytest.approx(0.25)
    assert "75.0% stay right" in item.text()
    assert quality.ranking(scores, "new")[-1] == 0
    text = quality.report(scores, ["bicubic", "new", "HR"], ["a note"], tmp_path)
    assert "| all | bicubic | 100.0 [100.0, 100.0] |" in text
    assert "| mild | new | 50.0 " in text
    data = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))
    assert data["summary"]["new"]["acc"]["mean"] == 0.75
    assert len(data["lines"]) == 12


def test_pictures(tmp_path: Path) -> None:
    panels = [Panel(np.zeros((128, 512, 3), np.uint8), "读", index % 2 == 0) for index in range(3)]
    paths = write_pictures(tmp_path, "ours", [panels, panels], ["bicubic", "HR"], [2, 0, 1])
    assert [path.name for path in paths] == ["ours-best.png", "ours-median.png", "ours-worst.png"]
    with Image.open(paths[0]) as picture:
        assert picture.width > 1024


def test_a_method_of_wrong_size_is_refused() -> None:
    with pytest.raises(InputError, match="four times"):
        quality.score_lines([_line(0, True)], {"bad": lambda images: []}, _judge, 1, perceptual=False)


def double(images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """A method found by its name."""
    return [np.repeat(np.repeat(image, 4, 0), 4, 1) for image in images]


def test_find_method() -> None:
    options = MethodOptions()
    assert find_method("bicubic", options) is bicubic
    nearest = find_method("benchmarks.testset:enlarge", options)
    assert callable(nearest)
    for name in ("nothing", "no.such.module:x", "benchmarks.methods:missing"):
        with pytest.raises(InputError):
            find_method(name, options)


def test_judge_reads_a_plain_line() -> None:
    pytest.importorskip("rapidocr_onnxruntime", reason="the judge is rapidocr-onnxruntime")
    from PIL import ImageDraw, ImageFont

    picture = Image.new("RGB", (300, 128), "white")
    ImageDraw.Draw(picture).text((30, 20), "A372", "black", ImageFont.load_default(90))
    assert Judge()(np.asarray(picture)) == "A372"
    assert Judge().name.startswith("PP-OCRv4")
