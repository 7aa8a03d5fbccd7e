"""Stage ``paper``: Algorithm 1's samples, losses and gradients, and a resume that changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("stlpips_pytorch", reason="the weights of the perceptual loss come with it")


from tests.train.small import TEXTS
from tests.train.small_paper import Differences, numbered, paper_config, paper_stage, tiny_model, write_data
from textsr.config import TINY, ablated
from textsr.errors import InputError
from textsr.graphs import Model
from textsr.reading import LineReading
from textsr.schedule import ResidualShiftSchedule
from train.paper import PaperStage, trained_parts
from train.paper_config import PaperConfig, short
from train.paper_losses import Noised
from train.samples import Samples


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("paper"))


@pytest.fixture(scope="module")
def stage(data: Path) -> PaperStage:
    return paper_stage(data)


@pytest.fixture(scope="module")
def batch(stage: PaperStage) -> Samples:
    return next(stage.batches(2))


@pytest.fixture(scope="module")
def noised(stage: PaperStage, batch: Samples) -> Noised:
    return stage.noised(batch)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.paper_losses.PerceptualLoss", Differences)
    monkeypatch.setattr("train.harness.plot_curves", lambda *_: None)


def test_samples_tell_of_their_lines(stage: PaperStage, batch: Samples) -> None:
    assert len(stage.data) == 12
    assert batch.numbers.tolist() == [8, 9, 10, 11]  # of step 2
    everything = [next(stage.batches(step)) for step in range(3)]
    assert len({name for found in everything for name in found.names}) == 12
    for place in (0, 10):
        line, found = stage.data[place], numbered(stage, [0], [place])
        np.testing.assert_array_equal(found.images[0].numpy(), line.image)
        assert bool(found.has_real[0]) == (place >= 8)
        assert found.texts == (TEXTS[place % 4 if place < 8 else place - 8],)
        assert found.filled.item() == pytest.approx(line.width / 512)


def test_the_forward_process_is_the_residual_shift(stage: PaperStage, noised: Noised) -> None:
    schedule = ResidualShiftSchedule.from_config(TINY.schedule)
    z_0 = stage.full.vqgan.encode(noised.hr)
    assert noised.hr.abs().max() <= 1
    assert noised.lq.shape == (4, 3, 32, 128)
    assert ((noised.t >= 0) & (noised.t < 18)).all()
    eta = torch.from_numpy(schedule.etas[noised.t.numpy()]).float()[:, None, None, None]
    noise = (noised.z_t - z_0 - eta * (noised.z_y - z_0)) / (schedule.kappa * eta.sqrt())
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)


def test_a_sample_is_the_same_in_any_batch(stage: PaperStage, batch: Samples, noised: Noised) -> None:
    alone = numbered(stage, [10], [stage_place(stage, batch.names[2])])
    found = stage.noised(alone)
    assert torch.equal(found.t, noised.t[2:3])
    torch.testing.assert_close(found.lq, noised.lq[2:3], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.z_t, noised.z_t[2:3], atol=1e-4, rtol=0)
    for ours, theirs in zip(found.text, noised.text, strict=True):
        torch.testing.assert_close(ours, theirs[2:3], atol=1e-3, rtol=0)


def stage_place(stage: PaperStage, name: str) -> int:
    data: Any = stage.data
    return next(i for i in range(len(data)) if data.name(i) == name)


def test_steps_are_drawn_evenly(stage: PaperStage) -> None:
    from train.degrade_ops import Draws, Seeds
    from train.paper import OWN_STREAM

    draws = Draws(Seeds(stage._seeds(0, torch.arange(4000))), 4000, stream=OWN_STREAM)
    for value in (draws.uniform(), draws.uniform(), draws.uniform()):
        counts = torch.bincount((value * 18).long(), minlength=18).float()
        assert ((counts - 4000 / 18) ** 2 / (4000 / 18)).sum() < 45  # chi squared of 17 degrees: 1 in 4000 is above


@pytest.mark.parametrize(
    ("step", "options", "allowed"),
    [
        (0, {}, {"degraded"}),
        (1, {}, {"degraded", "real"}),
        (2, {}, {"degraded", "real", "again"}),
        (2, {"stand_in": "degraded"}, {"degraded", "real", "again"}),
        (0, {"without": ("progressive-sampling",)}, {"real"}),
    ],
)
def test_the_curriculum(
    stage: PaperStage, monkeypatch: pytest.MonkeyPatch, step: int, options: dict[str, Any], allowed: set[str]
) -> None:
    """The pairs' real low resolution is a flat grey, which no degradation of their bars can be."""
    monkeypatch.setattr(stage, "cfg", replace(stage.cfg, batch_size=24, **options))
    made: dict[str, int] = {"degrade": 0, "camera": 0, "degrade_again": 0}
    import train.paper as module

    for name in made:
        original = getattr(module, name)

        def counted(hr: torch.Tensor, *rest: Any, name: str = name, original: Any = original) -> torch.Tensor:
            made[name] += len(hr)
            return original(hr, *rest)

        monkeypatch.setattr(module, name, counted)
    monkeypatch.setattr(stage.full.vqgan, "encode", lambda image: image[:, [0, 1, 2, 0], ::4, ::4])
    monkeypatch.setattr(stage.recogniser, "read", lambda lq, _: [LineReading("", (), ())] * len(lq))
    numbers = list(range(24 * step, 24 * step + 24))
    found = stage.noised(numbered(stage, numbers, [place % 12 for place in range(24)]))
    flat = found.lq.flatten(2).std(2).amax(1) < 1e-6  # the grey itself
    real = torch.tensor([place % 12 >= 8 for place in range(24)])
    assert not flat[~real].any()
    assert bool(flat[real].any()) == ("real" in allowed)
    assert (made["degrade"] > 0) == ("degraded" in allowed)
    assert (made["camera"] > 0) == ("real" in allowed and "stand_in" not in options)
    assert (made["degrade_again"] > 0) == ("again" in allowed)


