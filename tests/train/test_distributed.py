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

from tests.train.small import write_pools
from tests.train.small_paper import METADATA, tiny_model, write_data
from textsr.checkpoint import save_model
from textsr.config import TINY
from textsr.errors import InputError
from textsr.graphs import Model
from train.distributed import RANK_SEEDS, Group, open_group

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
RATE, MOVED = 1e-5, 1 - 0.9
ROUNDING = 2e-3
"""Share of a tensor's largest gradient that the order of sums may change. An L1 loss makes it coarse: a pixel that
comes to lie on the other side of the truth turns its gradient round. Three variants of ``tiny`` measured 5e-5, 3e-4 and
9e-4; gradients of other samples differ by a third and more."""
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
    """In fp32 sums are taken in another order: gradients agree to 1e-3 of each value or `ROUNDING` of the largest of
    their tensor, losses to 1e-4; weights move by the learning rate in the same direction wherever the gradient is no
    rounding error."""
    write_data(tmp_path)
    save_model(tiny_model(), tmp_path / "start.safetensors", METADATA)
    one, two = run(tmp_path, "one", options), run(tmp_path, "two", options, TORCHRUN)
    first, second = moments(one), moments(two)
    assert first.keys() == second.keys()
    assert len(first) > 100
    for number, gradient in first.items():
        most = float(gradient.abs().max())
        assert most > 0
        torch.testing.assert_close(second[number], gradient, rtol=1e-3, atol=ROUNDING * most)
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


@pytest.mark.slow
def test_two_processes_share_the_lines_of_a_pool(tmp_path: Path) -> None:
    """Their gradient is the mean of what each of them has alone, on its own lines and noise."""
    write_pools(tmp_path)
    save_model(Model(TINY), tmp_path / "W.safetensors")

    def trained(out: str, seed: int, batch: int, start: tuple[str, ...] = ()) -> dict[int, torch.Tensor]:
        command = ["-m", "train.run", "--stage", "distil", "--no-teacher", "--few-steps", "1", "--preset", "tiny"]
        command += ["--device", "cpu", "--precision", "fp32", "--steps", "1", "--clip", "0", "--threads", "1"]
        command += ["--pool", str(tmp_path / "pool"), "--val-pool", str(tmp_path / "val"), "--out", str(tmp_path / out)]
        command += ["--checkpoint", str(tmp_path / "W.safetensors"), "--seed", str(seed), "--batch-size", str(batch)]
        done = subprocess.run([sys.executable, *start, *command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return moments(tmp_path / out)

    both = trained("both", 3, 4, TORCHRUN)
    first, second = trained("first", 3, 2), trained("second", 3 + RANK_SEEDS, 2)
    assert both.keys() == first.keys() | second.keys()
    assert any(not torch.equal(first[number], second[number]) for number in first.keys() & second.keys())
    for number, gradient in both.items():
        nothing = torch.zeros_like(gradient)
        mean = (first.get(number, nothing) + second.get(number, nothing)) / 2
        torch.testing.assert_close(gradient, mean, rtol=1e-3, atol=1e-4 * float(mean.abs().max()))


def test_the_mean_of_gradients_counts_what_is_missing_as_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(torch.device("cpu"), rank=0, world=2)
    others = torch.tensor([1.0, 2.0, 3.0, 4.0])  # of the other process, all parameters in a row
    monkeypatch.setattr(group, "_sum", lambda values: values + others)
    known, unknown, frozen = (torch.nn.Parameter(torch.zeros(shape)) for shape in ((2,), (2, 1), (5,)))
    frozen.requires_grad_(False)
    known.grad = torch.tensor([3.0, 4.0])
    group.average_gradients([known, frozen, unknown])
    assert known.grad.tolist() == [2.0, 3.0]
    assert unknown.grad is not None
    assert unknown.grad.tolist() == [[1.5], [2.0]]
    assert frozen.grad is None


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
