"""Weights in shards: sizes, what is written last, what a damaged folder says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from textsr.errors import BundleError
from train import shards
from train.shards import HEADER, INDEX, join, write_shards


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    tensors = {f"part.{i}": torch.randn(64, 100 + i) for i in range(6)}
    tensors["part.counts"] = torch.arange(5)
    save_file(tensors, tmp_path / "model.safetensors", {"training": "[1]"})
    return tmp_path / "model.safetensors"


def test_shards_join_to_the_same_weights_in_half_precision(checkpoint: Path, tmp_path: Path) -> None:
    largest = HEADER + 2 * 2 * 64 * 110  # two tensors of half precision
    written = write_shards(checkpoint, tmp_path / "weights", {"seed": "4"}, largest=largest)
    assert len(written) == 3
    assert all(path.stat().st_size <= largest for path in written)
    join(tmp_path / "weights", tmp_path / "again.safetensors")
    before, after = load_file(checkpoint), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        expected = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(after[name], expected)
        assert after[name].dtype == tensor.dtype
    told = json.loads((tmp_path / "weights" / INDEX).read_text(encoding="utf-8"))["metadata"]
    assert told == {"training": "[1]", "seed": "4"}


def test_newer_shards_replace_older_ones_once_they_are_complete(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    first = write_shards(checkpoint, folder, {"step": "1"})
    (bad := tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"bad\.safetensors cannot be read"):
        write_shards(bad, folder, {"step": "2"})
    join(folder, tmp_path / "first.safetensors")
    second = write_shards(checkpoint, folder, {"step": "3"})
    assert sorted(folder.glob("weights-*")) == second
    assert set(first).isdisjoint(second)


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    save_file({"scale": torch.tensor([1e6])}, path)
    with pytest.raises(BundleError, match="tensor scale is not finite in"):
        write_shards(path, tmp_path / "weights", {})
    save_file({"wide": torch.zeros(1000)}, path)
    with pytest.raises(BundleError, match="tensor wide has 2000 bytes: no shard of 1000 holds it"):
        write_shards(path, tmp_path / "weights", {}, largest=HEADER + 1000)
    assert not list((tmp_path / "weights").glob("*"))


def test_a_damaged_shard_is_named(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shard,) = write_shards(checkpoint, tmp_path / "weights", {})
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert shards.main(["join", str(tmp_path / "weights"), "--out", str(tmp_path / "W")]) == 1
    assert f"{shard.name} is not the file that weights.json names" in capsys.readouterr().err
    assert not (tmp_path / "W").exists()
    assert shards.main(["join", str(tmp_path / "nowhere"), "--out", str(tmp_path / "W")]) == 1
    assert "does not hold a checkpoint in shards" in capsys.readouterr().err
