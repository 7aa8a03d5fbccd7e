"""``open_data``: specs, the split, limits, kept scans, several sources at once, pools and the renderer."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.data.made import ctr_values, encoded, write_ctr, write_lmdb
from tests.train.small import write_pool
from textsr.config import PAPER
from textsr.errors import InputError
from train import fonts
from train.data import Dataset, DataSpec, JoinedDataset, open_data, part_of, records
from train.lines import line_batches
from train.pool import LinePool, PoolJob, write_shard

needs_fonts = pytest.mark.skipif(
    not any(face.script == "han" for face in fonts.discover(split="train")),
    reason="no Chinese fonts on this machine (Debian fonts-noto-cjk, fonts-wqy-microhei, ...)",
)


def _names(dataset: Dataset) -> list[str]:
    return [dataset.name(i) for i in range(len(dataset))]


@given(st.text())
def test_a_record_is_in_one_part_for_ever(key: str) -> None:
    assert part_of(key) in ("train", "test")
    assert part_of(key) == part_of(key)


def test_the_split_is_80_to_20_and_as_documented() -> None:
    parts = [part_of(f"image-{number:09d}") for number in range(20_000)]
    assert abs(parts.count("train") / 20_000 - 0.8) < 0.012
    # Another hash would move records that somebody has trained on to the test part.
    assert [n for n in range(1, 40) if part_of(f"image-{n:09d}") == "test"] == [
        9,
        12,
        20,
        26,
        30,
        37,
    ]  # as b2sum -l 64 gives


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("nowhere", "is not there; name the kind"),
        ("ctr:nowhere", "no LMDB here"),
        ("pool:nowhere", "train.pool"),
        ("render:everything", "split of train, val, test"),
        ("render:train?lines=0", "at least one line"),
        ("render:train?scale=2", "unknown option 'scale'"),
        ("{ctr}?split=validation", "one of train, test, all"),
        ("{ctr}?limit=0", "whole number from 1"),
        ("{ctr}?limit=-3", "whole number from 1"),
        ("{ctr}?aspect=wide", "is a number"),
        ("{ctr}?filters=mine", "one of paper, none"),
        ("{ctr}?pixels=65", "4 left out: picture is too small"),
        ("{folder}", "is no data set that is known"),
    ],
)
def test_wrong_specs_say_what_is_right(tmp_path: Path, spec: str, what: str) -> None:
    ctr = write_ctr(tmp_path / "ctr", 4)
    with pytest.raises(InputError, match=what):
        open_data(spec.format(ctr=ctr, folder=tmp_path))


def test_no_spec_is_an_error() -> None:
    with pytest.raises(InputError, match="at least one"):
        open_data([])


@given(st.text(st.characters(exclude_characters="?", codec="utf-8"), min_size=1), st.integers(1, 10**6))
def test_specs_are_parsed(path: str, limit: int) -> None:
    spec = DataSpec.parse(f"ctr:{path}?limit={limit}&split=test")
    assert (spec.kind, spec.path) == ("ctr", path)
    selection = spec.selection("train")
    assert (selection.limit, selection.part, selection.full_scan, selection.index) == (limit, "test", False, None)


def test_a_limit_stops_the_scan_and_counts_of_the_split(tmp_path: Path) -> None:
    folder = write_ctr(tmp_path / "ctr", 40)
    whole = _names(open_data(str(folder), split="test"))
    few = open_data(f"{folder}?limit=3", split="test")
    assert _names(few) == whole[:3]
    assert few.report.found == int(whole[2].rpartition("-")[2])
    assert few.report.found == few.report.kept + few.report.elsewhere


def test_a_kept_scan_is_used_until_the_files_change(tmp_path: Path) -> None:
    values = ctr_values([(encoded(np.full((64, 200, 3), n, np.uint8)), b"x" if n % 5 else b"") for n in range(30)])
    folder, index = write_lmdb(tmp_path / "ctr", values), tmp_path / "kept.json"
    first = open_data(f"{folder}?index={index}", split="train")
    kept = json.loads(index.read_text(encoding="utf-8"))
    kept["kept"] = kept["kept"][:-4]  # so that it shows whether it is used
    index.write_text(json.dumps(kept), encoding="utf-8")
    again, test = (open_data(f"{folder}?index={index}", split=part) for part in ("train", "test"))
    assert len(again) + len(test) == 20
    assert _names(again) == _names(first)[: len(again)]
    assert again.report.drops == first.report.drops
    limited = open_data(f"{folder}?index={index}&limit=2")
    assert (len(limited), limited.report.beyond, limited.report.found) == (2, 18, 26)
    assert len(open_data(f"{folder}?index={index}&filters=none")) == 24  # other filters: scanned again
    index.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="no index of a data set"):
        open_data(f"{folder}?index={index}")


def test_several_sources_are_one_behind_the_other(tmp_path: Path) -> None:
    specs = [
        str(write_ctr(tmp_path / "a", 3)),
        str(write_pool(tmp_path / "pool", 2)),
        str(write_ctr(tmp_path / "b", 2)),
    ]
    dataset = open_data(specs)
    assert isinstance(dataset, JoinedDataset)
    assert [line.source for line in records(dataset)] == ["ctr:a"] * 3 + ["pool:pool"] * 2 + ["ctr:b"] * 2
    assert dataset.name(3) == "pool:pool: line-000000"
    assert (dataset.report.found, dataset.report.kept) == (7, 7)
    assert dataset.source == "ctr:a + pool:pool + ctr:b"
    for outside in (-1, 7):
        with pytest.raises(IndexError):
            dataset[outside]


def test_a_pool_comes_out_as_it_is(tmp_path: Path) -> None:
    pool, dataset = LinePool(write_pool(tmp_path / "pool", 5)), open_data(str(tmp_path / "pool"))
    assert len(dataset) == 5
    for index in range(5):
        line, there = dataset[index], pool[index]
        np.testing.assert_array_equal(line.image, there.image)
        np.testing.assert_array_equal(line.centres, there.centres)
        assert (line.text, line.width, line.font, line.placed) == (there.text, there.width, "bars", True)
    again = pickle.dumps(dataset)
    assert len(again) < 5000
    np.testing.assert_array_equal(pickle.loads(again)[2].image, pool[2].image)
    # 240, 300 and 420 pixels wide of 128
    assert [line.text for line in records(open_data(f"{tmp_path / 'pool'}?aspect=2.5"))] == ["沪A·12345"]


def test_a_pools_lines_are_stretched_with_their_places(tmp_path: Path) -> None:
    line = open_data(str(write_pool(tmp_path / "pool", 2)), preset=PAPER)[1]
    padded = LinePool(tmp_path / "pool")[1]
    assert (line.width, padded.width) == (512, 240)
    np.testing.assert_allclose(line.centres, padded.centres * 512 / 240, rtol=1e-5)
    ink = np.abs(line.image[64].astype(int) - line.image[64, 0]).sum(1) > 100
    assert ink[round(float(line.centres[2]) * 512) - 40]  # the third bar is there


def test_training_batches_are_made_of_any_source(tmp_path: Path) -> None:
    from textsr.alphabet import Alphabet
    from train.readings import NoiseModel

    dataset = open_data([str(write_ctr(tmp_path / "ctr", 3)), str(write_pool(tmp_path / "pool", 3))])
    batches = line_batches(dataset, NoiseModel.load(), Alphabet.load(), 6, np.random.default_rng(0))  # type: ignore[arg-type]
    batch = next(batches)
    assert batch.images.shape == (6, 128, 512, 3)
    assert sorted(batch.texts) == sorted(line.text for line in records(dataset))


@pytest.mark.slow  # the fonts' tables are read first
@needs_fonts
def test_rendered_lines_are_those_of_a_pool(tmp_path: Path) -> None:
    dataset = open_data("render:val?lines=2&seed=3")
    tmp_path.joinpath("pool").mkdir()
    write_shard(PoolJob(out=str(tmp_path / "pool"), lines=2, seed=3, split="val"), 0)
    pool = open_data(str(tmp_path / "pool"))
    for index in range(2):
        here, there = dataset[index], pool[index]
        np.testing.assert_array_equal(here.image, there.image)
        np.testing.assert_allclose(here.centres, there.centres, atol=1e-5)
        assert (here.text, here.width, here.kind, here.placed) == (there.text, there.width, there.kind, True)
    assert pickle.loads(pickle.dumps(dataset))[1].text == dataset[1].text
