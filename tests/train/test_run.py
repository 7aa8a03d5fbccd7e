"""``python -m train.run``: both stages of ``tiny`` from rendered lines to a checkpoint that restores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rapidocr", reason="the recogniser's weights come with it")
pytest.importorskip("stlpips_pytorch", reason="the weights of the perceptual loss come with it")

from tests.train.small import write_pools
from textsr.checkpoint import load_model, read_metadata, save_model
from textsr.config import TINY
from textsr.errors import BundleError
from textsr.graphs import Model
from train import fonts, run, shards, start
from train.pool import PoolJob, write_pool

needs_fonts = pytest.mark.skipif(
    not any(face.script == "han" for face in fonts.discover(split="train")),
    reason="no Chinese fonts on this machine (Debian fonts-noto-cjk, fonts-wqy-microhei, ...)",
)


def command(stage: str, folder: Path, *options: str, minutes: float = 0.05) -> int:
    given = ["--stage", stage, "--preset", "tiny", "--minutes", str(minutes), "--device", "cpu", "--batch-size", "4"]
    given += ["--precision", "fp32"]  # every processor multiplies in it
    places = ["--pool", str(folder / "pool"), "--val-pool", str(folder / "val"), "--out", str(folder / stage)]
    return run.main([*given, *places, *options])


@needs_fonts
def test_both_stages_end_in_a_checkpoint(tmp_path: Path) -> None:
    for name, lines in (("pool", 16), ("val", 3)):
        write_pool(PoolJob(out=str(tmp_path / name), lines=lines, seed=lines, split="train", picture_folders=()))
    assert command("autoencoder", tmp_path, "--threads", "1", "--steps", "6", minutes=5) == 0
    first = tmp_path / "autoencoder" / "model.safetensors"
    assert command("diffusion", tmp_path, "--checkpoint", str(first), "--steps", "6", minutes=5) == 0
    second = tmp_path / "diffusion" / "model.safetensors"
    trained, before = load_model(second, TINY).state_dict(), load_model(first, TINY).state_dict()
    for part, kept in (("vqgan", True), ("transocr", True), ("unet", False), ("mom", False), ("tdm", False)):
        same = [torch.equal(trained[name], before[name]) for name in before if name.startswith(f"{part}.")]
        assert all(same) == kept, part
    assert all(torch.isfinite(tensor.float()).all() for tensor in trained.values())
    earlier, training = json.loads(read_metadata(second)["training"])
    assert earlier["options"]["stage"] == "autoencoder"
    assert "/" not in json.dumps(training["options"])
    assert training["options"]["stage"] == "diffusion"
    assert training["progress"]["step"] > 0
    assert {"psnr", "psnr_bicubic"} == training["validation"].keys()
    rows = [json.loads(row) for row in (tmp_path / "diffusion" / "curves.jsonl").read_text("utf-8").splitlines()]
    assert rows[-1]["step"] == training["progress"]["step"]
    assert np.isfinite(rows[-1]["latent"])


def test_weights_that_do_not_see_the_painted_line_are_a_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    narrow = replace(TINY, unet=replace(TINY.unet, painted_channels=0))
    torch.manual_seed(1)
    before, path = Model(narrow), tmp_path / "narrow.safetensors"
    save_model(before, path)
    model, first = Model(TINY), "unet.input_blocks.0.0.weight"
    start.load_start(model, path, ())
    assert "does not see the painted line yet" in caplog.text
    given = before.state_dict()
    for name, tensor in model.state_dict().items():
        old = given[name]
        if name == first:
            assert tensor.shape[1] == old.shape[1] + TINY.unet.painted_channels
            assert not tensor[:, old.shape[1] :].any()
        assert torch.equal(tensor[:, : old.shape[1]] if name == first else tensor, old), name
    caplog.clear()
    save_model(model, path)
    start.load_start(Model(TINY), path, ())
    assert not caplog.text
    other = replace(narrow, unet=replace(narrow.unet, glyph_channels=0), glyph=None)
    save_model(Model(other), path)
    with pytest.raises(BundleError, match="does not fit"):
        start.load_start(model, path, ())


@pytest.mark.slow
def test_every_save_leaves_shards_that_join_to_the_weights(tmp_path: Path) -> None:
    write_pools(tmp_path)
    first, parts = tmp_path / "first.safetensors", tmp_path / "shards"
    save_model(Model(TINY), first)
    options = ("--checkpoint", str(first), "--steps", "2", "--workers", "1", "--shards", str(parts))
    assert command("diffusion", tmp_path, *options, minutes=5) == 0
    shards.main(["join", str(parts), "--out", str(tmp_path / "joined.safetensors")])
    joined = load_model(tmp_path / "joined.safetensors", TINY).state_dict()
    for name, tensor in load_model(tmp_path / "diffusion" / "model.safetensors", TINY).state_dict().items():
        torch.testing.assert_close(joined[name].float(), tensor.float(), rtol=1e-3, atol=1e-3)
    metadata = read_metadata(tmp_path / "joined.safetensors")
    assert json.loads(metadata["curves"])[-1]["step"] == 2
    assert json.loads(metadata["training"])[-1]["progress"]["step"] == 2


def test_resume_of_a_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pools(tmp_path)
    assert command("autoencoder", tmp_path, minutes=0.01) == 0
    out = tmp_path / "autoencoder"
    before = json.loads((out / "state.json").read_text(encoding="utf-8"))["progress"]
    assert command("autoencoder", tmp_path, "--resume", str(out), minutes=0.01) == 0  # nothing to do
    assert json.loads((out / "state.json").read_text(encoding="utf-8"))["progress"] == before
    minutes = before["seconds"] / 60 + 0.01
    assert command("autoencoder", tmp_path, "--resume", str(out), minutes=minutes) == 0
    after = json.loads((out / "state.json").read_text(encoding="utf-8"))["progress"]
    assert after["step"] > before["step"]
    assert command("diffusion", tmp_path, "--resume", str(out)) == 1
    assert "not of ('diffusion', 'tiny')" in capsys.readouterr().err


def test_options_of_another_stage_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--out", str(tmp_path), "--preset", "tiny", "--checkpoint", str(tmp_path)]
    for given, message in (
        (["--stage", "diffusion", "--minutes", "1", "--ocr", "ppocr"], "--ocr: not an option of --stage diffusion"),
        (["--lines", "5"], "--lines: not an option of --stage paper"),
        (["--stage", "autoencoder"], "give --minutes or --steps"),
        (["--steps", "0"], "positive number of steps"),
        (["--accumulate", "0", "--data", "x"], "--accumulate is at least 1"),
        ([], "--stage paper needs --data"),
    ):
        assert run.main([*places, *given]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "2"], "--workers concerns the other stages"),
        (["--minutes", "0"], "positive number of minutes"),
        (["--true-text-share", "1.5"], "--true-text-share lie in [0, 1]"),
        (["--pool", "nowhere"], "no shard"),
        (["--checkpoint", "nothing.safetensors"], "cannot be read"),
        (["--resume", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    write_pools(tmp_path)
    assert command("autoencoder", tmp_path, *options) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("train.run: ")
    assert message in error
