"""Diagnosis on validation lines: texts that lines are restored by, figures of rows, what is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("rapidocr", reason="the recogniser's weights come with it")
pytest.importorskip("stlpips_pytorch", reason="the weights of the perceptual loss come with it")

from tests.train.small import TEXTS as SAID
from tests.train.small import write_pool
from textsr.checkpoint import load_model
from textsr.config import TINY
from textsr.errors import InputError
from textsr.graphs import Model
from textsr.reading import LineReading, is_wide
from train import diagnose
from train.diagnose import Diagnostician
from train.diagnose_report import table
from train.diagnosis import BICUBIC, CEILING, CLEAN
from train.metrics import normalise
from train.pool import LinePool
from train.validation import ModelRestorer, ValidationLine, validation_lines, wrong


class Reader:
    """Says what it was told to, whatever it is shown."""

    name = "told"

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        texts = [self.texts[place % len(self.texts)] for place in range(len(images))]
        return [LineReading(text, (0.5,) * len(text), (0.5,) * len(text)) for text in texts]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[ValidationLine]:
    return validation_lines(LinePool(write_pool(tmp_path_factory.mktemp("pool"), 4)), 3, Reader(*SAID))


@pytest.fixture(scope="module")
def model() -> Model:
    model = load_model(None, TINY)
    assert isinstance(model, Model)
    return model


def test_lines_are_those_of_the_product(lines: list[ValidationLine]) -> None:
    assert [line.text for line in lines] == list(SAID[:3])
    assert [line.severity for line in lines] == ["mild", "medium", "strong"]
    for line in lines:
        assert line.hr.shape == (128, 60 * len(line.text), 3)
        assert line.lr.shape == (32, 15 * len(line.text), 3)
        truth = line.readings["true"]
        assert truth is not None
        assert truth.text == line.text
        assert truth.centres == pytest.approx([(place + 0.5) / len(line.text) for place in range(len(line.text))])
        assert line.readings["none"] is None


def test_lines_depend_on_seed_and_place_alone(tmp_path: Path, lines: list[ValidationLine]) -> None:
    pool = LinePool(write_pool(tmp_path, 4))
    again, other = validation_lines(pool, 2, Reader("")), validation_lines(pool, 2, Reader(""), seed=502)
    for first, second, third in zip(lines, again, other, strict=False):
        np.testing.assert_array_equal(first.lr, second.lr)
        assert not np.array_equal(first.lr, third.lr)
    with pytest.raises(InputError, match="no validation line"):
        validation_lines(pool, 0, Reader(""))


@given(st.text(alphabet="中文A1 元", min_size=1, max_size=12), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_a_wrong_text_is_wrong_everywhere_and_as_wide(text: str, seed: int) -> None:
    truth = LineReading(text, (1.0,) * len(text), (0.5,) * len(text))
    told = wrong(truth, list("中文字元ABab12"), seed)
    assert len(told.text) == len(text)
    for said, true in zip(told.text, text, strict=True):
        assert is_wide(said) == is_wide(true)
        assert true.isspace() if said == true else normalise(said) != normalise(true)
    assert told == wrong(truth, list("中文字元ABab12"), seed)


def test_a_restoration_does_not_depend_on_the_batch(model: Model, lines: list[ValidationLine]) -> None:
    alone, together = (ModelRestorer(model, torch.device("cpu"), batch_size=size) for size in (1, 3))
    for one, other, line in zip(alone(lines, "true", 2), together(lines, "true", 2), lines, strict=True):
        assert one.shape == line.hr.shape
        assert np.abs(one.astype(int) - other).max() <= 1


def test_the_ceiling_is_the_autoencoders(model: Model, lines: list[ValidationLine]) -> None:
    (found, *_) = ModelRestorer(model, torch.device("cpu")).reconstruct(lines)
    hr = np.pad(lines[0].hr, ((0, 0), (0, 512 - lines[0].hr.shape[1]), (0, 0)), mode="edge")
    clean = torch.from_numpy(hr).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        expected = model.vqgan.decode(model.vqgan.encode(clean)).clamp(-1, 1).add(1).mul(127.5).round()
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0)[:, : found.shape[1]].numpy(), atol=1)


def test_rows_are_judged_and_written(lines: list[ValidationLine], tmp_path: Path) -> None:
    reader = Reader(SAID[0], "other", SAID[2])
    work = Diagnostician(lines, reader, tmp_path, {"preset": "tiny"})
    work.add(CLEAN, [line.hr for line in lines])
    work.add(CEILING, [line.hr for line in lines])
    work.reader = Reader(SAID[0], "other", "other")
    row = work.add("true text, 18 steps", [line.hr // 2 for line in lines], text="true", steps=18)
    assert row.right == row.told == [1.0, 0.0, 0.0]
    assert work.found.row(CLEAN).right == [1.0, 0.0, 1.0]
    assert work.found.ceiling == 1.0
    assert work.found.row(CLEAN).st_lpips == pytest.approx([0, 0, 0], abs=1e-6)
    assert all(distance > 0 for distance in row.st_lpips)
    error = np.mean((lines[0].hr.astype(float) - lines[0].hr // 2) ** 2)
    assert row.psnr[0] == pytest.approx(10 * np.log10(255**2 / error), rel=1e-5)
    work.reader = Reader("other")
    assert work.add(BICUBIC, [line.hr for line in lines]).right == [0.0, 0.0, 0.0]
    told = json.loads((tmp_path / "diagnosis.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in told["rows"]] == [CLEAN, CEILING, "true text, 18 steps", BICUBIC]
    assert told["about"]["read right before restoring"] == 1.0
    assert "| true text, 18 steps | 33.3 [" in table(work.found)
    assert table(work.found) in (tmp_path / "diagnosis.md").read_text(encoding="utf-8")
    with Image.open(tmp_path / "diagnosis.png") as sheet:
        assert sheet.size == (2 * 414, 2 * (4 * 64 + 8))
    with pytest.raises(InputError, match="no row 'nothing'"):
        work.found.row("nothing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "19"], "steps go from 1 to 18"),
        (["--texts", "recogniser,guessed"], "cannot diagnose ['guessed']"),
        (["--pool", "nowhere"], "no shard"),
        (["--checkpoint", "nothing.safetensors"], "cannot be read"),
        (["--steps", "four"], "invalid literal"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    pool = write_pool(tmp_path / "pool", 1)
    save_tiny(tmp_path / "W.safetensors")
    given = ["--preset", "tiny", "--pool", str(pool), "--checkpoint", str(tmp_path / "W.safetensors"), "--lines", "1"]
    assert diagnose.main([*given, "--out", str(tmp_path / "out"), *options]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("train.diagnose: ")
    assert message in error


def save_tiny(path: Path) -> None:
    from textsr.checkpoint import save_model

    save_model(load_model(None, TINY), path)


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = write_pool(tmp_path / "pool", 3)
    save_tiny(tmp_path / "W.safetensors")
    given = ["--preset", "tiny", "--pool", str(pool), "--checkpoint", str(tmp_path / "W.safetensors"), "--lines", "3"]
    assert diagnose.main([*given, "--out", str(tmp_path / "out"), "--steps", "2,1", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert "| wrong text, 2 steps |" in printed
    assert "the fewest steps that hold:" in printed
    told = json.loads((tmp_path / "out" / "diagnosis.json").read_text(encoding="utf-8"))
    assert told["fewest_steps"] in (1, 2)
    assert len(told["rows"]) == 8