def test_phases_begin_at_their_steps(stage: PaperStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "cfg", replace(stage.cfg, phases=(10_000, 20_000), batch_size=64))
    numbers = torch.tensor([0, 9_999 * 64 + 63, 10_000 * 64, 19_999 * 64 + 63, 20_000 * 64, 400_000 * 64])
    assert stage._phases(numbers).tolist() == [1, 1, 2, 2, 3, 3]


def test_the_loss_is_equation_5(stage: PaperStage) -> None:
    few = stage.noised(numbered(stage, [0, 1], [1, 9]))
    loss, parts = stage.losses(few)
    assert parts.keys() == {"l1", "perceptual", "recognizer"}
    restored = stage.full.vqgan.decode(stage.losses.predict(few))
    torch.testing.assert_close(parts["l1"], (restored - few.hr).abs().mean().detach())
    assert loss.item() == pytest.approx(sum(parts[k].item() * w for k, w in zip(parts, (1, 1, 0.02), strict=True)))


def test_a_true_prediction_costs_what_the_autoencoder_does(
    stage: PaperStage, noised: Noised, monkeypatch: pytest.MonkeyPatch
) -> None:
    z_0 = stage.full.vqgan.encode(noised.hr)
    schedule = ResidualShiftSchedule.from_config(TINY.schedule)
    gain, deviation = (torch.from_numpy(v)[:, None, None, None].float() for v in schedule.estimates[noised.t].T)
    output = (z_0 - noised.z_y - gain * (noised.z_t - noised.z_y)) / deviation
    monkeypatch.setattr(stage.full.unet, "forward", lambda *_: output)
    torch.testing.assert_close(stage.losses.predict(noised), z_0, atol=1e-4, rtol=0)


