"""Checkpoints whose headers lie, and what is no checkpoint: refused, in little memory, and no pipe is waited for."""

from __future__ import annotations

import copy
import json
import os
import struct
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from textsr.checkpoint import load_weights, read_metadata, read_published
from textsr.errors import BundleError

HEADER: dict[str, Any] = {
    "weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "bias": {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]},
}


def changed(**bias: Any) -> dict[str, Any]:
    header = copy.deepcopy(HEADER)
    header["bias"].update(bias)
    return header


def safetensors(header: dict[str, Any] | bytes, data: int, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data)


LYING = {
    "a header longer than the file": safetensors(HEADER, 32, 10**6),
    "a header beyond reason": safetensors(HEADER, 32, 1 << 63),
    "no header": safetensors(HEADER, 32, 0),
    "too little data": safetensors(HEADER, 20),
    "too much data": safetensors(HEADER, 64),
    "tensors that overlap": safetensors(changed(data_offsets=[16, 24]), 24),
    "a hole between tensors": safetensors(changed(data_offsets=[28, 36]), 36),
    "a shape beyond its data": safetensors(changed(shape=[1 << 40]), 32),
    "a shape that overflows": safetensors(changed(shape=[1 << 62, 4]), 32),
    "a negative side": safetensors(changed(shape=[-2]), 32),
    "a type that is none": safetensors(changed(dtype="F99"), 32),
    "another type": safetensors(changed(dtype="I64", shape=[1]), 32),
    "a deep header": safetensors(b'{"a":' * 100_000, 0),
    "metadata that are no strings": safetensors({**HEADER, "__metadata__": {"a": 1}}, 32),
}


@pytest.mark.parametrize("name", LYING)
def test_headers_that_lie(tmp_path: Path, name: str) -> None:
    path = tmp_path / "lying.safetensors"
    path.write_bytes(LYING[name])
    model = nn.Linear(3, 2)
    before = model.bias.detach().clone()
    with pytest.raises(BundleError, match=r"lying\.safetensors"):
        load_weights(model, path)
    assert torch.equal(model.bias, before)


def test_a_header_that_is_true(tmp_path: Path) -> None:
    (tmp_path / "true.safetensors").write_bytes(safetensors(HEADER, 32))
    load_weights(nn.Linear(3, 2), tmp_path / "true.safetensors")


@pytest.mark.parametrize("content", [b"", bytes(1 << 20)], ids=["small", "large"])
def test_a_zip_that_is_compressed_is_not_unpacked(tmp_path: Path, content: bytes) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "whole.pth")
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in whole.infolist():
            bomb.writestr(entry.filename, whole.read(entry) + content)
    with pytest.raises(BundleError, match=r"compressed, which torch\.save never does"):
        read_published(tmp_path / "bomb.pth")


def test_no_pipe_is_waited_for(tmp_path: Path) -> None:
    said = []

    def read() -> None:
        for name in ("pipe.safetensors", "pipe.pth"):
            os.mkfifo(tmp_path / name)
            for reader in (read_metadata, read_published, lambda path: load_weights(nn.Linear(3, 2), path)):
                with pytest.raises(BundleError) as error:
                    reader(tmp_path / name)
                said.append(str(error.value))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert len(said) == 6
    assert all("this is no file" in message for message in said)
