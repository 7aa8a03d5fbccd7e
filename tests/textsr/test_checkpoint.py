"""Checkpoints: round trips, and what is said of files that do not fit, are damaged, or would run code."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from textsr.checkpoint import CONSTRUCTED, load_model, load_weights, read_metadata, save_model, state
from textsr.config import COMPACT, TINY
from textsr.errors import BundleError
from textsr.networks.swin import SwinLayer
from textsr.networks.vqgan import VQGAN


def vqgan(seed: int = 0) -> VQGAN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VQGAN(TINY.vqgan)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_whole_model_comes_back(tmp_path: Path) -> None:
    model, path = load_model(None, TINY, seed=3), tmp_path / "model.safetensors"
    save_model(model, path, {"training": "none"})
    assert same(load_model(path, TINY, seed=4), model)
    assert read_metadata(path) == {"format": "textsr", "training": "none"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]  # nothing unfinished is left
    tensors = load_file(path)
    assert not [name for name in tensors if name.endswith(CONSTRUCTED)]
    assert tensors["glyph_canvas.atlas"].dtype == torch.uint8
    assert tensors["glyph_canvas.atlas"].any()


def test_random_weights_depend_on_the_seed_and_leave_torch_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = load_model(None, TINY, 1), load_model(None, TINY, 1), load_model(None, TINY, 2)
    assert torch.equal(torch.rand(3), expected)
    assert same(first, again)
    assert not same(first, other)
    assert not first.training
    assert all(bool((model.state_dict()["unet.out.2.weight"] != 0).any()) for model in (first, other))


def test_half_precision_comes_back_as_single(tmp_path: Path) -> None:
    model, path = vqgan(), tmp_path / "half.safetensors"
    save_model(model, path, dtype=torch.float16)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    loaded = vqgan(1)
    load_weights(loaded, path)
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, model.state_dict()[name].half().float())


def test_parts_replace_children(tmp_path: Path) -> None:
    whole, part, path = nn.ModuleDict({"a": vqgan(0), "b": vqgan(1)}), vqgan(2), tmp_path / "parts.safetensors"
    save_model(whole, path, parts={"b": part})
    for prefix, expected in (("a.", whole["a"]), ("b.", part)):
        loaded = vqgan(9)
        load_weights(loaded, path, prefix=prefix)
        assert same(loaded, expected)


def test_what_a_network_builds_itself_may_be_there_or_not(tmp_path: Path) -> None:
    layer, path = SwinLayer(8, 1, TINY.unet), tmp_path / "swin.safetensors"
    full = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    assert any(name.endswith("relative_position_index") for name in full)
    save_file({**full, "blocks.1.attn_mask": torch.zeros(2, 2)}, path)
    load_weights(SwinLayer(8, 1, TINY.unet), path)
    save_file(state(layer), path)
    load_weights(SwinLayer(8, 1, TINY.unet), path)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_what_does_not_fit_is_named_and_nothing_is_loaded(tmp_path: Path, change: str) -> None:
    path, tensors = tmp_path / "wrong.safetensors", state(vqgan(1))
    name = "decoder.conv_in.weight"
    if change == "missing":
        del tensors[name]
    elif change == "unexpected":
        name = "decoder.conv_before.weight"
        tensors[name] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(2, 4, 3, 3)
    save_file(tensors, path)
    model, before = vqgan(), vqgan()
    with pytest.raises(BundleError, match="--preset") as caught:
        load_weights(model, path)
    assert name in str(caught.value)
    assert str(path) in str(caught.value)
    assert same(model, before)


def test_another_preset_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_model(load_model(None, TINY), path)
    with pytest.raises(BundleError, match="does not fit"):
        load_model(path, COMPACT)


DAMAGE = {
    "empty": lambda whole, header: b"",
    "length only": lambda whole, header: whole[:8],
    "half a header": lambda whole, header: whole[: header // 2],
    "no tensors": lambda whole, header: whole[:header],
    "truncated": lambda whole, header: whole[:-1],
    "longer": lambda whole, header: whole + b"\0",
    "huge header": lambda whole, header: (2**60).to_bytes(8, "little") + whole[8:],
    "header is no JSON": lambda whole, header: whole[:8] + b"x" * (header - 8) + whole[header:],
    "header is no text": lambda whole, header: whole[:12] + b"\xff\xfe" + whole[14:],
    "another kind of file": lambda whole, header: b"not a checkpoint at all, but long enough to hold a length",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "damaged.safetensors"
    save_model(vqgan(), path)
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[kind](whole, 8 + int.from_bytes(whole[:8], "little")))
    with pytest.raises(BundleError, match=r"damaged\.safetensors cannot be read"):
        load_weights(vqgan(), path)
    with pytest.raises(BundleError, match=r"damaged\.safetensors cannot be read"):
        read_metadata(path)


def test_any_flipped_byte_of_the_header_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "flipped.safetensors"
    save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for place in range(8 + int.from_bytes(whole[:8], "little")):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with contextlib.suppress(BundleError):  # any other error fails the test
            load_weights(nn.Linear(3, 2), path)


@pytest.mark.parametrize("missing", ["nothing.safetensors", "."])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        load_model(tmp_path / missing, TINY)


class Bomb:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for name, write in (("pickle", pickle.dump), ("torch", torch.save)):
        path = tmp_path / f"{name}.safetensors"
        with path.open("wb") as file:
            write({"state_dict": Bomb(mark)}, file)
        with pytest.raises(BundleError, match="cannot be read"):
            load_weights(vqgan(), path)
        assert not mark.exists()
