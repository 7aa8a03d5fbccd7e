"""The run's bookkeeping, with systems that only count: rows, turns, reasons, resuming, and what the JSON holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.speed import costs, turns
from benchmarks.speed.checks import bars
from benchmarks.speed.clock import Sample
from benchmarks.speed.plan import (
    CAPTURED,
    COMPILED,
    DIFFTSR,
    EAGER,
    NEEDS_CUDA,
    NO_OPENVINO,
    NO_PAPER,
    OURS,
    Case,
    Choices,
    plan,
)
from benchmarks.speed.record import Record, all_results, find, read
from textsr.errors import EngineError, InputError

LINES = [np.full((2, 2, 3), value, np.uint8) for value in range(5)]
FIELDS = (
    "system", "preset", "executor", "precision", "device", "batch", "steps", "text_sampler", "seconds_per_line",
    "extrapolated", "gflop_per_line", "times_difftsr",
)  # fmt: skip
"""Of a row, that others rely on."""


class Counting:
    """A system whose n-th call takes ``seconds`` + n / 1000 a line."""

    name = "counting:cpu"

    def __init__(self, seconds: float, log: list[str]) -> None:
        self.seconds, self.log, self.calls = seconds, log, 0

    def warm(self, case: Case, lines: Sequence[Any]) -> None:
        self.log.append(f"warm {case.label}")

    def __call__(self, case: Case, lines: Sequence[Any]) -> Sample:
        assert len(lines) == case.batch
        self.log.append(case.label)
        self.calls += 1
        value = self.seconds + self.calls / 1000
        return Sample(value, value / 2, {"unet_step": value})


def seconds_of(case: Case) -> float:
    if case.system == DIFFTSR:
        return 900.0 if case.executor == EAGER else 90.0
    return {"paper": 30.0, "compact": 2.0}[case.preset] / (2 if case.executor == "onnxruntime" else 1)


def run(record: Record, log: list[str], rounds: int = 2, lines: int = 6, saved: list[int] | None = None) -> None:
    opened: dict[tuple[str, ...], Counting] = {}

    def open_once(case: Case) -> Counting:
        if case.preset == "paper" and case.executor == "onnxruntime":
            raise EngineError("no engine")
        return opened.setdefault(case.runner, Counting(seconds_of(case), log))

    def save() -> None:
        if saved is not None:
            saved.append(sum(len(found.turns) for found in record.measured.values()))

    peaks = {"fp32": 200.0, "bf16": 400.0}
    turns.run(record, open_once, lambda: dict(peaks), LINES, turns.Amount(rounds, lines), save)


def about() -> dict[str, Any]:
    conditions = {"rounds": 2, "lines": 6, "lines_are": "noise", "threads": 2, "load": [0.1],
                  "tf32": {"matrix products": False, "convolutions": True}}  # fmt: skip
    device = {"kind": "cpu", "name": "A processor, 2 cores", "cores": 2}
    return {"command": "c", "commit": "abc", "versions": {"python": "3"}, "device": device, "conditions": conditions}


def record(device: str = "cpu", paper_bundle: bool = True) -> Record:
    made = Record(about(), plan(Choices(device, paper_bundle)))
    made.about["device"]["kind"] = device
    return made


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_plan_has_every_row_once_and_says_why_some_are_left_out(device: str) -> None:
    cases = plan(Choices(device))
    labels = [case.label for case in cases]
    assert len(set(labels)) == len(labels)
    captured = [case for case in cases if (case.preset, case.executor) == ("paper", "torch")]
    assert all(not case.reason for case in captured)  # needs no bundle
    assert bool(captured) == (device == "cuda")
    assert {case.reason for case in cases if case.preset == "paper" and case.executor == "tensorrt"} == {
        NEEDS_CUDA if device == "cpu" else NO_PAPER
    }
    for preset in ("paper", "compact"):
        eager = [
            case for case in cases if case.preset == preset and case.executor == EAGER and case.precision == "fp32"
        ]
        assert {(case.text_sampler, case.steps) for case in eager} >= {("fixed", 18), ("categorical", 18), ("fixed", 4)}
        assert [case.batch for case in eager][-3:] == [4, 16, 64]
        kinds = {(case.executor, case.precision) for case in cases if case.preset == preset}
        assert kinds >= {(name, kind) for name in ("onnxruntime", "tensorrt") for kind in ("fp32", "fp16")}
    without = [case for case in plan(Choices(device, openvino=())) if case.executor == "openvino"]
    assert {case.reason for case in without} == (set() if device == "cuda" else {NO_OPENVINO})
    theirs = [case for case in cases if case.system == DIFFTSR]
    assert {(case.executor, case.precision, case.text_sampler) for case in theirs} == {
        (name, kind, text) for name, kind in ((EAGER, "fp32"), (CAPTURED, "fp16")) for text in ("fixed", "categorical")
    }
    assert all(case.extrapolated == (device == "cpu") for case in theirs if case.executor == EAGER)
    measured = {case.executor for case in cases if not case.reason}
    on_cuda = {EAGER, CAPTURED, "onnxruntime", "torch", COMPILED, "tensorrt"}
    assert measured == ({EAGER, "onnxruntime", "openvino"} if device == "cpu" else on_cuda)
    assert {case.precision for case in cases if case.executor == COMPILED} <= {"fp16"}


def test_misuse_of_a_plan() -> None:
    with pytest.raises(InputError, match="--difftsr-steps 201"):
        Choices(difftsr_steps=201)
    with pytest.raises(InputError, match="--size huge"):
        Choices(size="huge")
    assert "says nothing" in plan(Choices(size="small"))[0].system


def test_systems_take_turns() -> None:
    made, log, saved = record(), list[str](), list[int]()
    run(made, log, saved=saved)
    cases = [case for case in made.cases if not case.reason]
    compact = [case for case in cases if case.preset == "compact"]
    failing = {case.label for case in cases if case.preset == "paper" and case.executor == "onnxruntime"}
    rounds = [word for word in log if not word.startswith("warm")]
    once = [label for case in cases if case.label not in failing
            for label in [case.label] * (max(1, 6 // (2 * case.batch)) if case in compact else 1)]  # fmt: skip
    assert rounds == once * 2
    assert sorted(word for word in log if word.startswith("warm")) == sorted(f"warm {label}" for label in {*once})
    assert saved == sorted(saved)
    assert len(made.peaks) >= 2 * 4  # between the systems, in each round
    for case in cases:
        assert made.of(case).reason == ("no engine" if case.label in failing else "")


def test_what_the_json_holds(tmp_path: Path) -> None:
    made = record()
    run(made, [])
    target = tmp_path / "deep" / "latency-x.json"
    made.save(target)
    assert [path.name for path in target.parent.iterdir()] == ["latency-x.json"]
    data = read(target)
    assert all_results(target.parent) == [data]
    assert {"command", "commit", "versions", "device", "conditions", "matrix_products", "rows"} < set(data)
    assert data["matrix_products"]["gflops"] == {"fp32": 200.0, "bf16": 400.0}
    assert [row["label"] for row in data["rows"]] == [case.label for case in made.cases]
    for row in data["rows"]:
        assert set(FIELDS) <= set(row)
        raw = [sample["seconds"] for turn in row["raw"] for sample in turn]
        if row["seconds_per_line"] is None:
            assert row["reason"]
            assert not raw
            assert row["times_difftsr"] is row["p50"] is row["share_of_matrix_products"] is None
        else:
            assert not row["reason"]
            assert row["samples"] == len(raw)
            assert row["seconds_per_line"] == row["p50"] == pytest.approx(float(np.median(raw)))
            assert row["lines_per_second"] * row["p50"] == pytest.approx(1)
            peak = data["matrix_products"]["gflops"][row["precision"]]
            assert row["share_of_matrix_products"] == pytest.approx(row["gflop_per_line"] / row["p50"] / peak)
            assert row["parts"].keys() == {"unet_step"}
    released = find(data["rows"], executor=EAGER, preset="difftsr")
    paper = find(data["rows"], executor=EAGER, preset="paper")
    assert released is not None
    assert paper is not None
    assert released["times_difftsr"] == 1
    assert released["extrapolated"]
    assert (released["timed_steps"], released["steps"]) == (2, 200)
    assert paper["times_difftsr"] == pytest.approx(released["p50"] / paper["p50"])
    assert paper["times_difftsr_equal"] is None
    met = {bar.name: bar.met for bar in bars(data)}
    assert list(met.values()) == [True, True, True]


def test_on_a_gpu_model_and_engineering_are_told_apart() -> None:
    made = record("cuda", paper_bundle=False)
    run(made, [])
    data = made.data()
    paper = find(data["rows"], executor=EAGER, preset="paper")
    assert paper is not None
    assert paper["times_difftsr"] == pytest.approx(30, rel=0.01)
    assert paper["times_difftsr_equal"] == pytest.approx(3, rel=0.01)
    made.cases = [case for case in made.cases if case.preset != "paper" or case.precision == "fp32"]
    assert [bar.met for bar in bars(made.data())] == [None, None, None]  # paper in fp16 was not measured


def test_bars_of_a_gpu() -> None:
    made = record("cuda")
    made.cases = [case for case in made.cases if case.executor != "onnxruntime" or case.preset != "paper"]
    run(made, [])
    data = made.data()
    for row in data["rows"]:
        if row["preset"] == "paper" and row["precision"] == "fp16" and row["batch"] in (1, 16):
            row |= {"seconds_per_line": 0.03, "times_difftsr": 150.0}
    assert [(round(bar.found or 0), bar.met) for bar in bars(data)] == [(30, True), (150, True), (30, False)]


def test_a_run_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    whole, target, log = record(), tmp_path / "x.json", list[str]()
    run(whole, [], rounds=2)
    run(first := record(), [], rounds=1, lines=3)
    first.measured[first.cases[0].label].apart = {"peak_bytes": 7}
    first.save(target)
    again = record()
    again.resume(target)
    assert again.data()["rows"][0]["apart"] == {"peak_bytes": 7}
    run(again, log, rounds=2)
    assert [len(again.of(case).turns) for case in again.cases] == [len(whole.of(case).turns) for case in whole.cases]
    measured = [case for case in again.cases if again.of(case).turns]
    assert all(again.of(case).turns[0] == first.of(case).turns[0] for case in measured)
    assert len(log) < 2 * sum(len(again.of(case).samples) for case in measured)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"commit": "other"}, "is of commit"), ({"device": {}}, "is of device"), ({"rows": []}, "has other rows"),
     ({"format": 0}, "no results file")],
)  # fmt: skip
def test_another_run_is_not_taken_up(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_text(json.dumps({**record().data(), **change}), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        record().resume(target)


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "latency-a.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        all_results(tmp_path)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), "out of memory: CUDA out of memory. Tried"),
        (RuntimeError("CUDA error: not permitted\nmore"), "RuntimeError: CUDA error: not permitted"),
    ],
)
def test_what_fails_on_the_device_leaves_the_row_blank_with_the_reason(error: Exception, reason: str) -> None:
    case = next(case for case in plan(Choices()) if case.preset == "compact")
    made = Record(about(), [case])

    class Full(Counting):
        def __call__(self, case: Case, lines: Sequence[Any]) -> Sample:
            raise error

    turns.run(made, lambda _: Full(1.0, []), lambda: {"fp32": 1.0}, LINES, turns.Amount(2, 2), lambda: None)
    (row,) = made.data()["rows"]
    assert row["reason"] == reason
    assert row["seconds_per_line"] is None


def test_batches_go_round_the_lines() -> None:
    first, second = turns.batch(LINES, 3, 0), turns.batch(LINES, 3, 1)
    assert [line[0, 0, 0] for line in first + second] == [0, 1, 2, 3, 4, 0]


def test_costs_leave_the_recogniser_out() -> None:
    paper = Case(OURS, "paper", EAGER, "fp32", "cpu", 1, 18, "fixed", 18)
    sampled = replace(paper, text_sampler="categorical")
    released = replace(paper, system=DIFFTSR, preset="difftsr", steps=200)
    assert (costs.gflop(sampled) or 0) > (costs.gflop(paper) or 0) > (costs.gflop(replace(paper, steps=4)) or 0) > 0
    assert (costs.parameters(sampled) or 0) - (costs.parameters(paper) or 0) == 211_099_217  # DiffTSR's own TDM
    assert costs.parameters(released) == 874_024_003 + 6_226_675 + 55_312_063
    assert costs.gflop(released) == pytest.approx(200 * (592.0 + 3.6) + 345.4 + 670.6)
    small = replace(released, system=plan(Choices(size="small"))[0].system)
    assert costs.gflop(small) is costs.parameters(small) is None
