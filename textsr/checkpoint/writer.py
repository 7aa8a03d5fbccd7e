"""A safetensors file written one tensor at a time, so that its size does not matter to memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from textsr.errors import InputError
from textsr.images import atomic

DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.uint8: "U8", torch.int64: "I64"}


def write_tensors(
    path: Path, layout: Mapping[str, Tensor], tensors: Iterable[tuple[str, Tensor]], metadata: Mapping[str, str]
) -> None:
    """Writes ``path``, complete or not at all.

    :param layout: name, shape and type of every tensor, in the file's order; their values are not read (meta tensors).
    :param tensors: the same names in the same order with values, asked for one after the other.
    :raises InputError: the disk is too full, or the file cannot be written.
    """
    header, total = _header(layout, metadata), sum(tensor.nbytes for tensor in layout.values())
    bar = tqdm(total=total, desc=f"write {path.name}", unit="B", unit_scale=True, disable=None)
    with atomic(path) as stream, bar:
        free = shutil.disk_usage(path.parent).free
        if free < total + len(header):
            raise InputError(f"{path} needs {total >> 20} MiB, but its disk has only {free >> 20} MiB left")
        stream.write(header)
        for (name, like), (given, tensor) in zip(layout.items(), tensors, strict=True):
            if name != given or like.shape != tensor.shape:
                raise ValueError(f"tensor {given} {tuple(tensor.shape)} stands where {name} belongs")
            stream.write(tensor.detach().to(like.dtype).contiguous().numpy().tobytes())
            bar.update(like.nbytes)


def _header(layout: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Eight bytes of length, then JSON padded with spaces to a multiple of eight."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in layout.items():
        end = offset + tensor.nbytes
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
