"""Runs of stage ``paper``: parts of a step, data read ahead, a resume that changes nothing, batches kept."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("stlpips_pytorch", reason="the weights of the perceptual loss come with it")

from safetensors.torch import load_file

from tests.train.small_paper import METADATA, Differences, numbered, paper_stage, tiny_model, write_data
from textsr.checkpoint import load_model, read_metadata
from textsr.config import TINY
from textsr.errors import InputError
from textsr.graphs import Model
from train.distributed import Group
from train.harness import Trainer
from train.samples import Samples, sample_batches


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("paper"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.paper_losses.PerceptualLoss", Differences)
    monkeypatch.setattr("train.harness.plot_curves", lambda *_: None)


@pytest.mark.usefixtures("quick")
def test_parts_of_a_step_add_up(data: Path) -> None:
    """Two micro-batches have the gradient of their batch: fp32 sums in another order, so to a relative 1e-4.

    On lines without a kink: at step 0 the sign of one of 393,216 differences of the decoded L1 loss is another in the
    micro-batch, and all gradients differ by 1e-3.
    """
    gradients = []
    for accumulate in (1, 2):
        stage = paper_stage(data, accumulate=accumulate, batch_size=2)
        trainer = Trainer(stage, stage.cfg)
        trainer._step(trainer._next(stage.batches(7)))
        gradients.append([p.grad.clone() for p in stage.model.parameters() if p.grad is not None])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()) + 1e-9)


def test_a_step_that_cannot_be_shared_is_refused(data: Path) -> None:
    with pytest.raises(InputError, match="multiple of 3"):
        paper_stage(data, accumulate=3)
    with pytest.raises(InputError, match="multiple of 6"):
        paper_stage(data, accumulate=2, group=Group(torch.device("cpu"), 0, 3))


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors that a run's folder holds, by file and name."""
    found = {
        f"{name}/{k}": v
        for name in ("raw", "ema", "model")
        for k, v in load_file(folder / f"{name}.safetensors").items()
    }
    optimizer = torch.load(folder / "optimizer.pt", weights_only=True)
    found |= {f"optimizer/{i}/{k}": v for i, values in optimizer["state"].items() for k, v in values.items()}
    chance = torch.load(folder / "random.pt", weights_only=True)
    return found | {"torch": chance["torch"], "numpy": chance["numpy"]["key"], "python": chance["python"][1]}


@pytest.mark.usefixtures("quick")
def test_a_resumed_run_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    def run(out: str, steps: int, **options: Any) -> Path:
        torch.manual_seed(5)
        np.random.seed(5)
        resumed = options.get("resume")
        model = tiny_model() if resumed is None else load_model(resumed / "model.safetensors", TINY)
        assert isinstance(model, Model)
        stage = paper_stage(data, model, out=tmp_path / out, steps=steps, batch_size=1, **options)
        Trainer(stage, stage.cfg).run()
        return tmp_path / out

    first = run("first", 2)
    torch.manual_seed(99)  # whatever happens between
    np.random.seed(99)
    straight, resumed = tensors(run("straight", 4)), tensors(run("resumed", 4, resume=first))
    assert straight.keys() == resumed.keys()
    assert [name for name in straight if not torch.equal(straight[name], resumed[name])] == []
    before = tensors(first)
    assert any(not torch.equal(before[name], straight[name]) for name in straight)
    state = json.loads((tmp_path / "resumed" / "state.json").read_text(encoding="utf-8"))
    assert state["progress"]["step"] == 4
    assert state["progress"]["lines"] == 4
    metadata = read_metadata(tmp_path / "resumed" / "model.safetensors")
    assert metadata.items() >= METADATA.items()
    assert str(data) not in json.dumps(state)


@pytest.mark.usefixtures("quick")
def test_data_that_changed_are_told(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = paper_stage(data, out=tmp_path / "out", steps=1, batch_size=1)
    Trainer(stage, stage.cfg).run()
    fewer = (f"pool:{data / 'pool'}?split=all&limit=5",)
    again = paper_stage(data, out=tmp_path / "on", resume=tmp_path / "out", batch_size=1, data=fewer)
    Trainer(again, again.cfg)
    assert "its data were {'pool:pool + pairs:pairs': 12} and are {'pool:pool': 5}" in caplog.text


@pytest.mark.usefixtures("quick")
def test_recomputing_the_decoder_changes_no_gradient(data: Path) -> None:
    gradients = []
    for recompute in (False, True):
        stage = paper_stage(data, recompute=recompute)
        stage.losses(stage.noised(numbered(stage, [0], [1])))[0].backward()
        gradients.append([p.grad for p in stage.model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.usefixtures("quick")
def test_reading_ahead_changes_no_batch(data: Path) -> None:
    stage = paper_stage(data)
    ahead = sample_batches(stage.data, TINY, stage.alphabet, replace(stage.cfg, workers=2), 3, rank=1, world=2)
    here = sample_batches(stage.data, TINY, stage.alphabet, stage.cfg, 3, rank=1, world=2)
    for _ in range(3):
        one, other = next(ahead), next(here)
        assert one.numbers.tolist() == other.numbers.tolist()
        assert torch.equal(one.images, other.images)
        assert one.names == other.names


@pytest.mark.usefixtures("quick")
def test_a_bad_batch_is_kept_so_that_it_can_be_read(data: Path, tmp_path: Path) -> None:
    stage = paper_stage(data, out=tmp_path / "out", accumulate=2)
    with torch.no_grad():
        next(stage.full.unet.out.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="loss is nan at step 0; the batch is in"):
        Trainer(stage, stage.cfg).run()
    parts = torch.load(tmp_path / "out" / "bad_batch.pt", weights_only=True)
    assert [part["numbers"].tolist() for part in parts] == [[0, 1], [2, 3]]
    assert parts[0].keys() == {field.name for field in fields(Samples)}


@pytest.mark.usefixtures("quick")
def test_samples_are_measured_and_drawn(data: Path, tmp_path: Path) -> None:
    stage = paper_stage(data, validate=1)
    own = stage.full.unet, stage.full.mom.Transformer
    figures = stage.samples(stage.model, tmp_path / "samples.png")
    assert figures.keys() == {"psnr", "psnr_bicubic"}
    assert figures == stage.samples(stage.model, tmp_path / "again.png")
    assert (stage.full.unet, stage.full.mom.Transformer) == own
    assert (tmp_path / "samples.png").read_bytes() == (tmp_path / "again.png").read_bytes()
