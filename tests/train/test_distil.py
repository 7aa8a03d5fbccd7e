"""Distillation: the deterministic trajectory, which lines are taught what, and that the teacher stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

pytest.importorskip("rapidocr", reason="the recogniser's weights come with it")
pytest.importorskip("stlpips_pytorch", reason="the weights of the perceptual loss come with it")

from tests.train.small import config, write_pools
from textsr.checkpoint import save_model
from textsr.config import COMPACT, TINY
from textsr.errors import InputError
from textsr.graphs import Model
from textsr.schedule import ResidualShiftSchedule
from train import run
from train.diffusion import Corrupted, part
from train.distil import DistilStage, deterministic, endpoints, starts, taught_steps
from train.lines import line_batches

SCHEDULE = ResidualShiftSchedule.from_config(COMPACT.schedule)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> DistilStage:
    folder = tmp_path_factory.mktemp("distil")
    write_pools(folder)
    torch.manual_seed(0)
    model = Model(TINY)
    torch.nn.init.normal_(model.unet.out[2].weight, std=0.1)  # type: ignore[arg-type]  # 0 at first: nothing passes
    cfg = config(folder, stage="distil", own_estimates=0.0)
    return DistilStage(model, cfg, torch.device("cpu"), decode_lines=1)


@pytest.fixture
def batch(stage: DistilStage) -> Corrupted:
    lines = next(line_batches(stage.pool, stage.noise, stage.alphabet, 4, np.random.default_rng(0)))
    return stage._corrupt(lines, 1.0)


@given(st.integers(0, 17), st.integers(-1, 16), st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_a_deterministic_step_keeps_the_noise_of_the_forward_process(
    t: int, s: int, z_0: float, z_y: float, eps: float
) -> None:
    s = min(s, t - 1)

    def forward(step: int) -> float:
        eta = 0.0 if step < 0 else float(SCHEDULE.etas[step])
        return z_0 + eta * (z_y - z_0) + SCHEDULE.kappa * eta**0.5 * eps

    k, m, j = deterministic(SCHEDULE, t, s)
    assert k * z_0 + m * forward(t) + j * z_y == pytest.approx(forward(s), abs=1e-9)
    assert k + m + j == pytest.approx(1)


def test_a_deterministic_step_is_the_samplers_without_its_noise() -> None:
    """At the last step the sampler has no noise: both give z0_hat. Before it they share the place of z_0 in z_s."""
    last = SCHEDULE.steps()[-1]
    assert deterministic(SCHEDULE, last.t, -1) == (last.coef_z0, last.coef_zt, 0.0) == (1.0, 0.0, 0.0)
    for step, after in zip(SCHEDULE.steps(), SCHEDULE.steps()[1:], strict=False):
        k, m, _ = deterministic(SCHEDULE, step.t, after.t)
        kept = 1 - SCHEDULE.etas[step.t]  # share of z_0 in z_t
        assert k + m * kept == pytest.approx(step.coef_z0 + step.coef_zt * kept)


def test_a_teacher_that_knows_the_truth_leads_to_it_from_any_step(stage: DistilStage, batch: Corrupted) -> None:
    ordered = replace(batch, t=torch.tensor([17, 17, 11, 0]))
    calls: list[tuple[int, int]] = []

    def truth(now: Corrupted) -> torch.Tensor:
        calls.append((int(now.t[0]), len(now.t)))
        return now.z_0

    assert torch.allclose(endpoints(stage.schedule, truth, ordered), batch.z_0, atol=1e-5)
    assert calls == [(t, 2 if t > 11 else 3 if t > 0 else 4) for t in range(17, -1, -1)]


def test_steps_and_starts() -> None:
    assert taught_steps(SCHEDULE) == (17, 11, 6)
    assert taught_steps(SCHEDULE, (1,)) == (17,)
    assert set(SCHEDULE.kept(4)) == {*taught_steps(SCHEDULE), 0}
    assert starts(8, (17, 11, 6)) == [17] * 4 + [11] * 2 + [6] * 2
    assert starts(3, (17,)) == [17] * 3
    assert starts(1, (17, 11, 6)) == [17]


def test_states_are_the_priors_or_the_students_own(stage: DistilStage, batch: Corrupted) -> None:
    torch.manual_seed(3)
    state = stage._few_step_state(batch)
    torch.manual_seed(3)
    first, again = torch.randn(2, *batch.z_y.shape)
    assert state.t.tolist() == [17, 17, 11, 6]
    prior = batch.z_y + stage.schedule.prior_std * first
    torch.testing.assert_close(state.z_t[:2], prior[:2])
    with torch.no_grad():
        own = stage._predict(replace(batch, z_t=prior, t=torch.full((4,), 17)))
    eta = torch.tensor(stage.schedule.etas[[11, 6]]).float()[:, None, None, None]
    expected = own[2:] + eta * (batch.z_y[2:] - own[2:]) + stage.schedule.kappa * eta.sqrt() * again[2:]
    torch.testing.assert_close(state.z_t[2:], expected, atol=1e-4, rtol=1e-4)


def test_only_the_student_learns(stage: DistilStage, batch: Corrupted) -> None:
    assert stage.teacher is not None
    before = {name: tensor.clone() for name, tensor in stage.teacher.state_dict().items()}
    stage.model.zero_grad(set_to_none=True)
    loss, figures = stage.loss(batch, 0.5)
    loss.backward()
    assert torch.isfinite(loss)
    decoded = {"l1", "perceptual", "recognizer"}
    assert figures.keys() == {"latent", "text", "taught"} | decoded | {f"taught_{name}" for name in decoded}
    assert all(parameter.grad is None for parameter in stage.teacher.parameters())
    assert any(p.grad is not None and bool(p.grad.any()) for p in stage.full.unet.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in stage.teacher.state_dict().items())
    assert stage.full.vqgan is stage.teacher.vqgan
    assert stage.full.unet is not stage.teacher.unet


def test_a_teacher_that_does_not_see_the_painted_line_teaches_a_student_that_does(tmp_path: Path) -> None:
    write_pools(tmp_path)
    narrow, path = Model(replace(TINY, unet=replace(TINY.unet, painted_channels=0))), tmp_path / "narrow.safetensors"
    save_model(narrow, path)
    cfg = config(tmp_path, stage="distil", own_estimates=0.0, checkpoint=path)
    stage = DistilStage(Model(TINY), cfg, torch.device("cpu"), decode_lines=1)
    assert stage.teacher is not None
    first = stage.teacher.unet.input_blocks[0][0].weight  # type: ignore[index]
    old = narrow.unet.input_blocks[0][0].weight  # type: ignore[index]
    assert torch.equal(first[:, : old.shape[1]], old)
    assert not first[:, old.shape[1] :].any()


def test_a_student_that_is_its_teacher_has_nothing_to_learn_at_the_last_step(
    stage: DistilStage, batch: Corrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "steps", (0,))
    _, figures = stage.loss(batch, 0.5)
    assert figures["taught"] == pytest.approx(0, abs=1e-6)


def test_ordinary_lines_at_a_taught_step_have_no_latent_loss(stage: DistilStage, batch: Corrupted) -> None:
    wrong = batch.z_0 + torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None, None]
    for t, expected in (([17, 11, 6, 17], 0.0), ([16, 11, 0, 17], 2.0), ([1, 2, 3, 4], 2.5)):
        found = stage._latent_loss(wrong, replace(batch, t=torch.tensor(t)))
        assert found.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_without_a_teacher_the_few_step_states_learn_from_the_truth(
    stage: DistilStage, batch: Corrupted, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    seen: list[Corrupted] = []

    def truth(now: Corrupted) -> torch.Tensor:
        seen.append(now)
        return now.z_0.clone().requires_grad_()

    monkeypatch.setattr(stage, "teacher", None)
    monkeypatch.setattr(stage, "cfg", replace(stage.cfg, taught_share=share, few_steps=(1,)))
    monkeypatch.setattr(stage, "steps", taught_steps(SCHEDULE, (1,)))
    monkeypatch.setattr(stage, "_predict", truth)
    monkeypatch.setattr(stage, "_text_loss", lambda *_: torch.zeros(()))
    _, figures = stage.loss(batch, 0.5)
    others = len(batch.t) - round(share * len(batch.t))
    assert figures["latent"] == 0
    assert seen[-1].t.tolist() == batch.t.tolist()[:others] + [17] * (len(batch.t) - others)
    assert torch.equal(seen[-1].z_t[:others], batch.z_t[:others])
    assert not torch.isclose(seen[-1].z_t[others:], batch.z_t[others:]).all(dim=(1, 2, 3)).any()


def test_a_part_of_a_batch_is_cut_alike(batch: Corrupted) -> None:
    few = part(batch, slice(1, 3))
    assert few.batch.texts == batch.batch.texts[1:3]
    assert torch.equal(few.z_t, batch.z_t[1:3])
    np.testing.assert_array_equal(few.batch.truth.tokens, batch.batch.truth.tokens[1:3])
    assert few.glyphs is not None
    assert batch.glyphs is not None
    assert torch.equal(few.glyphs, batch.glyphs[1:3])
    assert {len(few.hr), len(few.lq), len(few.t), len(few.text[3]), len(few.batch.filled), len(few.batch.places)} == {2}


def test_a_resumed_run_needs_its_teacher(tmp_path: Path) -> None:
    cfg = config(tmp_path, stage="distil", resume=tmp_path)
    with pytest.raises(InputError, match="needs its teacher: give --checkpoint"):
        DistilStage(Model(TINY), cfg, torch.device("cpu"))


@pytest.mark.slow
def test_the_command_trains_it(tmp_path: Path) -> None:
    write_pools(tmp_path)
    save_model(Model(TINY), tmp_path / "W.safetensors")
    given = ["--stage", "distil", "--preset", "tiny", "--device", "cpu", "--steps", "2", "--batch-size", "2"]
    places = ["--pool", str(tmp_path / "pool"), "--val-pool", str(tmp_path / "val"), "--out", str(tmp_path / "out")]
    assert run.main([*given, *places, "--checkpoint", str(tmp_path / "W.safetensors")]) == 0
    trained, before = (load_file(p) for p in (tmp_path / "out" / "model.safetensors", tmp_path / "W.safetensors"))
    changed = {name.split(".")[0] for name, tensor in trained.items() if not torch.equal(tensor, before[name])}
    assert changed <= {"unet", "mom", "tdm"}
    assert "unet" in changed
