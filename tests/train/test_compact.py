"""The plan of a compact run: shares of the minutes, going on after a cut, what is chosen; and one run end to end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rapidocr", reason="the recogniser's weights come with it")
pytest.importorskip("stlpips_pytorch", reason="the weights of the perceptual loss come with it")

from tests.train.small import write_pools
from textsr.checkpoint import load_model, read_metadata
from textsr.config import TINY
from textsr.errors import InputError
from train import compact
from train.compact_options import Options
from train.compact_parts import TEACHER
from train.diagnosis import Diagnosis, Row, choose_steps, decide
from train.footprint import Footprint, kept_for_backward
from train.plan import SHARES, Clock, Plan
from train.shards import join


def row(right: list[int], distance: float, steps: int) -> Row:
    count = len(right)
    one = [1.0] * count
    return Row(f"recogniser text, {steps} steps", "recogniser", steps, [float(r) for r in right], one, one,
               [distance] * count)  # fmt: skip


def diagnosis(*rows: Row) -> Diagnosis:
    return Diagnosis({}, list(rows))


RIGHT, WORSE = [1] * 80 + [0] * 20, [1] * 60 + [0] * 40


def test_the_fewest_steps_as_good_as_all_are_the_default() -> None:
    def chosen(*rows: Row) -> int:
        return choose_steps({r.steps: r for r in rows if r.steps})[0]

    assert chosen(row(RIGHT, 0.2, 18), row(RIGHT, 0.205, 4), row(WORSE, 0.2, 1)) == 4
    assert chosen(row(RIGHT, 0.2, 18), row(RIGHT, 0.22, 4), row(RIGHT, 0.2, 1)) == 1
    assert chosen(row(RIGHT, 0.2, 18), row(RIGHT, 0.211, 4), row(WORSE, 0.1, 1)) == 18
    better = [1] * 95 + [0] * 5
    assert chosen(row(RIGHT, 0.2, 18), row(better, 0.1, 4)) == 4


def test_distilled_weights_must_hold_against_the_undistilled() -> None:
    plain = diagnosis(row(RIGHT, 0.2, 18), row(WORSE, 0.3, 4), row(WORSE, 0.4, 1))
    good = diagnosis(row(RIGHT, 0.2, 18), row(RIGHT, 0.2, 4), row(WORSE, 0.2, 1))
    name, steps, why = decide({"diffusion": plain, "distil": good})
    assert (name, steps) == ("distil", 4)
    assert {choice["steps"]: choice["holds"] for choice in why["steps"]} == {18: True, 4: True, 1: False}
    bad = diagnosis(row(WORSE, 0.2, 18), row(WORSE, 0.2, 4))
    assert decide({"diffusion": plain, "distil": bad})[:2] == ("diffusion", 18)
    assert decide({"diffusion": plain})[:2] == ("diffusion", 18)
    with pytest.raises(InputError, match="nothing to choose from"):
        decide({})


@given(st.floats(0.1, 100), st.floats(0, 1))
def test_shares_never_exceed_what_is_left(minutes: float, used: float) -> None:
    plan, left = Plan("tiny", minutes, 0), minutes * (1 - used)
    for part in SHARES:
        share = plan.share(part, left)
        assert 0 <= share <= left + 1e-9
        left -= share


def test_what_a_part_leaves_goes_to_those_that_train() -> None:
    plan = Plan("tiny", sum(SHARES.values()), 0)
    assert plan.share("autoencoder", 100) == SHARES["autoencoder"]
    later = SHARES["distil"] + SHARES["diagnose"]
    assert plan.share("diffusion", 23.0) == pytest.approx(23.0 - later)
    assert plan.share("distil", 8.0) == pytest.approx(8.0 - SHARES["diagnose"])
    assert plan.share("diagnose", 1.0) == 1.0
    assert plan.share("diffusion", 3.0) == 0


def test_a_plan_is_gone_on_with_and_not_mistaken(tmp_path: Path) -> None:
    plan = Plan("tiny", 2.0, 3, commit="a")
    plan.done.append("lines")
    plan.save(tmp_path)
    found = Plan.open(tmp_path, Plan("tiny", 5.0, 3, commit="b"))
    assert (found.done, found.minutes, found.next()) == (["lines"], 5.0, "ceiling")
    assert "commit b" in found.notes[-1]
    with pytest.raises(InputError, match="preset tiny and seed 3"):
        Plan.open(tmp_path, Plan("tiny", 5.0, 4))
    (tmp_path / "plan.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        Plan.open(tmp_path, plan)


def test_memory_of_a_step_is_counted_by_storage() -> None:
    x = torch.ones(1000, requires_grad=True)
    with kept_for_backward() as kept:
        y = x.exp()  # keeps its result
        z = (y * y[:10].sum()).relu()  # y again, a number, and the result
    assert sum(kept.values()) == 4 * (1000 + 1 + 1000)
    z.sum().backward()
    assert x.grad is not None
    found = Footprint(weights=1 << 30, line=100 << 20)
    assert found.most_lines(20 << 30) == 64
    assert found.total(64) <= 20 << 30 < found.total(128)
    assert found.most_lines(1 << 30) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "0"], "give more than 0"),
        (["--from-nothing", "--checkpoint", "W"], "exclude each other"),
        (["--estimate", "80"], "give --pool"),
        (["--pool", "nowhere", "--val-pool", "nowhere", "--minutes", "0.01"], "no shard"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert compact.main(["--preset", "tiny", "--out", str(tmp_path / "run"), *options]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("train.compact: ")
    assert message in error


@pytest.mark.slow
def test_a_run_is_cut_goes_on_and_ends_with_weights(tmp_path: Path) -> None:
    """End to end: stopped inside diffusion as by a signal, gone on with, chosen, published, joined, loaded."""
    write_pools(tmp_path)
    options = Options(
        out=tmp_path / "run", preset="tiny", minutes=0.25, pool=tmp_path / "pool", val_pool=tmp_path / "val",
        val_lines=3, batch_size=4, crops=4, decode_lines=1, threads=1, device="cpu",
    )  # fmt: skip

    class Stopped(Clock):
        asked = 0  # times since diffusion began

        def ends(self) -> bool:
            state = options.out / "plan.json"
            if state.exists() and "diffusion" in json.loads(state.read_text(encoding="utf-8"))["given"]:
                self.asked += 1
            return self.asked > 1

    class Told(compact.Parts):
        def _minutes(self, part: str) -> float:
            minutes = super()._minutes(part)
            self.plan.save(self.out)
            return minutes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "Parts", Told)
        cut = compact.run(options, Stopped(1e9))
    assert (cut.finished, cut.calls) == (False, 1)
    assert cut.next() in ("diffusion", "distil")  # the latter where a step took all of its minutes
    weights = tmp_path / "run" / "weights"
    join(weights, tmp_path / "cut.safetensors")
    load_model(tmp_path / "cut.safetensors", TINY)
    assert "not finished" in (weights / "PROGRESS.md").read_text(encoding="utf-8")

    plan = compact.run(options)
    assert (plan.finished, plan.calls, plan.done) == (True, 2, list(SHARES))
    assert plan.steps in (18, 4, 1)
    join(weights, tmp_path / "W.safetensors")
    model = load_model(tmp_path / "W.safetensors", TINY)
    assert all(bool(torch.isfinite(t).all()) for t in model.state_dict().values() if t.is_floating_point())
    told = read_metadata(tmp_path / "W.safetensors")
    assert json.loads(told["config"])["name"] == "tiny"
    assert int(told["default_steps"]) == plan.steps
    assert told["seed"] == "0"
    assert plan.figures[TEACHER]["teaches"] in (True, False)
    assert told["commit"]
    assert {"autoencoder", "diffusion", "distil"} == json.loads(told["curves"]).keys()
    assert [entry["options"]["stage"] for entry in json.loads(told["training"])][:2] == ["autoencoder", "diffusion"]
    assert all(path.stat().st_size <= 16 << 20 for path in weights.iterdir())
    assert len(os.listdir(weights)) <= 8
    diagnosed = json.loads((options.out / "diagnosis" / "distil" / "diagnosis.json").read_text(encoding="utf-8"))
    assert {entry["steps"] for entry in diagnosed["rows"]} >= {18, 4, 1}
    assert all(np.isfinite(entry["psnr"]).all() for entry in diagnosed["rows"])
