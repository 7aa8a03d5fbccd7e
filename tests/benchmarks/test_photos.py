"""``python -m benchmarks.photos``: lines found, shrunk, restored and counted; and that JSON and docs agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks import blocks, photos, photos_result
from benchmarks.photos import LEAST, Crop, crops, draw, measure, shrunk
from benchmarks.photos_result import DEFAULT, ENLARGED, RESTORED, Row
from runtime import Restorer
from runtime.guard import Guard
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_bundle
from textsr.errors import InputError
from textsr.images import save_png

ROW = Row("a.jpg", 16, "abc", "abc", "abc", "abc", True, "", "abc")
ROWS = [
    ROW,
    replace(ROW, restored="abd", default="abd"),  # spoilt
    replace(ROW, restored="abd", applied=False, cause="guard"),  # spoilt, and stopped
    replace(ROW, enlarged="abd"),  # repaired
    replace(ROW, rows=12, enlarged="ab", restored="", default="ab", applied=False, cause="too_low"),
]
ABOUT: dict[str, Any] = {
    "format": photos_result.FORMAT, "source": "test pictures", "judge": "J", "bundle": "compact", "steps": 4,
    "strength": 0.85, "paint": 0.5, "executor": "onnxruntime:cpu", "photographs": 1, "lines": 4,
    "dropped": {"nothing read": 2},
}  # fmt: skip


class Boxes:
    """Finds the same lines everywhere."""

    def __init__(self, *boxes: tuple[int, int, int, int]) -> None:
        self.boxes = boxes

    def detect(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        return [np.array([(l, t), (r, t), (r, b), (l, b)], np.float32) for l, t, r, b in self.boxes]  # noqa: E741


def test_lines_that_both_read_alike_are_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_png(tmp_path / "a.png", np.pad(draw_line(), ((30, 30), (30, 30), (0, 0)), mode="edge"))
    (tmp_path / "b.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    detector = Boxes((30, 30, 150, 54), (30, 30, 90, 54), (30, 0, 50, 60))
    dropped: Counter[str] = Counter()

    def judge(image: NDArray[np.uint8]) -> str:
        return "hello42" if image.shape[1] == 120 else "other"

    (crop,) = crops(tmp_path, detector, KnowingReader(), judge, dropped)
    assert (crop.file, crop.text, crop.image.shape) == ("a.png", "Hello 42", (24, 120, 3))
    assert +dropped == {"picture cannot be read": 1, "upright": 1, "read differently": 1}
    assert "b.png" in caplog.text
    assert not list(crops(tmp_path, detector, KnowingReader(""), judge, dropped))
    assert dropped["nothing read"] == 2


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match=folder.name):
            list(crops(folder, Boxes(), KnowingReader(), lambda image: "", Counter()))


@given(st.integers(1, 120), st.integers(1, 200), st.integers(1, 60))
def test_shrinking_keeps_the_shape(height: int, width: int, rows: int) -> None:
    found = shrunk(np.full((height, width, 3), 77, np.uint8), rows)
    if height < LEAST * rows:
        assert found is None
        return
    assert found is not None
    assert found.shape[0] == rows
    assert abs(found.shape[1] - width * rows / height) <= 0.5 or found.shape[1] == 1
    assert np.all(found == 77)


def test_each_line_comes_out_in_three_ways(tmp_path: Path) -> None:
    restorer = Restorer(stub_bundle(), StubExecutor(), KnowingReader(), guard=Guard())
    lines = [Crop("a.png", draw_line(height=48, width=240), "64"), Crop("b.png", draw_line(height=18), "64")]
    (one,) = measure(lines, 16, restorer, lambda image: str(len(image)), seed=3)
    assert (one.row.file, one.row.rows, one.row.told) == ("a.png", 16, "Hello 42")
    assert one.row.readings == ("64", "64", "64")
    assert one.row.right(RESTORED)
    enlarged, restored, default = one.pictures
    assert enlarged.shape == restored.shape == default.shape == (64, 320, 3)
    assert not np.array_equal(enlarged, restored)
    assert np.array_equal(default, restored if one.row.applied else enlarged)
    (low,) = measure(lines[:1], 12, restorer, lambda image: "", seed=3)
    assert (low.row.applied, low.row.cause) == (False, "too_low")
    assert not np.array_equal(low.pictures[RESTORED], low.pictures[DEFAULT])
    paths = draw([one, low], 16, tmp_path)
    assert [path.name for path in paths] == ["photos-16-lost.png", "photos-16-won.png"]
    assert all(path.stat().st_size for path in paths)


def test_counts() -> None:
    first, second = photos_result.data(ABOUT, ROWS)["heights"]
    assert first == {"rows": 16, "lines": 4, "right": [3, 2, 3], "spoilt": [0, 2, 1], "applied": 3}
    assert second == {"rows": 12, "lines": 1, "right": [0, 0, 0], "spoilt": [0, 0, 0], "applied": 0}
    assert ROWS[1].gain == pytest.approx(-1 / 3)
    assert ROWS[3].gain == pytest.approx(1 / 3)
    assert not ROWS[3].right(ENLARGED)


def test_the_table() -> None:
    made = photos_result.table(photos_result.data(ABOUT, ROWS))
    assert made.startswith("**4 lines of 1 photographs** (test pictures), shrunk; bundle compact, 4 steps")
    assert "| 16 | 4 | 75.0 | 50.0 | 2 of 3 [9.4, 99.2] | 75.0 | 1 of 3 [0.8, 90.6] | 3 |" in made
    assert "| 12 | 1 | 0.0 | 0.0 | 0 of 0 [0.0, 100.0] | 0.0 | 0 of 0 [0.0, 100.0] | 0 |" in made
    assert "left out: nothing read 2" in made


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    found = photos_result.data(ABOUT, ROWS)
    photos_result.save(found, tmp_path)
    path = tmp_path / photos_result.JSON
    assert photos_result.read(path) == found
    assert (tmp_path / photos_result.MARKDOWN).read_text(encoding="utf-8") == photos_result.table(found)
    photos_result.save({**found, "format": 0}, tmp_path)
    with pytest.raises(InputError, match="of another version"):
        photos_result.read(path)
    with pytest.raises(InputError, match="measure with"):
        photos_result.read(tmp_path / "none.json")


def test_docs_and_results_agree() -> None:
    found = photos_result.read()
    assert found["heights"] == photos_result.data({}, [Row(**row) for row in found["rows"]])["heights"]
    table = (photos_result.RESULTS / photos_result.MARKDOWN).read_text(encoding="utf-8")
    assert table == photos_result.table(found)
    stale = blocks.stale(photos_result.BLOCK, photos_result.parts(found))
    assert not stale, "run python -m benchmarks.photos --readme"


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "give FOLDER"), (["x", "--rows", "0"], "--rows"), (["x", "--threads", "0"], "--threads")],
)
def test_wrong_options_are_told(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert photos.main(words) == 1
    assert message in capsys.readouterr().err
