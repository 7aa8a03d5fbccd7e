"""The quality benchmark on lines made here: scores, their reuse, comparisons, seconds, tables and pictures."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks import blocks, compare, quality, quality_result, seconds
from benchmarks.methods import ALL, MethodOptions, Opened, Output, bicubic, find_method, names
from benchmarks.pictures import Panel, choose, write_pictures
from benchmarks.scoring import Found, Scorer, Store, digest
from benchmarks.testset import Entry, TestLine
from textsr.errors import InputError
from train.evaluation.judge import Judge

TEXTS = ("aa", "bb", "cc", "dd")


def _line(index: int) -> TestLine:
    lr = np.full((32, 40, 3), 50 * index, np.uint8)
    entry = Entry(index, TEXTS[index], ("mild", "strong")[index % 2], "camera", "f", "k", 1, TEXTS[index], "")
    return TestLine(entry, np.full((128, 160, 3), 50 * index, np.uint8), lr)


LINES = [_line(index) for index in range(4)]


def _judge(image: NDArray[np.uint8]) -> str:
    """Reads the line that its brightness names; brighter by 5: wrongly."""
    value = int(image[0, 0, 0])
    return TEXTS[value // 50] if value % 50 == 0 else "??"


def _spoils_first_mends_none(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
    values = [int(image[0, 0, 0]) for image in images]
    return [Output(np.full((128, 160, 3), value or 5, np.uint8), "aa") for value in values]


METHODS = {
    "bicubic": Opened("bicubic", bicubic, "b"),
    "ours:4": Opened("ours:4", _spoils_first_mends_none, "o", "an executor", 1234567, 56.78, "Apache-2.0"),
    "peer": Opened("peer", bicubic, "p"),
}
ABOUT: dict[str, Any] = {
    "command": "c", "commit": "abc", "versions": {}, "device": {"kind": "cpu", "name": "A processor", "cores": 2},
    "conditions": {"judge": "PP", "normalisation": "texts", "testset": "4 lines", "lines": 4, "threads": 1, "seed": 0,
                   "bundle": "compact", "timed_lines": 2, "rounds": 3, "load": [0.1, 0.2, 0.3]},
}  # fmt: skip


def _scores(store: Store | None = None) -> list[quality.Score]:
    return quality.score_lines(LINES, METHODS, Scorer(_judge, "j", perceptual=False), store or Store(None), 4)


def test_scores_and_comparison() -> None:
    scores = _scores()
    assert len(scores) == 16
    item = compare.compare(scores, "ours:4")
    assert (item.base_right, item.lost, item.gained) == (4, 1, 0)
    assert item.kept_right is not None
    assert item.kept_right.mean == pytest.approx(0.75)
    assert item.differences["acc"].mean == pytest.approx(-0.25)
    assert item.own_acc == pytest.approx(0.25)
    assert "75.0 [25.0, 100.0]% stay right" in item.text()
    assert compare.compare(scores, "peer").differences["psnr"].mean == 0
    assert compare.ranking(scores, "ours:4")[-1] == 0


def test_kept_scores_are_reused_where_method_judge_and_line_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "scores.jsonl"
    first = _scores(Store(path))
    calls: list[int] = []

    def counted(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
        calls.append(len(images))
        return _spoils_first_mends_none(images)

    def run(key: str, judge: str, lines: list[TestLine]) -> list[quality.Score]:
        methods = {**METHODS, "ours:4": replace(METHODS["ours:4"], key=key, run=counted)}
        return quality.score_lines(lines, methods, Scorer(_judge, judge, perceptual=False), Store(path), len(lines))

    again = run("o", "j", LINES)
    assert calls == []
    assert repr(again) == repr(first)  # as text: NaN is not equal to itself
    run("other weights", "j", LINES)
    run("o", "other judge", LINES)
    run("o", "j", [*LINES[:3], replace(LINES[3], hr=LINES[3].hr + 1)])
    run("", "j", LINES)  # nobody can tell
    run("", "j", LINES)
    assert calls == [4, 4, 1, 4, 4]


def test_a_cut_file_of_scores_loses_one_row(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "scores.jsonl"
    found = [Found("读", None, 20.0, 0.25), Found("", "x", 21.0, 0.5)]
    store = Store(path)
    for line, item in zip("ab", found, strict=True):
        store.put("key", line, item)
    path.write_text(path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        cut = Store(path)
    assert "1 of 3 rows are damaged" in caplog.text
    assert (cut.get("key", "a"), cut.get("key", "b")) == (found[0], None)
    cut.put("key", "b", found[1])
    assert Store(path).get("key", "b") == found[1]


def test_a_digest_tells_pictures_apart() -> None:
    assert digest(LINES[1]) == digest(_line(1)) != digest(LINES[2])
    assert digest(replace(LINES[1], lr=LINES[2].lr)) != digest(LINES[1])


def test_methods_take_turns_at_the_clock() -> None:
    passed = [0.0]
    order: list[str] = []

    def takes(name: str, spent: float) -> Opened:
        def run(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
            passed[0] += spent * (1 + order.count(name))
            order.append(name)
            return bicubic(images)

        return Opened(name, run)

    clocks = seconds.Clocks(lambda: passed[0], lambda: passed[0] / 2)
    timed = seconds.in_turn({"a": takes("a", 1), "b": takes("b", 10)}, LINES[:1], 3, clocks)
    assert order == ["a", "b"] * 4  # a warm-up and three rounds
    assert (timed["a"].median, timed["b"].median, timed["b"].cpu, timed["a"].calls) == pytest.approx((3, 30, 15, 3))
    assert (timed["a"].low, timed["a"].high) == pytest.approx((2.2, 3.8))
    assert seconds.in_turn({"a": takes("a", 1)}, [], 3, clocks) == {}


def test_results_say_the_same_everywhere(tmp_path: Path) -> None:
    scores = _scores()
    timed = {name: seconds.Seconds(0.5, 0.25, 1.5, 0.4, 6) for name in METHODS}
    data = quality_result.data(ABOUT, METHODS, scores, timed)
    quality_result.save(data, scores, tmp_path)
    assert quality_result.read(tmp_path / quality_result.JSON) == json.loads(json.dumps(data))
    text = (tmp_path / quality_result.MARKDOWN).read_text(encoding="utf-8")
    assert "| bicubic | 100.0 [100.0, 100.0] | 1.000" in text
    assert "| ours:4 | 75.0 [25.0, 100.0] |" in text
    assert "| -25.0 [-75.0, +0.0] | 75.0 [25.0, 100.0] | 0.5 (0.25 to 1.5) | 0.4 | 1,234,567 | 56.8 |" in text
    assert "| mild | ours:4 | 50.0 " in text
    assert "* ours:4 - peer: ACC -25.0 " in text
    assert "busy" not in text
    assert len((tmp_path / quality_result.LINES).read_text(encoding="utf-8").splitlines()) == 1 + 4 * len(METHODS)
    short = quality_result.short(data)
    assert "| ACC, percentage points, paired | less peer |" in short
    assert "| ours:4 | -25.0 [-75.0, +0.0] |" in short
    assert {line.count("|") for line in short.splitlines() if line.startswith("|")} == {12, 3}
    busy = {**ABOUT, "conditions": {**ABOUT["conditions"], "load": [0.1, 3.0, 3.0]}}
    assert "busy with other work** (load 3.0 on 2 cores" in quality_result.table({**data, **busy})


def test_rows_kept_from_an_earlier_run(tmp_path: Path) -> None:
    path = tmp_path / quality_result.JSON
    before = quality_result.data({**ABOUT, "commit": "0123456789"}, METHODS, _scores(), {})
    path.write_text(json.dumps(before), encoding="utf-8")
    ours = {name: METHODS[name] for name in ("bicubic", "ours:4")}
    scores = [score for score in _scores() if score.method != "peer"]
    data = quality_result.data(ABOUT, ours, scores, {}, quality_result.kept(["peer"], ABOUT, path))
    assert [row["method"] for row in data["rows"]] == ["bicubic", "peer", "ours:4", "HR"]
    assert data["rows"][1] == {
        **next(row for row in before["rows"] if row["method"] == "peer"),
        "kept_from": "0123456789",
    }
    assert "peer: kept from an earlier run over these lines, of commit 0123456." in quality_result.table(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    assert quality_result.kept(["peer"], ABOUT, path)[0]["kept_from"] == "0123456789"  # not of the run that kept it
    with pytest.raises(InputError, match="no row esrgan; it has bicubic, peer"):
        quality_result.kept(["esrgan"], ABOUT, path)
    other = {"conditions": {**ABOUT["conditions"], "lines": 5}}
    with pytest.raises(InputError, match=r"other conditions \(lines\)"):
        quality_result.kept(["peer"], other, path)
    assert quality_result.kept([], other, tmp_path / "nowhere.json") == []


def test_the_readme_s_part(tmp_path: Path) -> None:
    data = quality_result.data(ABOUT, METHODS, _scores(), {})
    made = quality_result.brief(data)
    assert made.startswith("**4 degraded lines of the test split**")
    assert "| ours:4 | 75.0 | -25.0 [-75.0, +0.0] |" in made
    assert "no difference can be told for " in made
    assert "fewer lines" not in made
    worse = copy.deepcopy(data)
    row = next(row for row in worse["rows"] if row["method"] == "ours:4")
    row["against"]["differences"]["acc"] = {"mean": -0.2, "low": -0.3, "high": -0.1}
    assert "fewer lines are read with ours:4" in quality_result.brief(worse)
    (tmp_path / "other.json").write_text('{"format": 0}', encoding="utf-8")
    for name in ("other.json", "missing.json"):
        with pytest.raises(InputError, match=name):
            quality_result.read(tmp_path / name)


def test_readme_and_results_agree() -> None:
    data = quality_result.read()
    assert not blocks.stale(quality_result.BLOCK, quality_result.parts(data)), (
        "run python -m benchmarks.quality --readme"
    )
    table = (quality_result.RESULTS / quality_result.MARKDOWN).read_text(encoding="utf-8")
    assert table == quality_result.table(data)


def test_pictures_beside_each_other_and_in_blocks(tmp_path: Path) -> None:
    panels = {place: Panel(np.zeros((128, 512, 3), np.uint8), "读", place % 2 == 0) for place in range(3)}
    choices = choose([2, 0, 1])
    assert choices == {"best": [2, 0, 1], "median": [2, 0, 1], "worst": [1, 0, 2]}
    paths = write_pictures(tmp_path, "ours", {"bicubic": panels, "HR": panels}, choices)
    assert [path.name for path in paths] == ["ours-best.png", "ours-median.png", "ours-worst.png"]
    (wide, *_) = write_pictures(tmp_path, "all", {str(number): panels for number in range(6)}, choices)
    with Image.open(paths[0]) as two, Image.open(wide) as six:
        assert 1024 < two.width < 1200
        assert 3 * 512 < six.width < 3 * 512 + 100  # three in each of two rows
        assert six.height > 2 * (two.height - 40)


def test_pictures_show_what_the_judge_read(tmp_path: Path) -> None:
    made = quality.pictures(tmp_path, LINES, METHODS, _scores())
    assert [path.name for path in made if path.exists()] == [
        f"{name}-{kind}.png" for name in ("all", "ours-4") for kind in ("best", "median", "worst")
    ]


def test_a_method_of_wrong_size_is_refused() -> None:
    bad = {"bad": Opened("bad", lambda images: [])}
    with pytest.raises(InputError, match="bad: returned 0 lines for 4, or not at four times"):
        quality.score_lines(LINES, bad, Scorer(_judge, "j", perceptual=False), Store(None), 1)


def double(images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """A method found by its name."""
    return [np.repeat(np.repeat(image, 4, 0), 4, 1) for image in images]


def test_find_method() -> None:
    options = MethodOptions()
    assert find_method("bicubic", options).run is bicubic
    nearest = find_method("benchmarks.testset:enlarge", options)
    assert nearest.key == ""
    for name in ("nothing", "no.such.module:x", "benchmarks.methods:missing", "ours:x"):
        with pytest.raises(InputError):
            find_method(name, options)


def test_names() -> None:
    assert names("all") == list(ALL)
    assert names("ours, lanczos,ours") == ["bicubic", "ours", "lanczos"]
    assert names("ours:4,all")[:3] == ["bicubic", "ours:4", "lanczos"]


def test_lanczos_keeps_a_plain_line_and_enlarges_four_times() -> None:
    (output,) = find_method("lanczos", MethodOptions()).run([np.full((32, 40, 3), (10, 120, 250), np.uint8)])
    assert output.image.shape == (128, 160, 3)
    assert (output.image == (10, 120, 250)).all()


def test_command_tells_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in ((["--lines", "0"], "--lines 0"), (["--methods", "nothing"], "unknown method 'nothing'")):
        assert quality.main(words) == 1
        assert said in capsys.readouterr().err


def test_judge_reads_a_plain_line() -> None:
    pytest.importorskip("rapidocr_onnxruntime", reason="the judge is rapidocr-onnxruntime")
    from PIL import ImageDraw, ImageFont

    picture = Image.new("RGB", (300, 128), "white")
    ImageDraw.Draw(picture).text((30, 20), "A372", "black", ImageFont.load_default(90))
    assert Judge()(np.asarray(picture)) == "A372"
    assert Judge().name.startswith("PP-OCRv4")
