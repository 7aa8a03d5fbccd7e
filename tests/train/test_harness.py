"""What all training stages share: budget, resume, averages, curves, and a loss that is not finite."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.train.small import config
from textsr.errors import InputError
from train.curves import Averages, Board, plot_curves
from train.distributed import pick_device
from train.harness import TrainConfig, Trainer, learning_rate
from train.runfolder import replacing


class Line(nn.Module):
    """y = w x + b."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(1, 1)


class Fit:
    """Fits y = 3 x + 1; every fourth step measures one figure more."""

    def __init__(self, spoil_at: int | None = None, spoil_gradient_at: int | None = None) -> None:
        self.line, self.steps = Line(), 0
        self.spoil_at, self.spoil_gradient_at = spoil_at, spoil_gradient_at
        self.steps_before: list[int] = []
        self.progress: list[float] = []
        self.saved: list[dict[str, str]] = []

    @property
    def model(self) -> nn.Module:
        return self.line

    def batches(self, step: int) -> Iterator[Tensor]:
        self.steps_before.append(step)
        generator = torch.Generator().manual_seed(step)
        while True:
            time.sleep(0.002)
            yield torch.rand(4, 1, generator=generator)

    def loss(self, batch: Tensor, progress: float) -> tuple[Tensor, dict[str, float]]:
        self.steps += 1
        self.progress.append(progress)
        loss = (self.line.layer(batch).float() - 3 * batch - 1).square().mean()
        if self.steps == self.spoil_at:
            loss = loss * float("nan")
        if self.steps == self.spoil_gradient_at:
            loss = loss + (self.line.layer.weight.sum() * 0).sqrt()  # 0, with an infinite slope
        figures = {"error": loss.item()}
        return loss, figures | ({"fourth": 4.0 * self.steps} if self.steps % 4 == 0 else {})

    def samples(self, model: nn.Module, path: Path) -> dict[str, float]:
        Image.new("RGB", (4, 4)).save(path)
        return {"psnr": 20.0}

    def save(self, model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
        self.saved.append(metadata)
        path.write_bytes(b"weights")


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(row) for row in (folder / "curves.jsonl").read_text(encoding="utf-8").splitlines()]


def trained(tmp_path: Path, stage: Fit | None = None, **options: object) -> tuple[Fit, Trainer]:
    stage = stage or Fit()
    trainer = Trainer(stage, config(tmp_path, **options))
    trainer.run()
    return stage, trainer


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trained(folder, minutes=0.001)
    return folder / "out"


def test_a_run_keeps_to_its_budget_and_leaves_everything(tmp_path: Path) -> None:
    begun = time.monotonic()
    stage, trainer = trained(tmp_path, minutes=0.01)
    assert 0.6 <= trainer.at.seconds < 5
    assert time.monotonic() - begun < 15  # the last save included
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "curves.jsonl", "curves.png", "ema.safetensors", "model.safetensors", "optimizer.pt", "random.pt",
        "raw.safetensors", f"samples_{trainer.at.step:06d}.png", "state.json",
    }  # fmt: skip
    state = json.loads((tmp_path / "out" / "state.json").read_text(encoding="utf-8"))
    assert state["progress"]["step"] == trainer.at.step == stage.steps
    assert state["progress"]["lines"] == 4 * stage.steps
    assert state["validation"] == {"psnr": 20.0}
    assert [{**run, "history": []} for run in json.loads(stage.saved[-1]["training"])] == [state]
    assert stage.progress == sorted(stage.progress)
    assert stage.progress[0] < 0.1
    assert 0.8 < stage.progress[-1] <= 1


def test_rows_hold_means_of_what_each_step_measured(tmp_path: Path) -> None:
    stage, _ = trained(tmp_path)
    found = rows(tmp_path / "out")
    assert [row["step"] for row in found] == [*range(20, stage.steps, 20), stage.steps]
    for before, row in zip([0, *(int(row["step"]) for row in found)], found, strict=False):
        measured = [4.0 * step for step in range(before + 1, int(row["step"]) + 1) if step % 4 == 0]
        if measured:
            assert row["fourth"] == pytest.approx(sum(measured) / len(measured))
        assert {"loss", "error", "grad_norm", "lr", "samples_per_second", "data_wait_share"} <= row.keys()
        assert 0 < row["data_wait_share"] < 1
    assert found[-1]["val_psnr"] == 20.0


def test_averages() -> None:
    averages = Averages()
    assert not averages
    averages.add({"a": 1.0, "b": 4.0})
    averages.add({"a": 2.0})
    assert averages
    assert averages.take() == {"a": 1.5, "b": 4.0}
    assert averages.take() == {}


