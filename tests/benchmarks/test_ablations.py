"""``python -m benchmarks.ablations``: scores, paired differences, tables, and the README's part."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("stlpips_pytorch", reason="the weights of the metric come with it")

from benchmarks import ablations, blocks
from benchmarks.ablations import BASE, FULL, RESULTS, Line, Score
from benchmarks.testset import Entry, TestLine
from textsr.checkpoint import WITHOUT, save_model
from textsr.config import TINY, ablated
from textsr.errors import InputError
from textsr.fit import fit_line
from textsr.graphs import Model
from textsr.reading import LineReading

HOW = {"preset": "tiny", "lines": 2, "seed": 0, "steps": 2, "device": "cpu", "precision": "fp32"}


def score(index: int, acc: float, psnr: float = 20.0) -> Score:
    return Score(index, "mild", ("camera", "degraded")[index % 2], "", psnr, 0.1, acc, acc)


def found() -> dict[str, Any]:
    rows = {
        FULL: [score(0, 1), score(1, 1), score(2, 0)],
        "text": [score(0, 0), score(1, 1, 19.0), score(2, 0)],
        BASE: [score(0, 1), score(1, 0), score(2, 0)],
    }
    told = {"preset": "tiny", "trained_lines": 5000, "lines": 3, "seed": 0, "steps": None, "precision": "fp32"}
    return {"conditions": {**told, "judge": "a judge"}, "variants": ablations.summary(rows)}


def test_differences_are_paired() -> None:
    variants = found()["variants"]
    assert variants[FULL]["means"]["acc"]["mean"] == pytest.approx(2 / 3)
    assert variants[FULL]["differences"] is None
    assert variants["text"]["differences"]["acc"]["mean"] == pytest.approx(-1 / 3)
    assert variants["text"]["differences"]["psnr"]["mean"] == pytest.approx(-1 / 3)
    assert variants["text"]["differences"]["st_lpips"] == {"mean": 0, "low": 0, "high": 0}
    assert variants["text"]["by_source"]["camera"]["acc"] == 0
    assert variants[FULL]["by_source"]["degraded"]["acc"] == 1


def test_the_tables() -> None:
    data = found()
    text = ablations.table(data)
    assert "trained on the same 5,000 lines" in text
    assert "3 test lines, all steps, fp32, judge a judge" in text
    assert "| full | 20.00 [20.00, 20.00] | 0.100 [0.100, 0.100] | 66.7 [0.0, 100.0] |" in text
    assert "| without text | -0.33 [-1.00, +0.00] | +0.000 [+0.000, +0.000] | -33.3 [-100.0, +0.0] |" in text
    assert text.count("| bicubic |") == 1
    short = ablations.brief(data)
    assert "| full | 66.7 | 20.00 |  |" in short
    assert "| without text | 33.3 | 19.67 | -33.3 [-100.0, +0.0] |" in short
    assert ablations.parts(data) == {blocks.README: short, blocks.RESULTS: text}


def test_the_results_at_hand_say_one_thing() -> None:
    if not (RESULTS / "ablations.json").is_file():
        assert not blocks.stale(ablations.BLOCK, ablations.parts(None)), (
            "README.md and docs/results.md must say that there is no result"
        )
        pytest.skip("no benchmarks/results/ablations.json: nothing measured yet")
    data = json.loads((RESULTS / "ablations.json").read_text(encoding="utf-8"))
    rows = {name: [Score(**row) for row in scores] for name, scores in data["lines"].items()}
    assert data["variants"] == ablations.summary(rows)
    assert (RESULTS / "ablations.md").read_text(encoding="utf-8") == ablations.table(data) + "\n"
    assert not blocks.stale(ablations.BLOCK, ablations.parts(data)), "python -m benchmarks.ablations RUNS --readme"


def make_line(index: int) -> Line:
    rng = np.random.default_rng(index)
    lr, hr = (rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((32, 60), (128, 240)))
    entry = Entry(index, "ab", "mild", "camera", "f", "k", 1, "ab", "")
    return Line(TestLine(entry, hr, lr), fit_line(lr, TINY), LineReading("ab", (0.2, 0.9), (0.3, 0.7)))


def test_a_variant_is_run_as_its_checkpoint_says_and_kept(tmp_path: Path) -> None:
    lines = [make_line(0), make_line(1)]
    for name in (FULL, "confidence"):
        torch.manual_seed(0)
        model = Model(ablated(TINY, () if name == FULL else [name]))
        for block in model.unet.text_blocks.values():
            torch.nn.init.normal_(block.proj_out.weight, std=0.5)  # type: ignore[union-attr, arg-type]
        torch.nn.init.normal_(model.unet.out[2].weight, std=0.5)  # type: ignore[arg-type]
        (tmp_path / name).mkdir()
        save_model(model, tmp_path / name / "model.safetensors", {} if name == FULL else {WITHOUT: name})
    judged: list[NDArray[np.uint8]] = []
    scorer = ablations.Scorer(lambda image: "ab" if not judged.append(image) else "")  # type: ignore[func-returns-value]
    whole = ablations.scores_of(tmp_path, FULL, lines, HOW, scorer)
    assert [row.index for row in whole] == [0, 1]
    assert all(row.acc == row.ned == 1 for row in whole)
    assert [image.shape for image in judged] == [(128, 240, 3)] * 2
    assert ablations.scores_of(tmp_path, FULL, lines, HOW, scorer) == whole
    assert len(judged) == 2  # not again
    sure = [replace(line, reading=replace(line.reading, confidences=(1.0, 1.0))) for line in lines]
    pictures = {}
    for name in (FULL, "confidence"):
        checkpoint = tmp_path / name / "model.safetensors"
        pictures[name] = [list(ablations.restored(checkpoint, "tiny", shown, HOW)) for shown in (lines, sure)]
    same = {name: all(map(np.array_equal, *two)) for name, two in pictures.items()}
    assert same == {FULL: False, "confidence": True}
    with pytest.raises(InputError, match=r"train it with python -m train\.ablations"):
        ablations.scores_of(tmp_path, "text", lines, HOW, scorer)


def test_what_is_missing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablations.main([str(tmp_path)]) == 1
    assert "train the variants with python -m train.ablations" in capsys.readouterr().err
