"""Whatever a label file or table holds, a record is given or named, and nothing else happens."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.data.made import bars, encoded, ramp
from textsr.errors import InputError
from train.data import open_data, records
from train.data.quads import cut, rectangle
from train.data.records import BrokenRecord, text_of

SIZE = (120, 200)
SCENE = ramp(SIZE, np.array([[20.0, 20], [180, 20], [180, 100], [20, 100]]))
PICTURE = encoded(SCENE)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-50, 250)


@settings(max_examples=100, deadline=None)
@given(st.lists(NUMBERS, min_size=8, max_size=8))
def test_any_corners_are_cut_or_refused(numbers: list[float]) -> None:
    quad = np.array(numbers).reshape(4, 2)
    try:
        found = rectangle(quad, SIZE)
    except InputError:
        return
    line = cut(SCENE, found)
    assert line.shape == (*found.size, 3)
    assert line.shape[0] * line.shape[1] <= 16 * SIZE[0] * SIZE[1]


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=80) | st.text("0123456789,.-x文\n\r", max_size=80).map(str.encode))
def test_any_label_file_is_read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place in ("52mm", "13mm"):
            (folder / place).mkdir()
            (folder / place / "a.png").write_bytes(PICTURE)
        good = b"20,20,180,20,180,100,20,100,text\n"
        (folder / "52mm" / "a.txt").write_bytes(good + content)
        dataset = open_data(f"real-ce:{folder}?filters=none")
        lines = list(records(dataset))
        assert lines[0].text == "text"
        assert dataset.report.found == len(lines) + len(dataset.report.drops)
        assert dataset.report.found == 1 + sum(bool(row.strip()) for row in content.split(b"\n"))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.binary(max_size=30) | st.sampled_from([b"a.png\ttext", b"b.png\ttext", b"\t", b"a.png"]), max_size=6)
)
def test_any_table_is_read(rows: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.png").write_bytes(encoded(bars(20, 60)))
        (folder / "t.tsv").write_bytes(b"\n".join([b"hr\ttext", b"a.png\tgood", *rows]))
        dataset = open_data(str(folder / "t.tsv"))
        lines = list(records(dataset))
        assert lines[0].text == "good"
        assert dataset.report.found == len(lines) + len(dataset.report.drops)


@given(st.binary(max_size=20))
def test_texts_are_decoded_or_refused(data: bytes) -> None:
    try:
        text = text_of(data, "x")
    except BrokenRecord:
        return
    assert text
    assert text == text.strip()
    assert text.encode("utf-8") in data
