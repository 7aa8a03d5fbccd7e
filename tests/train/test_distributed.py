"""Two processes train what one would: torch's DistributedDataParallel over gloo, on a CPU, started by torchrun."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("stlpips_pytorch", reason="the weights of the perceptual loss come with it")

from safetensors.torch import load_file

from tests.train.small_paper import METADATA, tiny_model, write_data
from textsr.checkpoint import save_model
from textsr.errors import InputError
from train.distributed import open_group

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
RATE, MOVED = 1e-5, 1 - 0.9
"""Learning rate of the paper; what Adam's first moment takes of a first gradient."""


def run(folder: Path, out: str, options: list[str], start: tuple[str, ...] = ()) -> Path:
    """A step of ``train.run`` in fp32 on the data in ``folder``."""
    command = ["-m", "train.run", "--preset", "tiny", "--checkpoint", str(folder / "start.safetensors")]
    command += ["--data", f"pool:{folder / 'pool'}?split=all", "--data", f"pairs:{folder / 'pairs'}?split=all"]
    command += ["--device", "cpu", "--precision", "fp32", "--steps", "1", "--threads", "1", "--validate", "0"]
    command += ["--phases", "0", "0", "--out", str(folder / out), *options]
    done = subprocess.run([sys.executable, *start, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / out


def moments(folder: Path) -> dict[int, torch.Tensor]:
    """The gradients of a run's only step, by parameter."""
    state = torch.load(folder / "optimizer.pt", weights_only=True)["state"]
    return {number: values["exp_avg"] / MOVED for number, values in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [["--batch-size", "2"], ["--batch-size", "4", "--accumulate", "2", "--mom", "whole", "--tdm", "trained"]],
    ids=["plain", "accumulated, all parts"],
)
def test_two_processes_train_as_one_does(tmp_path: Path, options: list[str]) -> None:
    """In fp32 sums are taken in another order: gradients agree to 1e-3 of each value or 1e-4 of the largest of their
    tensor, losses to 1e-4; weights move by the learning rate in the same direction wherever the gradient is no rounding
    error."""
    write_data(tmp_path)
    save_model(tiny_model(), tmp_path / "start.safetensors", METADATA)
    one, two = run(tmp_path, "one", options), run(tmp_path, "two", options, TORCHRUN)
    first, second = moments(one), moments(two)
    assert first.keys() == second.keys()
    assert len(first) > 100
    for number, gradient in first.items():
        most = float(gradient.abs().max())
        assert most > 0
        torch.testing.assert_close(second[number], gradient, rtol=1e-3, atol=1e-4 * most)
    rows = [json.loads((out / "curves.jsonl").read_text(encoding="utf-8").splitlines()[-1]) for out in (one, two)]
    figures = rows[0].keys() - {"seconds", "samples_per_second", "data_wait_share"}
    assert {"loss", "l1", "perceptual", "recognizer", "grad_norm", "lr", "step"} <= figures
    assert {name: rows[1][name] for name in figures} == pytest.approx({n: rows[0][n] for n in figures}, rel=1e-4)
    before = load_file(tmp_path / "start.safetensors")
    weights, others = (load_file(out / "model.safetensors") for out in (one, two))
    assert any(not torch.equal(weights[name], before[name]) for name in before)
    apart = torch.cat([(weights[name] - others[name]).abs().flatten() for name in weights if "unet" in name])
    assert apart.max() <= 2.1 * RATE
    assert (apart < 0.1 * RATE).float().mean() > 0.99
    assert list((two / "tensorboard").glob("events*"))


def test_a_numbered_device_is_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="--device"):
        open_group("cuda:0")


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    group = open_group("cpu")
    module = torch.nn.Linear(1, 1)
    assert group.wrap(module) is module
    assert group.leads
    assert group.any(True)
    assert not group.any(False)
    assert group.means({"a": 1.0}) == {"a": 1.0}
    with group.accumulating():
        group.wait()
    group.close()
