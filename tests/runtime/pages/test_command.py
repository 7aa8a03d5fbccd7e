"""``--page`` on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime import infer
from runtime.pages import command
from runtime.restorer import Restorer
from runtime.result import enlarged
from tests.runtime.helpers import KnowingReader, stub_restorer
from tests.runtime.pages.stand_ins import KnownBoxes, draw_page, upright
from textsr.errors import EngineError
from textsr.images import load_image

PAGE = draw_page()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two pages and what is none below ``in``; lines are known, networks are stubs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    Image.fromarray(PAGE).save(tmp_path / "in" / "a.png")
    Image.fromarray(PAGE).convert("L").resize((120, 240)).convert("LA").save(tmp_path / "in" / "b.png")
    monkeypatch.setattr(Restorer, "open", lambda *given, **options: stub_restorer(KnowingReader()))
    boxes = KnownBoxes(upright(16, 18, 100, 26), upright(16, 63, 90, 8))
    monkeypatch.setattr(command, "RapidOCRDetector", lambda **how: boxes)
    return tmp_path


def run(*arguments: str) -> int:
    return infer.main(["--page", *arguments, "--steps", "1"])


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def report(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_pages_and_their_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("in", "-o", "out", "--compare", "--alto", "--hocr") == 0
    suffixes = ("png", "compare.png", "alto.xml", "hocr")
    assert files(folder / "out") == {f"{name}.{suffix}" for name in "ab" for suffix in suffixes}
    assert load_image(folder / "out" / "a.png").shape == (640, 960, 3)
    both = load_image(folder / "out" / "a.compare.png")
    assert np.array_equal(both[:640], enlarged(PAGE, 4))
    assert np.array_equal(both[640:], load_image(folder / "out" / "a.png"))
    assert load_image(folder / "out" / "b.compare.png").shape == (960, 960, 3)  # a high page: side by side
    said = capsys.readouterr().err
    assert "in/a.png: 1 of 2 lines are only enlarged: too_low 1" in said
    assert "2 of 2 restored" in said


def test_the_report(folder: Path) -> None:
    (folder / "in" / "c.jpg").write_bytes(b"no picture")
    assert run("in", "absent", "-o", "out", "--report", "r.jsonl", "--scale", "2") == 1
    absent, first, _, broken = report(folder / "r.jsonl")
    assert set(absent) == set(first) == set(broken)
    assert (broken["cause"], broken["output"], broken["lines"]) == ("input", None, [])
    assert (first["scale"], first["applied"], first["output"]) == (2.0, True, "out/a.png")
    line, low = first["lines"]
    assert line["box"] == upright(16, 18, 100, 26).tolist()
    assert (line["before"], line["after"], line["text"], line["applied"]) == (*["Hello 42"] * 3, True)
    assert (low["applied"], low["cause"], low["after"]) == (False, "too_low", None)
    assert load_image(folder / "out" / "a.png").shape == (320, 480, 3)


def test_a_pdf(folder: Path) -> None:
    pypdf = pytest.importorskip("pypdf", reason="the extra [pdf] is not installed")
    assert run("in/a.png", "-o", "out", "--pdf") == 0
    assert "Hello" in pypdf.PdfReader(folder / "out" / "a.pdf").pages[0].extract_text()


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "b.hocr").write_text("mine")
    assert run("in", "-o", "out", "--hocr") == 2
    assert files(folder / "out") == {"b.hocr"}
    assert run("in", "-o", "out", "--hocr", "--overwrite") == 0
    assert (folder / "out" / "b.hocr").read_text() != "mine"


def test_a_page_that_breaks_the_detector_stops_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaking(KnownBoxes):
        def detect(self, image: np.ndarray) -> list[np.ndarray]:
            if image.shape[1] == 240:
                raise EngineError("the detector failed")
            return self.boxes

    monkeypatch.setattr(command, "RapidOCRDetector", lambda **how: Breaking(upright(16, 18, 100, 26)))
    assert run("in", "-o", "out", "--report", "r.jsonl") == 1
    assert [record["cause"] for record in report(folder / "r.jsonl")] == ["failed", ""]
    assert files(folder / "out") == {"b.png"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--page", "--text", "Hello"), "--page are read"),
        (("--page", "--scale", "0"), "scale must be"),
        (("--pdf",), "--pdf is for pages: add --page"),
        (("--box-threshold", "0.4"), "--box-threshold is for pages"),
        (("--scale", "2"), "--scale is for pages"),
    ],
)
def test_wrong_usage(folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str) -> None:
    before = files(folder)
    assert infer.main(["in", "-o", "out", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert files(folder) == before


def test_the_pdf_package_is_asked_for_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    monkeypatch.setattr("runtime.pages.pdf.find_spec", lambda name: None)
    assert run("in", "-o", "out", "--pdf") == 2
    assert "[pdf]" in capsys.readouterr().err
    assert not (folder / "out").exists()
