"""Real-CE: cutting lines out of photographs, pairs that lie on each other, and label files with faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.train.data.made import ramp, row, turned_box
from textsr.errors import InputError
from train.data import Reason, open_data, part_of, records
from train.data.quads import cut, rectangle

SIZE = (240, 360)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-179, 179),
    st.floats(60, 150),
    st.floats(20, 50),
    st.booleans(),
    st.floats(-1.5, 1.5),
)
def test_a_line_is_cut_upright_at_any_angle(
    degrees: float, width: float, height: float, backwards: bool, wobble: float
) -> None:
    """The first corner is the text's top left; corners may run either way round and be a little off."""
    box = turned_box((180, 120), width, height, degrees)
    given_corners = box[[0, 3, 2, 1]] if backwards else box
    found = rectangle(given_corners, SIZE)
    np.testing.assert_allclose(found.corners, box, atol=0.05)
    line = cut(ramp(SIZE, box), found).astype(float)
    assert (
        line.shape[:2] == (round(height), round(width))
        or abs(line.shape[0] - height) + abs(line.shape[1] - width) < 1.1
    )
    v, u = ((np.arange(side) + 0.5) / side for side in line.shape[:2])
    assert np.abs(line[..., 0] - (40 + 175 * u)).max() < 6
    assert np.abs(line[..., 1] - (40 + 175 * v)[:, None]).max() < 8
    rough = rectangle(box + np.array([[wobble, 0], [0, wobble], [-wobble, 0], [0, -wobble]]), SIZE)
    assert np.abs(rough.corners - box).max() < 6


@pytest.mark.parametrize(
    ("quad", "what"),
    [
        ([[10, 10], [90, 40], [90, 10], [10, 40]], "enclose"),  # crossing
        ([[10, 10], [90, 10], [90, 10], [10, 10]], "enclose"),  # flat
        ([[10, 10]] * 4, "enclose"),
        ([[400, 10], [480, 10], [480, 40], [400, 40]], "outside"),
        ([[10, -40], [90, -40], [90, -10], [10, -10]], "outside"),
    ],
)
def test_wrong_corners_are_refused(quad: list[list[float]], what: str) -> None:
    with pytest.raises(InputError, match=what):
        rectangle(np.array(quad, float), SIZE)


def _photographs(folder: Path, stem: str, boxes: list[np.ndarray], registered: bool = False) -> None:
    """The first box as a ramp, at 52 mm and (a quarter and a half as large, unless registered) at 13 and 26 mm."""
    for name, share in (("52mm", 1.0), ("26mm", 0.5), ("13mm", 0.25)):
        share = 1.0 if registered else share
        size = round(SIZE[0] * share), round(SIZE[1] * share)
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(ramp(size, boxes[0] * share)).save(folder / name / f"{stem}.png")


