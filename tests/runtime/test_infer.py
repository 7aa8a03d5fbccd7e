"""The command line, on good and bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime import EngineError, Guard, GuardOptions, infer
from runtime.restorer import Restorer
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_restorer
from tests.textsr.test_images import huge_png
from textsr.images import load_image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two good pictures below ``in``, and a restorer that needs no bundle."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    Image.fromarray(draw_line()).save(tmp_path / "in" / "a.png")
    Image.fromarray(draw_line("Bye", 30, 70)).save(tmp_path / "in" / "sub" / "b.jpg")
    monkeypatch.setattr(Restorer, "open", lambda *given, **options: stub_restorer(KnowingReader()))
    return tmp_path


def run(*arguments: str) -> int:
    return infer.main([*arguments, "--steps", "1"])


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder(folder: Path) -> None:
    before = {path: path.read_bytes() for path in (folder / "in").rglob("*") if path.is_file()}
    assert run("in", "-o", "out", "--compare") == 0
    assert files(folder / "out") == {"a.png", "a.compare.png", "sub/b.png", "sub/b.compare.png"}
    assert load_image(folder / "out" / "a.png").shape == (96, 480, 3)
    assert load_image(folder / "out" / "sub" / "b.compare.png").shape == (240, 280, 3)
    assert {path: path.read_bytes() for path in before} == before


def test_the_report(folder: Path) -> None:
    (folder / "in" / "bad.png").write_bytes(b"no picture")
    assert run("in", "absent", "-o", "out", "--report", "out/r.jsonl", "--seed", "9") == 1
    records = [json.loads(line) for line in (folder / "out" / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["input"] for record in records] == ["absent", "in/a.png", "in/bad.png", "in/sub/b.jpg"]
    good = records[1]
    assert good["output"] == "out/a.png"
    assert (good["text"], good["confidences"], good["applied"], good["reason"]) == ("Hello 42", [0.9] * 8, True, "")
    assert (good["executor"], good["reader"], good["seed"], good["steps"]) == ("stub", "knowing", 9, 1)
    assert set(good["timings"]) == {"read", "restore", "finish"}
    assert (records[2]["applied"], records[2]["output"]) == (False, None)
    assert all(set(record) == set(good) for record in records)
    assert not (folder / "out" / "bad.png").exists()


def test_strength_and_paint_are_passed_on(folder: Path) -> None:
    pictures = {}
    for paint in ("0", "0.5"):
        assert run("in/a.png", "-o", paint, "--strength", "0.6", "--paint", paint, "--report", f"{paint}.jsonl") == 0
        record = json.loads((folder / f"{paint}.jsonl").read_text(encoding="utf-8"))
        assert (record["strength"], record["paint"]) == (0.6, float(paint))
        pictures[paint] = load_image(folder / paint / "a.png")
    assert (pictures["0"] != pictures["0.5"]).any()
    assert run("in/a.png", "-o", "out", "--paint", "3") != 0


@pytest.mark.parametrize("batch", ["1", "2", "8"])
def test_bad_files_are_named_and_the_others_go_on(folder: Path, capsys: pytest.CaptureFixture[str], batch: str) -> None:
    whole = (folder / "in" / "a.png").read_bytes()
    (folder / "in" / "empty.png").touch()
    (folder / "in" / "cut.png").write_bytes(whole[:-100])
    (folder / "in" / "renamed.tiff").write_text("text")
    huge_png(folder / "in" / "huge.png")
    (folder / "in" / "gone.png").symlink_to("nowhere")
    (folder / "in" / "folder.png").mkdir()
    assert run("in", "nothing", "-o", "out", "--batch-size", batch) == 1
    said = capsys.readouterr().err
    for name in ("empty.png", "cut.png", "renamed.tiff", "huge.png", "gone.png", "nothing"):
        assert name in said
    assert "Traceback" not in said
    assert files(folder / "out") == {"a.png", "sub/b.png"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "a.png").chmod(0)
    assert run("in", "-o", "out") == 1
    assert "a.png: cannot be read" in capsys.readouterr().err


def test_nothing_is_overwritten_unasked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("in", "-o", "out") == 0
    (folder / "out" / "a.png").write_bytes(b"mine")
    assert run("in", "-o", "out") == 2
    assert (folder / "out" / "a.png").read_bytes() == b"mine"
    assert "--overwrite" in capsys.readouterr().err
    assert run("in", "-o", "out", "--overwrite") == 0
    assert (folder / "out" / "a.png").read_bytes() != b"mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ("in", "-o", "out", "--steps", "99"),
        ("in", "-o", "out", "--batch-size", "0"),
        ("in", "-o", "out", "--text", "one for two"),
        ("in", "-o", "out", "--text", "absent.tsv"),
        ("in", "-o", "in/a.png"),
        ("in", "in/a.png", "in/sub/../sub/b.jpg", "-o", "in"),
        ("in", "-o", "out", "--report", "in/a.png"),
    ],
)
def test_wrong_usage_does_nothing(folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    before = files(folder)
    assert infer.main(arguments) == 2
    assert files(folder) == before
    assert capsys.readouterr().err.startswith("textsr: ")


@pytest.mark.parametrize("arguments", [(), ("in",), ("in", "-o", "out", "--text-sampler", "magic"), ("--nonsense",)])
def test_usage_errors_of_the_parser(folder: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stopped:
        infer.main(arguments)
    assert stopped.value.code == 2


def test_collisions_are_refused_before_any_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(draw_line()).save(folder / "in" / "a.bmp")
    assert run("in", "-o", "out") == 2
    assert not (folder / "out").exists()
    assert "a.bmp and in/a.png" in capsys.readouterr().err


def test_texts_from_a_sidecar(folder: Path) -> None:
    (folder / "t.tsv").write_text("in/a.png\t好\t0.5\n", encoding="utf-8")
    assert run("in", "-o", "out", "--text", "t.tsv", "--report", "r.jsonl") == 0
    records = [json.loads(line) for line in (folder / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(record["text"], record["reader"]) for record in records] == [("好", "given"), ("Hello 42", "knowing")]
    assert records[0]["confidences"] == [0.5]


def test_a_failing_graph_ends_it_without_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: StubExecutor, **inputs: object) -> dict[str, object]:
        raise EngineError("graph vqgan_decoder failed on stub: out of memory")

    monkeypatch.setattr(StubExecutor, "vqgan_decoder", fail)
    assert run("in", "-o", "out") == 1
    assert "out of memory" in capsys.readouterr().err
    assert not (folder / "out").exists() or not files(folder / "out")


def test_names_that_are_no_unicode(folder: Path) -> None:
    name = os.fsdecode(b"in/\xff\xfe.png")
    Image.fromarray(draw_line()).save(folder / "in" / "z.png")
    (folder / "in" / "z.png").rename(name)
    assert run("in", "-o", "out", "--report", "r.jsonl") == 0
    assert len((folder / "r.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_long_names(folder: Path) -> None:
    Image.fromarray(draw_line()).save(folder / "in" / ("超" * 80 + ".png"))
    assert run("in", "-o", "out") == 0
    assert run("in", "-o", "more", "--compare") in (0, 1)


def test_the_manual(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        infer.main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    for word in ("--compare", "exit status", "EXIF", "sidecar", "examples", "--overwrite"):
        assert word in said


def test_the_whole_path_from_a_shell(tiny_bundle: Path, tmp_path: Path) -> None:
    Image.fromarray(draw_line()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"damaged")
    command = [sys.executable, "-m", "runtime.infer", str(tmp_path), "-o", str(tmp_path / "out"), "--device", "cpu"]
    command += ["--bundle", str(tiny_bundle), "--steps", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "b.png: is no picture" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert load_image(tmp_path / "out" / "a.png").shape == (96, 480, 3)
    assert np.array_equal(load_image(tmp_path / "a.png"), draw_line())
    command[command.index(str(tiny_bundle))] = "absent"
    wrong = subprocess.run([*command, "--overwrite"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "no bundle 'absent'" in wrong.stderr


def test_executor_precision_and_threads_are_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[tuple[str, ...], dict[str, object]]] = []

    def opened(*given: str, guard: object, **options: object) -> Restorer:
        asked.append((given, options))
        return stub_restorer(KnowingReader())

    monkeypatch.setattr(Restorer, "open", opened)
    assert run("in/a.png", "-o", "out") == 0
    given = "--device", "cpu", "--executor", "torch", "--precision", "fp32", "--threads", "2"
    assert run("in/a.png", "-o", "x", *given) == 0
    assert asked == [
        (("compact", "auto"), {"executor": "auto", "precision": "auto", "threads": None}),
        (("compact", "cpu"), {"executor": "torch", "precision": "fp32", "threads": 2}),
    ]


def test_the_guard_is_on_unless_it_is_told_otherwise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guards: list[Guard | None] = []

    def opened(*given: str, guard: Guard | None, **options: str) -> Restorer:
        guards.append(guard)
        return stub_restorer(KnowingReader())

    monkeypatch.setattr(Restorer, "open", opened)
    for place, words in enumerate(([], ["--guard"], ["--never-change-text"], ["--no-guard"])):
        assert run("in/a.png", "-o", f"out{place}", *words) == 0
    assert [guard and guard.options for guard in guards] == [
        GuardOptions(), GuardOptions(), GuardOptions(never_change_text=True), None,
    ]  # fmt: skip
    assert run("in/a.png", "-o", "more", "--no-guard", "--never-change-text") == 2
