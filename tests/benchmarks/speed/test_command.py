"""``python -m benchmarks.latency``, with DiffTSR in miniature."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import blocks, latency, testset
from benchmarks.speed import apart, machine, show
from benchmarks.speed.lines import SHAPE, sample_lines
from benchmarks.speed.plan import DIFFTSR, EAGER, Choices, plan
from benchmarks.speed.record import read

QUICK = ["--device", "cpu", "--rounds", "1", "--lines", "1", "--size", "small", "--no-memory"]


def test_the_plan_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert latency.main(["--plan", "--device", "cpu", "--only", "tensorrt"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert all(line.endswith("[needs a CUDA device]") for line in said)


def test_the_rows_asked_for_come_in_that_order(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["paper, torch eager, fp32, batch 1, 4", "DiffTSR, torch eager", "batch 1, 4 steps"]
    assert latency.main(["--plan", "--device", "cpu", "--only", *texts]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("ours, paper, torch eager, fp32, batch 1, 4 steps")
    assert [line[:20] for line in said[1:3]] == ["DiffTSR, torch eager"] * 2
    assert len(said) == len(set(said)) > 4
    assert all("batch 1, 4 steps" in line for line in said[3:])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "tpu"], "unknown device"),
        (["--device", "cuda:99"], "no such CUDA device"),
        (["--rounds", "0"], "--rounds 0"),
        (["--lines", "0"], "--lines 0"),
        (["--threads", "-1"], "--threads -1"),
        (["--difftsr-steps", "0"], "--difftsr-steps 0"),
        (["--check", "--out", "none.json"], "cannot be read"),
        (["--resume", "--out", "none.json"], "cannot be read"),
    ],
)
def test_misuse(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert latency.main([*words, *([] if "--device" in words else ["--device", "cpu"])]) == 1
    assert message in capsys.readouterr().err


def test_difftsr_is_timed_and_the_run_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "latency-x.json"
    words = [*QUICK, "--only", "DiffTSR", "--testset", str(tmp_path), "--out", str(target)]
    assert latency.main(words) == 0
    data = read(target)
    assert f"{tmp_path}" not in json.dumps(data)
    assert "DiffTSR (small size: says nothing of DiffTSR), text diffusion | torch eager" in capsys.readouterr().out
    measured = [row for row in data["rows"] if row["seconds_per_line"] is not None]
    assert [row["text_sampler"] for row in measured] == ["fixed", "categorical"]
    for row in measured:
        (turn,) = row["raw"]
        (sample,) = turn
        assert (row["timed_steps"], row["steps"], row["extrapolated"]) == (2, 200, True)
        assert sample["seconds"] == pytest.approx(sum(sample["parts"].values()))
        assert sample["seconds"] > sample["run"]
        assert row["runs_on"] == "torch:cpu"
        assert row["gflop_per_line"] is None
    assert measured[0]["times_difftsr"] == 1
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".png"}
    again = data["rows"]
    assert latency.main([*words, "--resume"]) == 0
    assert read(target)["rows"] == again  # nothing was left to measure
    assert latency.main(["--check", "--out", str(target)]) == 0
    assert "not measured: paper against DiffTSR" in capsys.readouterr().out


def test_a_missed_bar_is_an_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "latency-x.json"
    assert latency.main([*QUICK, "--only", "DiffTSR", "--testset", str(tmp_path), "--out", str(target)]) == 0
    data = read(target)
    data["rows"].append({**data["rows"][0], "preset": "paper", "steps": 18, "times_difftsr": 24.9})
    target.write_text(json.dumps(data), encoding="utf-8")
    assert latency.main(["--check", "--out", str(target)]) == latency.MISSED
    for name in ("README", "RESULTS"):
        page = tmp_path / f"{name}.md"
        page.write_text("x\n<!-- latency --><!-- /latency -->\n", encoding="utf-8")
        monkeypatch.setattr(blocks, name, page)
    assert latency.main(["--readme", "--out", str(target)]) == 0
    for page in (blocks.README, blocks.RESULTS):
        said = page.read_text(encoding="utf-8")
        assert "MISSED: paper against DiffTSR, both torch eager fp32: 24.9 times" in said


def test_start_up_and_memory_in_a_process_of_its_own() -> None:
    case = next(case for case in plan(Choices(size="small")) if case.executor == EAGER)
    sources: dict[str, Any] = {"bundles": {}, "size": "small", "threads": 1}
    found = apart.measure(case, sources)
    assert found["first_batch_seconds"] > found["open_seconds"] > 0
    assert found["peak_bytes"] > 50e6  # torch alone takes more
    assert found["peak_is"] == apart.RESIDENT
    assert found["build_seconds"] is None
    failed = apart.measure(
        next(case for case in plan(Choices(paper_bundle=True)) if case.executor == "onnxruntime"), sources
    )
    assert failed == {"reason": "no bundle of preset paper"}


def test_building_is_what_the_second_opening_saves() -> None:
    case = plan(Choices("cuda", paper_bundle=True))[-1]
    said: list[dict[str, Any]] = [{"open_seconds": 90.0, "peak_bytes": 5}, {"open_seconds": 2.0, "peak_bytes": 4}]
    found = iter([*said, {"reason": "broken"}])

    def measured(*_: object) -> dict[str, Any]:
        return next(found)

    assert apart.with_build(case, {}, measured) == {"open_seconds": 2.0, "peak_bytes": 4, "build_seconds": 88.0}
    assert apart.with_build(case, {}, measured) == {"reason": "broken"}


@pytest.mark.slow
def test_ours_is_timed(tmp_path: Path) -> None:
    target = tmp_path / "latency-x.json"
    words = [*QUICK, "--threads", "1", "--only", "compact, onnxruntime, fp32, batch 1, 4 steps"]
    assert latency.main([*words, "--testset", str(tmp_path), "--out", str(target)]) == 0
    (row,) = read(target)["rows"]
    assert row["runs_on"] == "onnxruntime:cpu"
    assert {"vqgan_encoder", "unet_step", "vqgan_decoder"} < row["parts"].keys()
    assert sum(row["parts"].values()) == pytest.approx(row["seconds_per_line"])


def test_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line.shape for line in sample_lines(tmp_path / "none", 3)] == [SHAPE] * 3
    (tmp_path / "lines.tsv").touch()

    class Line:
        def __init__(self, value: int) -> None:
            self.lr = np.full((2, 2, 3), value, np.uint8)

    monkeypatch.setattr(testset, "read", lambda folder, count: [Line(1), Line(2)])
    assert [line[0, 0, 0] for line in sample_lines(tmp_path, 3)] == [1, 2, 1]


def test_what_a_run_was_made_with(tmp_path: Path) -> None:
    outside = str(tmp_path / "bundle")
    assert machine.command(["--paper-bundle", outside, f"--testset={outside}", "--out", "a/b.json"]) == (
        "python -m benchmarks.latency --paper-bundle bundle --testset=bundle --out a/b.json"
    )
    assert {"python", "numpy", "torch"} <= machine.versions().keys()
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: A(R) Chip(TM) 7\nmodel name\t: B\n", encoding="utf-8")
    assert machine.cpu_name(info) == "A Chip 7"
    assert machine.cpu_name(tmp_path / "none")
    assert show.stem("NVIDIA H100 80GB, HBM3") == "latency-nvidia-h100-80gb-hbm3"
    assert machine.device("cpu")["kind"] == "cpu"
    assert DIFFTSR in plan(Choices())[0].label


def test_it_runs_as_a_file(tmp_path: Path) -> None:
    command = [sys.executable, str(blocks.ROOT / "benchmarks" / "latency.py"), "--plan"]
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "DiffTSR" in done.stdout