VARIANTS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"unet", "mom.Transformer"}),
    ({"mom": "frozen"}, {"unet"}),
    ({"mom": "whole"}, {"unet", "mom.Transformer", "mom.Unet", "mom.first_embeder"}),
    ({"tdm": "trained", "mom": "frozen"}, {"unet", "tdm"}),
    ({"tdm": "trained", "mom": "whole", "text_loss": 0.3}, {"unet", "mom", "tdm"}),
]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("options", "trained"), VARIANTS)
def test_every_trained_parameter_gets_a_gradient_and_no_other(
    data: Path, options: dict[str, Any], trained: set[str]
) -> None:
    stage = paper_stage(data, **options)
    loss, parts = stage.losses(stage.noised(numbered(stage, [0], [1])))
    loss.backward()
    assert ("text" in parts) == bool(stage.cfg.text_weight)
    for name, parameter in stage.full.named_parameters():
        expected = name.startswith(tuple(f"{part}." for part in trained))
        assert (parameter.grad is not None) == expected == parameter.requires_grad, name
    assert all(
        float(p.grad.abs().sum()) > 0
        for n, p in stage.full.unet.named_parameters()
        if "weight" in n and p.grad is not None
    )


def test_what_no_loss_reaches_is_not_trained(data: Path) -> None:
    config = paper_config(data, mom="whole", text_loss=0.0)
    with pytest.raises(InputError, match="--text-loss"):
        trained_parts(tiny_model(), config)
    blind = Model(ablated(TINY, ["text"]))
    assert trained_parts(blind, paper_config(data)).names == ("unet",)
    with pytest.raises(InputError, match="without text"):
        trained_parts(blind, paper_config(data, tdm="trained"))
    paperlike = Model(replace(TINY, mom=replace(TINY.mom, unused_head=True)))
    names = [n for n, p in trained_parts(paperlike, paper_config(data)).named_parameters() if p.requires_grad]
    assert any("mom_Transformer" in name for name in names)
    assert not any("to_logits" in name for name in names)


@pytest.mark.parametrize("text", ["ocr", "truth", "noised"])
def test_what_guides_and_how_sure(
    stage: PaperStage, batch: Samples, monkeypatch: pytest.MonkeyPatch, text: Any
) -> None:
    read = stage.noised(batch)
    monkeypatch.setattr(stage, "cfg", replace(stage.cfg, text=text))
    found = stage.noised(batch)
    assert torch.equal(found.text[1], read.text[1])  # the recogniser's confidences always
    truth = torch.from_numpy(batch.truth.tokens)
    assert torch.equal(found.truth, truth)
    if text == "ocr":
        assert torch.equal(found.text[0], read.text[0])
        assert not torch.equal(found.text[0], truth)
    elif text == "truth":
        assert torch.equal(found.text[0], truth)
    else:
        same = (found.text[0] == truth).float().mean(1)
        keep = stage.keep[found.time]
        assert torch.equal(found.text[0], found.noised)
        assert (same >= keep - 0.4).all()
        assert (same <= 1).all()


def test_tokens_are_noised_by_the_categorical_schedule(stage: PaperStage) -> None:
    from train.degrade_ops import Draws, Seeds

    tokens, time = torch.full((400, 24), 7), torch.full((400,), 199)
    draws = Draws(Seeds(stage._seeds(3, torch.arange(400))), 400, stream=30)
    kept = (stage._noised_tokens(tokens, time, draws) == 7).float().mean().item()
    assert kept == pytest.approx(float(np.exp(stage.categorical.log_cumulative[199])), abs=0.02)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("ctr:/data/me/scene_train?limit=5&index=/tmp/i.json", "ctr:scene_train?limit=5"),
        ("/data/lines.tsv", "lines.tsv"),
        ("render:train?lines=100", "render:train?lines=100"),
        ("pairs:folder/", "pairs:folder"),
    ],
)
def test_folders_of_this_machine_are_not_told(spec: str, expected: str) -> None:
    assert short(spec) == expected


def test_the_defaults_are_the_papers() -> None:
    from train.options import config, parser

    found = config(parser().parse_args(["--preset", "paper", "--out", "o", "--data", "ctr:x"]))
    assert isinstance(found, PaperConfig)
    assert (found.batch_size, found.learning_rate, found.steps, found.phases) == (64, 1e-5, 400_000, (10_000, 20_000))
    assert (found.schedule, found.betas, found.warmup_steps, found.clip) == ("constant", (0.9, 0.999), 0, 0.0)
    assert (found.precision, found.mom, found.tdm, found.text, found.text_weight) == (
        "bf16",
        "text",
        "frozen",
        "ocr",
        0,
    )
