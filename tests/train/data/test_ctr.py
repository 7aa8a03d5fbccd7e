"""CTR's LMDB: sound records, broken ones, filters, and other processes."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.train.data.made import bars, ctr_values, encoded, write_ctr, write_lmdb
from textsr.config import COMPACT, PAPER
from textsr.errors import InputError
from train.data import BrokenRecord, Dataset, Reason, open_data, records, sound

GOOD = encoded(bars(64, 200), "JPEG")
CUT = GOOD[: len(GOOD) // 2]


def _drops(dataset: Dataset) -> dict[str, Reason]:
    return {drop.name: drop.reason for drop in dataset.report.drops}


def test_lines_are_fitted_with_text_and_places(tmp_path: Path) -> None:
    folder = write_ctr(tmp_path / "scene", 3)
    line = open_data(f"ctr:{folder}", preset=COMPACT)[1]
    assert (line.image.shape, str(line.image.dtype), line.width) == ((128, 512, 3), "uint8", 400)
    assert (line.image[:, 400:] == line.image[:, 399:400]).all()
    assert (line.text, line.name, line.source, line.kind) == ("文字1", "image-000000002", "ctr:scene", "ctr")
    assert (line.lr, line.scale, line.placed) == (None, None, False)
    assert len(line.centres) == len(line.widths) == 3
    assert (np.diff(line.centres) > 0).all()
    assert line.centres.max() < 400 / 512  # in the part that shows the line
    stretched = open_data(f"ctr:{folder}", preset=PAPER)[1]
    assert stretched.width == 512
    np.testing.assert_allclose(stretched.centres, line.centres * 512 / 400, atol=0.02)


def test_broken_records_are_counted_and_named(tmp_path: Path) -> None:
    values = ctr_values(
        [
            (GOOD, "好的".encode()),
            (b"GIF89a", b"gif"),
            (CUT, b"cut"),
            (None, b"a"),
            (b"", b"b"),
            (GOOD, None),
            (GOOD, b"\xff\xfe\xff"),
            (GOOD, b" \n"),
            (GOOD, "末".encode()),
        ]
    )
    dataset = open_data(str(write_lmdb(tmp_path / "ctr", values)))
    assert [dataset.name(i) for i in range(len(dataset))] == ["image-000000001", "image-000000003", "image-000000009"]
    at_once = {
        "image-000000002": Reason.BAD_PICTURE,
        "image-000000004": Reason.NO_PICTURE,
        "image-000000005": Reason.NO_PICTURE,
        "image-000000006": Reason.NO_TEXT,
        "image-000000007": Reason.BAD_TEXT,
        "image-000000008": Reason.EMPTY_TEXT,
    }
    assert _drops(dataset) == at_once
    with pytest.raises(BrokenRecord, match="image-000000003: picture cannot be read: is damaged or cut short"):
        dataset[1]
    for _ in range(2):
        assert [line.text for line in records(dataset)] == ["好的", "末"]
    assert _drops(dataset) == {**at_once, "image-000000003": Reason.BAD_PICTURE}
    assert (dataset.report.found, dataset.report.kept) == (9, 2)
    assert sound(dataset, 1).text == "末"
    full = open_data(f"ctr:{tmp_path / 'ctr'}?scan=full")
    assert (len(full), _drops(full)) == (2, _drops(dataset))


def test_no_sound_record_is_an_error_that_says_so(tmp_path: Path) -> None:
    folder = write_lmdb(tmp_path / "ctr", ctr_values([(CUT, b"cut"), (CUT[:-50], b"cut")]))
    dataset = open_data(str(folder))
    with pytest.raises(InputError, match="none of its 2 records can be read"):
        sound(dataset, 1)
    with pytest.raises(InputError, match=r"2 records, 0 kept\n  2 left out: picture cannot be read"):
        open_data(f"{folder}?scan=full")


@pytest.mark.parametrize(
    ("height", "width", "text", "reason"),
    [
        (64, 129, "a" * 24, None),
        (63, 400, "a", Reason.SMALL),
        (64, 400, "a" * 25, Reason.LONG),
        (64, 128, "a", Reason.NARROW),
        (300, 64, "a", Reason.NARROW),
    ],
)
def test_the_papers_filters(tmp_path: Path, height: int, width: int, text: str, reason: Reason | None) -> None:
    picture = encoded(bars(height, width))
    folder = write_lmdb(tmp_path / "ctr", ctr_values([(GOOD, b"kept"), (picture, text.encode())]))
    dataset = open_data(str(folder))
    assert _drops(dataset) == ({} if reason is None else {"image-000000002": reason})
    assert len(open_data(f"{folder}?filters=none")) == 2
    assert len(open_data(f"{folder}?pixels=10&characters=99&aspect=0")) == 2


def test_a_folder_that_is_no_such_lmdb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no LMDB here"):
        open_data(f"ctr:{tmp_path}")
    with pytest.raises(InputError, match="no number under num-samples"):
        open_data(str(write_lmdb(tmp_path / "other", {"image-000000001": GOOD})))
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="cannot be read"):
        open_data(str(tmp_path / "junk"))


def test_a_file_that_is_cut_short_is_refused_before_it_ends_the_process(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 200, 3)).astype(np.uint8)
    folder = write_lmdb(tmp_path / "ctr", ctr_values([(encoded(noise), b"text") for _ in range(20)]))
    file = folder / "data.mdb"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=r"data\.mdb is cut short: \d+ of \d+ bytes"):
        open_data(str(folder))


def test_forks_while_a_thread_reads(tmp_path: Path) -> None:
    dataset = open_data(str(write_ctr(tmp_path / "ctr", 6)))
    read, stop = [0], threading.Event()

    def keep_reading() -> None:
        while not stop.is_set():
            dataset[read[0] % 6]
            read[0] += 1

    thread = threading.Thread(target=keep_reading)
    thread.start()
    try:
        for _ in range(3):
            with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
                assert [line.text for line in pool.map(sound, [dataset] * 2, (1, 2))] == ["文字1", "文字2"]
    finally:
        stop.set()
        thread.join()
    assert read[0] > 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_read_the_same(tmp_path: Path, method: str) -> None:
    dataset = open_data(str(write_ctr(tmp_path / "ctr", 6)))
    here = [sound(dataset, i) for i in range(6)]  # the LMDB is open before the fork
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        there = list(pool.map(sound, [dataset] * 6, range(6)))
    assert [line.text for line in there] == [line.text for line in here]
    np.testing.assert_array_equal([line.image for line in there], [line.image for line in here])
    assert dataset[5].text == here[5].text


def test_two_data_sets_share_a_file_and_pickles_carry_no_open_one(tmp_path: Path) -> None:
    folder = write_ctr(tmp_path / "ctr", 30)
    train, test = (open_data(str(folder), split=part) for part in ("train", "test"))
    again = pickle.loads(pickle.dumps(train))
    assert len(pickle.dumps(train)) < 5000
    assert again[0].text == train[0].text
    assert {train.name(i) for i in range(len(train))}.isdisjoint(test.name(i) for i in range(len(test)))
    assert len(train) + len(test) == 30
    assert (train.report.elsewhere, test.report.elsewhere) == (len(test), len(train))
