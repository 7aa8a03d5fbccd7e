"""The command from end to end, with a product and a judge that need no weights; and once with the real ones."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.train.evaluation.helpers import Restoration, brighter
from tests.train.small import write_pool
from textsr.config import COMPACT
from train import evaluate
from train.evaluation import judge, session

NASTY = '<script src="x">&"'


class Product:
    """Stands for `runtime.Restorer`; brightens. Keeps what it was called with."""

    preset = COMPACT
    bundle = SimpleNamespace(preset=COMPACT, files={"weights.safetensors": "ab" * 32})
    executor = SimpleNamespace(name="stub")

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, images: Sequence[NDArray[np.uint8]], **options: Any) -> list[Restoration]:
        self.calls.append(options)
        return brighter(images, options["scale"])


class Page(HTMLParser):
    """Pictures, and everything that names another file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.outside: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action"):
                (self.pictures if (value or "").startswith("data:image/png") else self.outside).append(value or "")


@pytest.fixture
def product(monkeypatch: pytest.MonkeyPatch) -> Product:
    made = Product()

    class Judge:
        name = "a judge"

        def __init__(self, threads: int) -> None:
            assert threads == 1

        def __call__(self, image: NDArray[np.uint8]) -> str:
            return NASTY

    monkeypatch.setattr(session, "Restorer", SimpleNamespace(open=lambda *given, **options: made))
    monkeypatch.setattr(judge, "Judge", Judge)
    return made


def _run(tmp_path: Path, *options: str) -> tuple[str, dict[str, Any]]:
    pool = write_pool(tmp_path / "pool", 5)
    out = tmp_path / "out"
    given = ["--bundle", "some/bundle", "--data", f"pool:{pool}", "--out", str(out), "--threads", "1", *options]
    assert evaluate.main(given) == 0
    found = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    return (out / "report.html").read_text(encoding="utf-8"), found


def test_report_and_data(tmp_path: Path, product: Product, capsys: pytest.CaptureFixture[str]) -> None:
    text, data = _run(
        tmp_path, "--metrics", "psnr,acc,ned", "--lines", "3", "--sweep-lines", "1", "--factors", "2,16", "--steps", "3"
    )
    page = Page(text)
    assert page.outside == []
    assert "script" not in page.tags
    assert "&lt;script" in text
    assert 'name="viewport"' in text
    # Three panels for best, median and worst of both scales, then HR and two factors of two panels for one line.
    assert len(page.pictures) == 2 * 3 * 3 + 5
    with Image.open(io.BytesIO(base64.b64decode(page.pictures[0].partition(",")[2]))) as picture:
        assert picture.height == 128
    assert set(data["summary"]) == {"x4", "x2", "down-up 2", "down-up 16"}
    assert data["summary"]["x4"]["all"]["restored"]["lines"] == 3
    assert data["summary"]["down-up 2"]["all"]["restored"]["lines"] == 1
    assert data["summary"]["x4"]["all"]["HR"]["psnr"]["mean"] is None
    assert len(data["lines"]) == (2 * 3 + 2 * 1) * 3
    assert {call["scale"] for call in product.calls} == {4, 2, 1}
    assert all(call["steps"] == 3 and call["seed"] == 0 for call in product.calls)
    printed = capsys.readouterr().out
    for told in ("a judge", "full width -> half width", "3 steps", "weights SHA-256 abab"):
        assert told in printed
        assert any(told in note for note in data["notes"])
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")] == []


def test_same_seed_same_report(tmp_path: Path, product: Product) -> None:
    options = ("--metrics", "psnr", "--scales", "4", "--factors", "none", "--lines", "2")
    first = _run(tmp_path, *options)
    assert _run(tmp_path, *options) == first
    assert _run(tmp_path, *options, "--seed", "1") != first
    assert "ACC and NED were not asked for" in first[1]["notes"]


def test_real_pairs_of_one_scale(tmp_path: Path, product: Product) -> None:
    folder, rng = tmp_path / "pairs", np.random.default_rng(0)
    for name, size in (("hr", (64, 200)), ("lr", (16, 50))):
        (folder / name).mkdir(parents=True)
        for index in range(2):
            image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
            image.save(folder / name / f"{index}.png")
    rows = [f"hr/{index}.png\tlr/{index}.png\tword {index}" for index in range(2)]
    (folder / "hr" / "2.png").write_bytes(b"no picture")
    rows.append("hr/2.png\tlr/1.png\tbroken")
    (folder / "lines.tsv").write_text("\n".join(["hr\tlr\ttext", *rows]) + "\n", encoding="utf-8")
    out = tmp_path / "out"
    given = ["--data", f"pairs:{folder}/lines.tsv", "--metrics", "psnr", "--factors", "none", "--out", str(out)]
    assert evaluate.main([*given, "--threads", "1"]) == 0
    data = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert set(data["summary"]) == {"x4"}
    assert data["summary"]["x4"]["all"]["restored"]["lines"] == 2
    assert any("no line for x2" in note for note in data["notes"])
    assert any("hr/2.png" in note and "1 left out" in note for note in data["notes"])
    assert [drop["name"] for drop in data["left_out"]] == ["hr/2.png"]
    assert evaluate.main([*given, "--threads", "1", "--scales", "2"]) == 1


@pytest.mark.parametrize(
    "options", [["--metrics", "psnr,beauty"], ["--scales", "3"], ["--factors", "0"], ["--factors", "a"]]
)
def test_wrong_options_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(["--data", "x", *options])
    assert options[1].split(",")[-1] in capsys.readouterr().err


def test_missing_data_is_an_error_with_a_message(
    tmp_path: Path, product: Product, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["--data", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert evaluate.main(["--data", "x", "--scales", "none", "--factors", "none"]) == 1
    assert "nothing to evaluate" in capsys.readouterr().err


@pytest.mark.slow
def test_the_shipped_bundle_and_the_judge(tmp_path: Path) -> None:
    for package in ("rapidocr_onnxruntime", "rapidocr", "stlpips_pytorch"):
        pytest.importorskip(package, reason="brings weights")
    text, data = _run(
        tmp_path, "--bundle", "compact", "--metrics", "all", "--lines", "2", "--sweep-lines", "1", "--factors", "4",
        "--scales", "4", "--steps", "1",
    )  # fmt: skip
    restored = data["summary"]["x4"]["all"]["restored"]
    assert set(restored) == {"lines", *evaluate.METRICS}
    assert all(np.isfinite(restored[name]["mean"]) for name in evaluate.METRICS)
    assert "PP-OCRv4" in text
    assert "NOT FID" in text
    assert data["names"]["lpips"] in ("LPIPS", "ST-LPIPS")
