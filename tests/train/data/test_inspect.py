"""``train.inspect`` and ``train.throughput`` as commands, on small sets."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.data.made import bars, ctr_values, encoded, write_ctr, write_lmdb
from tests.train.small import write_pool
from train import inspect, throughput
from train.data import open_data
from train.throughput import Reading, rate, reading, shuffled

GOOD = encoded(bars(64, 200))


def test_counts_reasons_and_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = [(GOOD, b"") for _ in range(5)] + [(b"junk", b"x"), (GOOD, "旧\U0001f600".encode())]
    ctr = write_lmdb(tmp_path / "scene", ctr_values(broken))
    pool = write_pool(tmp_path / "pool", 4)
    sheet, drops = tmp_path / "sheet.png", tmp_path / "drops.tsv"
    words = [str(ctr), str(pool), "--sheet", str(sheet), "--drops", str(drops), "--lines", "4"]
    assert inspect.main(words) == 0
    out = capsys.readouterr().out
    for row in (
        "ctr:scene: 7 records, 1 kept",
        "  5 left out: text is empty",
        "    image-000000001",
        "    and 2 more",
        "  1 left out: picture cannot be read",
        "    image-000000006: is no picture in a known format",
        "2 different ones, 50.00% outside the alphabet (\U0001f600)",
        "pool:pool: 4 records, 4 kept",
        "places of characters known: 4; real low resolution: 0",
        f"3 lines in {sheet}",
    ):
        assert row in out
    rows = drops.read_text(encoding="utf-8").splitlines()
    assert rows[0] == "source\tname\treason\tdetail"
    assert len(rows) == 7
    assert rows[1] == "ctr:scene\timage-000000001\ttext is empty\t"
    page = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    first = page[8 + 14 + 22 : 8 + 14 + 22 + 96, 8 : 8 + 384]  # the high resolution of the first line
    image = Image.fromarray(open_data(str(ctr))[0].image).resize((384, 96), Image.Resampling.LANCZOS)
    assert np.abs(first - np.asarray(image).astype(int))[:, :299].max() == 0
    red = (page[..., 0] > 200) & (page[..., 1] < 80) & (page[..., 2] < 80)
    assert red[22:44, 8:392].any()  # a character that no reference glyph shows


def test_a_source_that_cannot_be_used_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ctr = write_ctr(tmp_path / "ctr", 2)
    sheet = tmp_path / "sheet.png"
    assert inspect.main([str(tmp_path / "absent"), str(ctr), "--sheet", str(sheet)]) == 1
    found = capsys.readouterr()
    assert "absent is not there" in found.err
    assert "ctr:ctr: 2 records, 2 kept" in found.out
    assert sheet.exists()
    assert inspect.main([str(ctr), "--sheet", str(sheet), "--drops", str(tmp_path / "no" / "drops.tsv")]) == 1
    assert "drops.tsv" in capsys.readouterr().err


def test_places_are_spread_over_the_whole() -> None:
    assert inspect.places(1000, 4) == [124, 374, 624, 874]
    assert inspect.places(3, 10) == [0, 1, 2]
    assert inspect.places(0, 5) == []


def test_rate_leaves_out_the_first_and_counts_samples() -> None:
    ticks = itertools.count(10.0, 0.5)
    busy = itertools.count(3.0, 0.25)
    made = itertools.chain([10**6] * 3, itertools.repeat(8))
    found = rate(made, 1.0, 1.2, lambda: next(ticks), lambda: next(busy))
    assert (found.by_clock, found.by_cpu) == (16.0, 64.0)


@pytest.mark.parametrize(
    ("alone", "verdict"), [(20.0, "keeps up with 1 process"), (6.0, "keeps up with 2 processes"), (1.0, "train.pool")]
)
def test_verdict(alone: float, verdict: str) -> None:
    assert verdict in Reading("x", alone, alone, 1, None).verdict(10.0, 4)


def test_reading_is_measured_in_this_process_and_in_others(tmp_path: Path) -> None:
    data = open_data(str(write_ctr(tmp_path / "ctr", 4)))
    assert sorted(itertools.islice(shuffled(4), 4)) == [0, 1, 2, 3]
    found = reading(data, 0.02, 2, 2)
    assert found.alone > 0
    assert found.together is not None
    assert found.together > 0


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["diffusion", "paper"])
def test_a_step_is_measured_against_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str) -> None:
    pool = write_pool(tmp_path / "pool", 4)
    words = ["--preset", "tiny", "--device", "cpu", "--batch-size", "2", "--seconds", "0.1", "--workers", "1"]
    assert throughput.main([str(pool), *words, "--stage", stage]) == 0
    out = capsys.readouterr().out
    assert f"steps of stage {stage}, preset tiny:" in out
    assert "degradation on the device:" in out
    assert "pool:pool:" in out


def test_a_data_set_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.main(["absent", "--device", "cpu"]) == 1
    assert "train.throughput: absent is not there" in capsys.readouterr().err
