"""``python -m train.ablations``: one start, the same lines, variants that differ in what they lack."""

from __future__ import annotations

import json
import queue
from dataclasses import replace
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

pytest.importorskip("rapidocr", reason="the recogniser's weights come with it")
pytest.importorskip("stlpips_pytorch", reason="the weights of the perceptual loss come with it")

from tests.train.small import write_pools
from textsr.checkpoint import load_model, read_metadata, save_model, stated_ablations, stated_preset
from textsr.config import ABLATIONS, TINY, ablated
from textsr.graphs import Model
from train import ablations, run
from train.lessons import CURRICULUM, FULL, VARIANTS, Plan

FEW = (FULL, CURRICULUM)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("ablations")
    write_pools(folder)
    torch.manual_seed(7)
    save_model(Model(TINY), folder / "tiny.safetensors")
    return Plan(
        lines=6, minutes=None, checkpoint=folder / "tiny.safetensors", out=folder / "out", pool=folder / "pool",
        val_pool=folder / "val", preset="tiny", batch_size=2, variants=FEW,
    )  # fmt: skip


def test_all_variants_have_one_start(plan: Plan) -> None:
    whole = ablations.whole_model(plan)
    given, again = whole.state_dict(), ablations.whole_model(plan).state_dict()
    checkpoint = load_model(plan.checkpoint, TINY).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in given.items())
    assert all(torch.equal(given[name], checkpoint[name]) for name in given if name.startswith("vqgan."))
    assert not torch.equal(given["unet.time_embed.0.weight"], checkpoint["unet.time_embed.0.weight"])
    first = "unet.input_blocks.0.0.weight"
    for name in ABLATIONS:
        own = ablations.without(whole, [name])
        assert own.preset == ablated(TINY, [name])
        tensors = own.state_dict()
        narrower = tensors.pop(first) if own.preset.glyph is None else None
        assert all(torch.equal(value, given[key]) for key, value in tensors.items()), name
        if narrower is not None:
            seen = [
                *range(7),
                *range(23, 27),
            ]  # z_t and lq, then z_y; the canvas between them and the painted line are gone
            assert torch.equal(narrower, given[first][:, seen])


def test_every_variant_has_the_same_lines(plan: Plan) -> None:
    plan = replace(plan, lines=4)
    alone = list(ablations.lessons(replace(plan, variants=(FULL,))))
    both = list(ablations.lessons(plan))
    assert [lesson.index for lesson in both] == [0, 1]
    assert [lesson.progress for lesson in both] == [0, 1 / 2]
    for one, two in zip(alone, both, strict=True):
        assert one.camera is None
        assert two.camera is not None
        assert one.mixed is not None
        assert two.mixed is not None
        assert torch.equal(one.mixed.z_t, two.mixed.z_t)
        assert torch.equal(one.mixed.lq, two.mixed.lq)
        for name in ("z_0", "hr", "t"):
            assert torch.equal(getattr(two.mixed, name), getattr(two.camera, name))
        np.testing.assert_array_equal(two.mixed.batch.reading.tokens, two.camera.batch.reading.tokens)
    first, second = both[0], both[1]
    assert not torch.equal(first.mixed.lq, first.camera.lq)  # type: ignore[union-attr]  # the curriculum's start
    resumed = list(islice(ablations.lessons(replace(plan, variants=(FULL,))), 1, None))
    assert torch.equal(resumed[0].mixed.z_t, second.mixed.z_t)  # type: ignore[union-attr]
    other = next(ablations.lessons(replace(plan, variants=(CURRICULUM,))))
    assert other.mixed is None
    assert torch.equal(other.camera.z_t, first.camera.z_t)  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ablations.run(plan) == 6
    told = json.loads((plan.out / "plan.json").read_text(encoding="utf-8"))
    assert (told["lines"], told["steps"], told["variants"]) == (6, 3, list(FEW))
    cut, whole = replace(plan, out=plan.out / "cut"), ablations.lessons
    monkeypatch.setattr(ablations, "lessons", lambda given: islice(whole(given), 1))
    assert ablations.run(cut) == 2
    monkeypatch.setattr(ablations, "lessons", whole)
    assert ablations.run(replace(cut, resume=True)) == 6
    start = ablations.whole_model(plan).state_dict()
    finals = []
    for name in FEW:
        files = [folder / name / "model.safetensors" for folder in (plan.out, cut.out)]
        metadata = read_metadata(files[0])
        assert stated_ablations(metadata) == VARIANTS[name]
        assert json.loads(metadata["training"])[-1]["progress"] == {"step": 3, "lines": 6}
        one, two = (load_model(file, stated_preset(TINY, metadata)).state_dict() for file in files)
        assert all(torch.equal(value, two[key]) for key, value in one.items()), name
        changed = {key.split(".")[0] for key, value in one.items() if not torch.equal(value, start[key])}
        assert changed == {"unet", "mom", "tdm"}
        finals.append(one["unet.out.2.weight"])
    assert not torch.equal(finals[0], finals[1])