@pytest.mark.parametrize("scale", [4, 2])
@pytest.mark.parametrize("registered", [False, True])
def test_high_and_low_lines_lie_on_each_other(tmp_path: Path, scale: int, registered: bool) -> None:
    box = turned_box((180, 120), 160, 48, 20)
    _photographs(tmp_path, "0001", [box], registered)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0001.txt").write_text(row(box, "a,b,，c") + "\r\n", encoding="utf-8-sig")
    dataset = open_data(f"{tmp_path}?scale={scale}&pixels=32")
    assert len(dataset) == 1
    line = dataset[0]
    assert (line.text, line.scale, line.name, line.kind) == ("a,b,，c", scale, "0001.png#1", "real-ce")
    assert line.lr is not None
    assert line.lr_crop is not None
    assert line.hr_crop is not None
    assert line.hr_crop.shape == (48, 160, 3)
    assert line.lr_crop.shape == (48 // scale, 160 // scale, 3)
    assert line.image.shape == (128, 512, 3)
    assert line.lr.shape == (32, 128, 3)
    # A ramp stays the same ramp at any size: averaged over 4 x 4 pixels the high line is the low one.
    averaged = line.image[:, : line.width].reshape(32, 4, line.width // 4, 4, 3).mean((1, 3))
    inner = np.abs(averaged - line.lr[:, : line.width // 4])[4:-4, 4:-4, :2]
    assert inner.max() < 4


def test_faulty_rows_and_pictures_are_named(tmp_path: Path) -> None:
    box = turned_box((180, 120), 200, 70, 0)
    for stem in ("0001", "0002", "0003", "0004", "0005"):
        _photographs(tmp_path, stem, [box])
    crossed = box[[0, 2, 1, 3]]
    rows = [
        row(box, "good").encode(),
        b"",
        row(crossed, "wrong").encode(),
        row(box, "###").encode(),
        row(box, "").encode(),
        row(box, "x").encode()[:-2],
        b"1,2,3",
        b"a" + row(box, "x").encode(),
        b"nan" + row(box, "x").encode()[len(f"{box[0, 0]:.2f}") :],
        row(box, "").encode() + b"\xff\xfe",
        row(box + 1000, "far").encode(),
        row(box, "x" * 25).encode(),
    ]
    (tmp_path / "52mm" / "0001.txt").write_bytes(b"\n".join(rows))
    for stem in ("0003", "0004", "0005"):
        (tmp_path / "52mm" / f"{stem}.txt").write_text(row(box, "text"), encoding="utf-8")
    (tmp_path / "13mm" / "0003.png").unlink()
    Image.new("RGB", (60, 60)).save(tmp_path / "13mm" / "0004.png")
    (tmp_path / "13mm" / "0005.png").write_bytes(b"no picture")
    dataset = open_data(f"real-ce:{tmp_path}")
    assert [line.text for line in records(dataset)] == ["good"]
    assert {drop.name: drop.reason for drop in dataset.report.drops} == {
        "0001.png#3": Reason.BAD_QUAD,
        "0001.png#4": Reason.ILLEGIBLE,
        "0001.png#5": Reason.EMPTY_TEXT,
        "0001.png#6": Reason.NO_TEXT,
        "0001.png#7": Reason.BAD_ROW,
        "0001.png#8": Reason.BAD_ROW,
        "0001.png#9": Reason.BAD_ROW,
        "0001.png#10": Reason.BAD_TEXT,
        "0001.png#11": Reason.BAD_QUAD,
        "0001.png#12": Reason.LONG,
        "0002.png": Reason.NO_TEXT,
        "0003.png#1": Reason.NO_PARTNER,
        "0004.png#1": Reason.BAD_PARTNER,
        "0005.png#1": Reason.BAD_PICTURE,
    }
    assert dataset.report.found == 15
    (tmp_path / "52mm" / "0001.png").write_bytes((tmp_path / "52mm" / "0001.png").read_bytes()[:-400])
    cut_short = open_data(f"real-ce:{tmp_path}?scale=2&pixels=32")
    assert [line.name for line in records(cut_short)] == ["0003.png#1", "0004.png#1", "0005.png#1"]
    assert cut_short.report.drops[-1].name == "0001.png#1"


@pytest.mark.slow
def test_photographs_may_be_larger_than_lines(tmp_path: Path) -> None:
    box = turned_box((2500, 1800), 400, 100, 0)
    for name in ("52mm", "13mm"):
        (tmp_path / name).mkdir()
        Image.new("L", (5000, 3600), 90).save(tmp_path / name / "a.png")
    (tmp_path / "52mm" / "a.txt").write_text(row(box, "text"), encoding="utf-8")
    assert open_data(f"real-ce:{tmp_path}")[0].text == "text"


def test_the_lines_of_a_picture_stay_together(tmp_path: Path) -> None:
    box = turned_box((180, 120), 200, 70, 0)
    for number in range(12):
        _photographs(tmp_path, f"{number:04}", [box])
        (tmp_path / "52mm" / f"{number:04}.txt").write_text("\n".join([row(box, "a"), row(box, "b")]), encoding="utf-8")
    for part in ("train", "test"):
        dataset = open_data(f"{tmp_path}?split={part}")
        names = [dataset.name(i) for i in range(len(dataset))]
        stems = {name.split(".")[0] for name in names}
        assert stems == {f"{number:04}" for number in range(12) if part_of(f"{number:04}") == part}
        assert len(names) == 2 * len(stems)


def test_a_folder_or_scale_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds 13mm, 26mm and 52mm"):
        open_data(f"real-ce:{tmp_path}")
    (tmp_path / "52mm").mkdir()
    with pytest.raises(InputError, match="no picture in this folder"):
        open_data(str(tmp_path))
    with pytest.raises(InputError, match=r"scale 4 .* not 3"):
        open_data(f"{tmp_path}?scale=3")
