"""The command line on hostile names, places and moments: it ends, says what was wrong, and the others are done."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime import infer
from runtime.restorer import Restorer
from tests import odd_pictures
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_restorer
from textsr import files
from textsr.images import load_image


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with three good pictures in ``in``, and a restorer that needs no bundle."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in "abc":
        Image.fromarray(draw_line(name)).save(tmp_path / "in" / f"{name}.png")
    monkeypatch.setattr(Restorer, "open", lambda *given, **options: stub_restorer(KnowingReader()))
    return tmp_path


def run(*arguments: str) -> int:
    return infer.main([*arguments, "-o", "out", "--steps", "1"])


def records(path: str = "r.jsonl") -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_every_odd_picture_in_one_run(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    refused, read = odd_pictures.refused(), odd_pictures.read()
    for name, data in odd_pictures.every().items():
        (folder / "in" / f"{name}.png").write_bytes(data)
    assert run("in", "--report", "r.jsonl") == 1
    found = {Path(str(record["input"])).stem: record for record in records()}
    assert {name for name, record in found.items() if record["cause"] == "input"} == set(refused)
    assert {path.stem for path in Path("out").iterdir()} == {"a", "b", "c", *read}
    assert "Traceback" not in capsys.readouterr().err
    assert "pages.png: has several pictures or pages, the first is taken" in caplog.text


def test_what_is_no_file_is_named_and_not_waited_for(folder: Path) -> None:
    """In a process of its own, so that waiting would fail the test and not hang it."""
    os.mkfifo("in/pipe.png")
    Path("in/loop.png").symlink_to("loop.png")
    Path("in/round").symlink_to(".")
    Path("in/d\x1b[2J.png").write_bytes(odd_pictures.read()["pages"][0])
    names = ["in", "in/pipe.png", "/dev/zero", "/dev/full", "x" * 300, "", "in/a.png/b.png", "in/nothing.png"]
    code = (
        "from tests.runtime.test_bad_command import *; import sys\n"
        "Restorer.open = lambda *given, **options: stub_restorer(KnowingReader())\n"
        "sys.exit(infer.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *names, "-o", "out", "--steps", "1", "--report", "r.jsonl"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in Path("out").iterdir()} == {"a.png", "b.png", "c.png", "d\x1b[2J.png"}
    for message in (
        "in/pipe.png: cannot be read: this is no file",
        "/dev/zero: cannot be read",
        "/dev/full: cannot be read",
        "in/loop.png: cannot be read",
        "x: cannot be looked up: File name too long",
        "is no name",
        "in/nothing.png: is not there",
        r"in/d\x1b[2J.png: has several pictures",
    ):
        assert message in done.stderr


def test_a_glob_goes_through_links_to_folders_once(folder: Path) -> None:
    for name in ("round", "about"):  # by glob.glob 2 to the 40th paths
        Path("in", name).symlink_to(".")
    assert run("in/**/*.png") == 0
    assert {path.relative_to("out").as_posix() for path in Path("out").rglob("*.png")} == {"a.png", "b.png", "c.png"}


def test_names_do_not_reach_the_terminal_raw(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "in/a\nok: done\x1b[2J\u202egnp.png"
    Path(name).write_bytes(b"no picture")
    assert run("in", "--report", "r.jsonl") == 1
    said = capsys.readouterr().err
    assert r"a\nok: done\x1b[2J\u202egnp.png: is no picture" in said
    assert not set(said) & {"\x1b", "\u202e"}
    assert name in {record["input"] for record in records()}


def test_a_name_too_long_for_its_result_is_that_pictures_problem(folder: Path) -> None:
    Path("in/a.png").rename("in/" + "x" * 253)  # with .png it has 257 bytes
    assert run("in/" + "x" * 253, "in/b.png", "--report", "r.jsonl") == 1
    assert [record["output"] for record in records()] == [None, "out/b.png"]


def test_inputs_reached_another_way_are_never_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("link").symlink_to("in")
    before = Path("in/a.png").read_bytes()
    assert infer.main(["in", "-o", "link", "--overwrite", "--steps", "1"]) == 2
    assert infer.main(["link", "-o", "in", "--overwrite", "--steps", "1"]) == 2
    Path("t.tsv").write_text("a.png\tHi\n")
    for report in ("in/a.png", "link/b.png", "t.tsv", "out/a.png", "in"):
        assert run("in", "--text", "t.tsv", "--overwrite", "--report", report) == 2, report
    assert Path("in/a.png").read_bytes() == before
    assert Path("t.tsv").read_text() == "a.png\tHi\n"
    assert not Path("out").exists()


def test_a_result_that_is_a_dangling_link_is_not_overwritten_unasked(folder: Path) -> None:
    Path("out").mkdir()
    Path("out/a.png").symlink_to("elsewhere")
    assert run("in") == 2
    assert run("in", "--overwrite") == 0
    assert load_image(Path("out/a.png")).shape == (96, 480, 3)
    assert not Path("out/elsewhere").exists()


def test_a_full_disk_fails_that_picture_and_leaves_nothing_half_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []

    def full(number: int) -> None:
        written.append(number)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    assert run("in", "--report", "r.jsonl") == 1
    assert "out/b.png: cannot be written: No space left on device" in capsys.readouterr().err
    assert [record["output"] for record in records()] == ["out/a.png", None, "out/c.png"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "c.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(folder: Path) -> None:
    Path("out").mkdir(mode=0o500)
    assert run("in", "--report", "r.jsonl") == 1
    assert [record["cause"] for record in records()] == ["input"] * 3


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError])
def test_what_was_done_before_an_interruption_is_kept_and_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    before = StubExecutor.vqgan_decoder
    calls = []

    def stopped(self: StubExecutor, **inputs: np.ndarray) -> object:
        calls.append(1)
        if len(calls) == 3:  # the second line's first piece of two
            raise kind
        return before(self, **inputs)

    monkeypatch.setattr(StubExecutor, "vqgan_decoder", stopped)
    arguments = ["in", "--batch-size", "1", "--report", "r.jsonl"]
    if kind is KeyboardInterrupt:
        assert run(*arguments) == 130
    else:
        assert run(*arguments) == 1
    assert [record["output"] for record in records()] == ["out/a.png"]
    assert [path.name for path in Path("out").iterdir()] == ["a.png"]


def test_large_pictures_are_restored_one_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    before = Restorer.__call__

    def counted(self: Restorer, images: list[np.ndarray], *given: object, **options: object) -> object:
        counts.append(len(images))
        return before(self, images, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Restorer, "__call__", counted)
    monkeypatch.setattr(infer, "BATCH_PIXELS", 2 * 24 * 120)
    assert run("in") == 0
    assert counts == [2, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfei\0n\0", "UTF-8"), (b"in/a.png\t\xff\n", "UTF-8"), (b"in/a.png\tHi\0\n", "line 1: holds a NUL"),
        (b"in/a.png\tHi\rin/b.png\tHo\t1\n", "line 1: needs"), (b"in/a.png\tHi\tnan\n", "line 1: needs 2 confidences"),
        (b"in/a.png\tHi\nin/../in/a.png\tHo\n", "line 2: a second text"), (b"\ta\n\tb\tc\td\n", "line 2: needs"),
    ],
)  # fmt: skip
def test_sidecars_that_are_damaged(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    Path("t.tsv").write_bytes(content)
    assert run("in", "--text", "t.tsv") == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_sidecars_that_are_no_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe.tsv")
    Path("zero.tsv").symlink_to("/dev/zero")
    Path("folder.tsv").mkdir()
    for name in ("pipe.tsv", "zero.tsv", "folder.tsv"):
        assert run("in", "--text", name) == 2
        assert f"{name}: cannot be read: this is no file" in capsys.readouterr().err
    assert run("in/a.png", "--text", os.fsdecode(b"\xff")) == 2
    assert "surrogate" in capsys.readouterr().err


def test_a_sidecar_with_a_byte_order_mark_and_carriage_returns(folder: Path) -> None:
    Path("t.tsv").write_bytes("\ufeffin/a.png\te\u0301👩‍👧\r\n\r\nin/b.png\t\r\n".encode())
    assert run("in", "--text", "t.tsv", "--report", "r.jsonl") == 0
    assert [record["text"] for record in records()] == ["e\u0301👩‍👧", "", "Hello 42"]