@pytest.mark.slow
def test_processes_train_as_one_does(plan: Plan) -> None:
    """Those that are given the batches, as on a CPU, and those that make them for themselves, as on a GPU."""
    variants = FULL, "text"
    alone, shared = (replace(plan, out=plan.out / str(n), processes=n, variants=variants) for n in (1, 2))
    assert ablations.run(alone) == ablations.run(shared) == 6
    apart = replace(plan, out=plan.out / "apart", variants=variants)
    for lane in [ablations.Apart((name,), apart) for name in variants]:
        lane.end()
    for name in variants:
        files = [p.out / name / "model.safetensors" for p in (alone, shared, apart)]
        one, *others = (load_model(file, ablated(TINY, VARIANTS[name])).state_dict() for file in files)
        assert all(torch.equal(value, two[key]) for two in others for key, value in one.items()), name


def test_a_batch_is_in_shared_memory_before_this_process_goes_on(plan: Plan) -> None:
    """Else the queue's thread would move it there while this process trains on it."""
    (lesson,) = islice(ablations.lessons(plan), 1)
    lane = ablations.Elsewhere.__new__(ablations.Elsewhere)
    lane.names, lane.queue, lane.process = (FULL,), queue.Queue(), Mock(is_alive=lambda: True)  # type: ignore[assignment]
    assert lesson.mixed is not None
    assert not lesson.mixed.z_t.is_shared()
    lane.give(lesson)
    given = vars(lesson.mixed)
    tensors = {name: value for name, value in given.items() if isinstance(value, torch.Tensor)}
    assert {"hr", "lq", "z_0", "z_y", "z_t", "t"} <= tensors.keys()
    assert all(value.is_shared() for value in (*tensors.values(), *lesson.mixed.text))
    taken = vars(ForkingPickler.loads(lane.queue.get()).mixed)
    assert all(torch.equal(taken[name], value) for name, value in tensors.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--variants", "full,colour"], "choose of full, cross-attention"),
        (["--lines", "1"], "at least one batch of 2"),
        (["--processes", "9"], "1 to 1"),
        (["--minutes", "1", "--processes", "2", "--device", "cuda", "--variants", "full,text"], "give --lines alone"),
        (["--pool", "nowhere"], "no shard"),
        (["--resume"], "start without --resume"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    given = ["--lines", "4", "--preset", "tiny", "--batch-size", "2", "--out", str(tmp_path), "--pool", str(plan.pool)]
    given += ["--checkpoint", str(plan.checkpoint), "--variants", "full"]
    assert ablations.main([*given, *options]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("train.ablations: ")
    assert message in error


@pytest.mark.slow
def test_the_training_command_leaves_a_part_out(plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--stage", "diffusion", "--preset", "tiny", "--device", "cpu", "--batch-size", "2", "--minutes", "0.001"]
    given += ["--pool", str(plan.pool), "--val-pool", str(plan.val_pool), "--checkpoint", str(plan.checkpoint)]
    out = tmp_path / "out"
    assert run.main([*given, "--out", str(out), "--without", "text", "--without", "progressive-sampling"]) == 0
    metadata = read_metadata(out / "model.safetensors")
    assert stated_ablations(metadata) == ("text", "progressive-sampling")
    assert json.loads(metadata["training"])[-1]["options"]["without"] == ["text", "progressive-sampling"]
    shape = stated_preset(TINY, metadata)
    assert shape == ablated(TINY, ["text"])
    own = load_model(out / "model.safetensors", shape).state_dict()
    start = load_model(plan.checkpoint, TINY).state_dict()
    assert all(torch.equal(own[key], start[key]) for key in own if key.startswith("vqgan."))
    assert not any("text_blocks" in key for key in own)
    assert run.main([*given, "--out", str(out), "--resume", str(out)]) == 1
    assert "a run without ('text', 'progressive-sampling'), not without ()" in capsys.readouterr().err