def test_resume_goes_on(tmp_path: Path) -> None:
    first, before = trained(tmp_path)
    folder = tmp_path / "out"
    earlier, raw = rows(folder), {k: v.clone() for k, v in first.line.state_dict().items()}
    averaged = {k: v.clone() for k, v in before.ema.module.state_dict().items()}
    stage = Fit()
    trainer = Trainer(stage, config(tmp_path, minutes=0.015, resume=folder, out=tmp_path / "on"))
    for name, value in raw.items():
        assert torch.equal(stage.line.state_dict()[name], value)
        assert torch.equal(trainer.ema.module.state_dict()[name], averaged[name])
        assert not torch.equal(value, averaged[name])  # the average is another than the last weights
    assert trainer.at == before.at
    assert trainer.optimizer.state_dict()["state"][0]["step"] == first.steps
    trainer.run()
    assert stage.steps_before == [first.steps]  # other batches than at first
    assert trainer.at.step == first.steps + stage.steps
    assert trainer.at.seconds >= 0.9
    assert stage.progress[0] >= 0.3
    later = rows(tmp_path / "on")
    assert later[: len(earlier)] == earlier
    seconds = [row["seconds"] for row in later]
    assert seconds == sorted(seconds)
    assert stage.steps > 0


def test_a_spent_budget_is_told_and_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(tmp_path)
    folder = tmp_path / "out"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with caplog.at_level(logging.WARNING, "train.harness"):
        stage, _ = trained(tmp_path, resume=folder)
    assert "give more --minutes" in caplog.text
    assert stage.steps == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_resume_without_averages_says_so(tmp_path: Path, run_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(run_folder, tmp_path / "out")
    (tmp_path / "out" / "ema.safetensors").unlink()
    with caplog.at_level(logging.WARNING, "train.harness"):
        Trainer(Fit(), config(tmp_path, resume=tmp_path / "out"))
    assert "no ema.safetensors" in caplog.text


def test_resume_of_an_older_run_says_what_it_lacks(
    tmp_path: Path, run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(run_folder, tmp_path / "out")
    (tmp_path / "out" / "random.pt").unlink()
    weights = load_file(tmp_path / "out" / "raw.safetensors")
    save_file(weights, tmp_path / "out" / "raw.safetensors")  # without the step in its metadata
    state = json.loads((tmp_path / "out" / "state.json").read_text(encoding="utf-8"))
    state["options"] = {name: state["options"][name] for name in ("stage", "preset", "batch_size", "learning_rate")}
    (tmp_path / "out" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    with caplog.at_level(logging.WARNING, "train.harness"):
        trainer = Trainer(Fit(), config(tmp_path, resume=tmp_path / "out", batch_size=8))
    assert "no random.pt" in caplog.text
    assert "batch_size is 8 now and was 4 before" in caplog.text
    assert "learning_rate" not in caplog.text
    assert trainer.at.step == state["progress"]["step"]


def test_a_run_that_ended_while_it_saved_is_not_mixed_up(tmp_path: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "out")
    weights = load_file(tmp_path / "out" / "raw.safetensors")
    save_file(weights, tmp_path / "out" / "raw.safetensors", {"step": "1"})
    with pytest.raises(InputError, match=r"weights of step 1 beside .* --checkpoint"):
        Trainer(Fit(), config(tmp_path, resume=tmp_path / "out"))


def test_generators_go_on_where_they_were(tmp_path: Path) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    trained(tmp_path, minutes=None, steps=2)
    expected = torch.rand(3), np.random.random(3), random.random()
    torch.manual_seed(4)
    np.random.seed(4)
    random.seed(4)
    Trainer(Fit(), config(tmp_path, resume=tmp_path / "out"))
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.random(3), expected[1])
    assert random.random() == expected[2]


def test_a_budget_of_steps(tmp_path: Path) -> None:
    stage, trainer = trained(tmp_path, minutes=None, steps=3)
    assert trainer.at.step == stage.steps == 3
    assert stage.progress == [0, pytest.approx(1 / 3), pytest.approx(2 / 3)]
    stage, trainer = trained(tmp_path, minutes=60, steps=5, resume=tmp_path / "out")  # the first that is spent ends it
    assert (trainer.at.step, stage.steps) == (5, 2)


def test_a_constant_rate_and_gradients_of_any_norm(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "minutes": None,
        "steps": 4,
        "schedule": "constant",
        "warmup_steps": 2,
        "learning_rate": 0.5,
        "clip": 0.0,
    }
    stage, trainer = trained(tmp_path, **options)
    assert trainer.optimizer.param_groups[0]["lr"] == 0.5
    assert rows(tmp_path / "out")[-1]["lr"] == pytest.approx((0.25 + 3 * 0.5) / 4)
    gradient = torch.cat([p.grad.flatten() for p in stage.line.parameters() if p.grad is not None])
    figures = trainer._step([torch.full((4, 1), 100.0)])
    after = torch.cat([p.grad.flatten() for p in stage.line.parameters() if p.grad is not None])
    assert not torch.equal(gradient, after)
    assert figures["grad_norm"] == pytest.approx(float(after.norm()))
    assert figures["grad_norm"] > 1


def test_accumulation_is_the_mean_of_its_parts(tmp_path: Path) -> None:
    parts = [torch.rand(4, 1, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    gradients = []
    for batches in ([torch.cat(parts)], parts):
        stage = Fit()
        figures = Trainer(stage, config(tmp_path, precision="fp32", clip=0.0))._step(batches)
        gradients.append(torch.cat([p.grad.flatten() for p in stage.line.parameters() if p.grad is not None]))
        assert figures["loss"] == figures["error"]
    torch.testing.assert_close(*gradients)


def test_events_for_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="comes with the extra [train]")
    trained(tmp_path, minutes=None, steps=2, tensorboard=True)
    reader: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    assert {"loss", "error", "grad_norm", "lr", "val_psnr"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [2]
    assert events.Scalars("val_psnr")[0].value == 20.0


def test_a_missing_tensorboard_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    Board(None).figures({"a": 1.0}, 1)
    with pytest.raises(InputError, match="--no-tensorboard"):
        Board(tmp_path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "damage", ["missing", "state.json", "raw.safetensors", "optimizer.pt", "curves.jsonl", "stage"]
)
def test_what_cannot_be_resumed_is_named(tmp_path: Path, run_folder: Path, damage: str) -> None:
    shutil.copytree(run_folder, tmp_path / "out")
    folder = tmp_path / ("nothing" if damage == "missing" else "out")
    if damage in ("state.json", "raw.safetensors", "optimizer.pt", "curves.jsonl"):
        (folder / damage).write_bytes(b"\x80damaged")
    options = {"stage": "another"} if damage == "stage" else {}
    with pytest.raises(InputError, match="--resume"):
        Trainer(Fit(), config(tmp_path, resume=folder, **options))


@pytest.mark.parametrize(
    ("stage", "what"), [(Fit(spoil_at=3), "loss is nan"), (Fit(spoil_gradient_at=3), "gradient is")]
)
def test_what_is_not_finite_stops_the_run_and_leaves_the_batch(tmp_path: Path, stage: Fit, what: str) -> None:
    trainer = Trainer(stage, config(tmp_path))
    with pytest.raises(InputError, match=f"{what}.* at step 2; the batch is in .*bad_batch"):
        trainer.run()
    batch = torch.load(tmp_path / "out" / "bad_batch.pt", weights_only=True)
    assert batch.shape == (4, 1)
    assert all(torch.isfinite(parameter).all() for parameter in stage.line.parameters())


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    stage, trainer = trained(tmp_path, minutes=0.02, learning_rate=0.1, ema_decay=0.9)
    raw, averaged = stage.line.layer.weight, trainer.ema.module.layer.weight
    assert not torch.equal(raw, averaged)
    assert torch.allclose(raw, averaged, atol=0.5)


def test_a_run_saves_as_it_goes(tmp_path: Path) -> None:
    stage, trainer = trained(tmp_path, minutes=0.03, save_minutes=0.005)
    assert len(stage.saved) >= 2
    assert json.loads(stage.saved[0]["training"])[-1]["progress"]["step"] < trainer.at.step


def test_learning_rate_warms_up_and_falls() -> None:
    assert learning_rate(1.0, 0, 100, 0.0) == pytest.approx(0.01)
    assert learning_rate(1.0, 99, 100, 0.0) == pytest.approx(1.0)
    assert learning_rate(1.0, 500, 100, 0.5) == pytest.approx(0.51)
    assert learning_rate(1.0, 500, 100, 1.0) == learning_rate(1.0, 500, 100, 1.2) == pytest.approx(0.02)


def test_a_device_that_is_not_there_is_refused() -> None:
    assert pick_device("auto").type in ("cpu", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="--device"):
            pick_device("cuda:0")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with contextlib.suppress(KeyError), replacing(path) as unfinished:
        unfinished.write_text("half")
        raise KeyError
    assert path.read_text() == "before"
    with replacing(path) as unfinished:
        unfinished.write_text("after")
    assert path.read_text() == "after"


def test_curves_without_figures_need_no_picture(tmp_path: Path) -> None:
    plot_curves([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    assert isinstance(config(tmp_path), TrainConfig)
