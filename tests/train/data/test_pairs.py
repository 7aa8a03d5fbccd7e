"""Pairs of pictures with texts: tables, folders, and rows that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.data.made import bars, encoded
from textsr.errors import InputError
from train.data import BrokenRecord, Reason, open_data, records


def _picture(path: Path, height: int = 64, width: int = 200, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(bars(height, width), kind))
    return path


def test_a_table_of_paths(tmp_path: Path) -> None:
    _picture(tmp_path / "a" / "high.png", 64, 200)
    _picture(tmp_path / "b" / "low.jpg", 32, 100, "JPEG")
    _picture(tmp_path / "alone.png")
    table = tmp_path / "mine.tsv"
    table.write_text("lr\ttext\thr\r\nb/low.jpg\t一,二\ta/high.png\r\n\r\n\tonly\talone.png\r\n", encoding="utf-8-sig")
    dataset = open_data(str(table))
    pair, alone = records(dataset)
    assert (pair.name, pair.text, pair.scale, pair.kind, pair.source) == (
        "a/high.png", "一,二", 2, "pairs", "pairs:mine.tsv",
    )  # fmt: skip
    assert pair.lr is not None
    assert pair.lr_crop is not None
    assert pair.hr_crop is not None
    assert (pair.lr.shape, pair.lr_crop.shape, pair.hr_crop.shape) == ((32, 128, 3), (32, 100, 3), (64, 200, 3))
    assert pair.width == 400
    assert (pair.lr[:, 100:] == pair.lr[:, 99:100]).all()
    assert (alone.text, alone.lr, alone.scale) == ("only", None, None)


def test_a_folder_of_high_and_low(tmp_path: Path) -> None:
    """The layout of the benchmark's test set; the pictures come out as they went in."""
    for number in (0, 1):
        _picture(tmp_path / "hr" / f"{number:04}.png", 128, 300)
        _picture(tmp_path / "lr" / f"{number:04}.png", 32, 75)
    (tmp_path / "lines.tsv").write_text("index\ttext\tfont\n0\t零\tkai\n1\t一\tkai\n2\t二\tkai\n", encoding="utf-8")
    dataset = open_data(str(tmp_path))
    assert [(line.name, line.text, line.scale) for line in records(dataset)] == [
        ("hr/0000.png", "零", 4),
        ("hr/0001.png", "一", 4),
    ]
    assert dataset.report.reasons() == {"no picture": 1}
    line = dataset[1]
    np.testing.assert_array_equal(line.image[:, :300], bars(128, 300))
    assert line.lr is not None
    np.testing.assert_array_equal(line.lr[:, :75], bars(32, 75))


def test_rows_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    _picture(tmp_path / "good.png")
    _picture(tmp_path / "low.png", 16, 50)
    _picture(tmp_path / "tall.png", 64, 50)
    (tmp_path / "cut.jpg").write_bytes(encoded(bars(64, 200), "JPEG")[:900])
    rows = [
        b"hr\tlr\ttext",
        b"good.png\tlow.png\tfine",
        b"good.png\tlow.png",
        b"absent.png\tlow.png\tx",
        b"good.png\tabsent.png\tx",
        b"good.png\ttall.png\tx",
        b"good.png\tlow.png\t\xff\xfe",
        b"good.png\tlow.png\t  ",
        b"\xff.png\tlow.png\tx",
        b"mine.tsv\tlow.png\tx",
        b"good.png\tmine.tsv\tx",
        b"cut.jpg\tlow.png\tx",
    ]
    table = tmp_path / "mine.tsv"
    table.write_bytes(b"\n".join(rows))
    dataset = open_data(f"pairs:{table}?scan=full")
    assert [line.text for line in records(dataset)] == ["fine"]
    assert [drop.reason for drop in dataset.report.drops] == [
        Reason.BAD_ROW,
        Reason.NO_PICTURE,
        Reason.NO_PARTNER,
        Reason.BAD_PARTNER,
        Reason.BAD_TEXT,
        Reason.EMPTY_TEXT,
        Reason.BAD_ROW,
        Reason.BAD_PICTURE,
        Reason.BAD_PICTURE,
        Reason.BAD_PICTURE,
    ]
    details = {drop.reason: drop.detail for drop in dataset.report.drops}
    assert details[Reason.NO_PARTNER] == "absent.png"
    assert "200 x 64 against 50 x 64" in details[Reason.BAD_PARTNER]
    assert dataset.report.drops[0].name == "line 3"


def test_a_picture_that_goes_later_is_a_broken_record(tmp_path: Path) -> None:
    path = _picture(tmp_path / "good.png")
    (tmp_path / "mine.tsv").write_text("hr\ttext\ngood.png\tx\n", encoding="utf-8")
    dataset = open_data(str(tmp_path / "mine.tsv"))
    path.unlink()
    with pytest.raises(BrokenRecord, match=r"good\.png: no picture"):
        dataset[0]
    assert dataset.report.kept == 0


@pytest.mark.parametrize("content", ["", "path\tlabel\na.png\tx\n", "a.png\tx\n"])
def test_a_table_without_the_columns_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="must name the columns hr and text"):
        open_data(str(tmp_path / "mine.tsv"))
    with pytest.raises(InputError, match=r"folder with hr/ and lines\.tsv"):
        open_data(f"pairs:{tmp_path / 'absent.tsv'}")


def test_pictures_turned_by_exif_are_judged_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(bars(64, 200)).copy()).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "mine.tsv").write_text("hr\ttext\nturned.jpg\tx\n", encoding="utf-8")
    dataset = open_data(f"{tmp_path / 'mine.tsv'}?filters=paper")
    assert dataset[0].width == 400
