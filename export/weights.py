"""Weights stored once: one safetensors file under torch's names, and ONNX initializers that point into it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import nn

from export.trace import TracedGraph
from textsr.checkpoint import state
from textsr.checkpoint.writer import write_tensors
from textsr.errors import InputError

WEIGHTS = "weights.safetensors"
PRECISIONS = ("fp32", "fp16")
_TYPES = {
    "F32": TensorProto.FLOAT,
    "F16": TensorProto.FLOAT16,
    "U8": TensorProto.UINT8,
    "I64": TensorProto.INT64,
    "I32": TensorProto.INT32,
    "BOOL": TensorProto.BOOL,
    "F64": TensorProto.DOUBLE,
}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in the file: element type of ONNX, shape, and bytes from the file's start."""

    dtype: int
    shape: tuple[int, ...]
    offset: int
    length: int


def round_weights(model: nn.Module, precision: str) -> None:
    """Round the floating-point tensors of the state dict to what ``precision`` can store, in place.

    The torch reference then computes with exactly the numbers of the bundle.

    :raises InputError: the precision is unknown, or a weight is not finite or out of half precision's range.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    with torch.no_grad():
        for name, tensor in state(model).items():
            if not tensor.is_floating_point():
                continue
            stored = tensor.half() if precision == "fp16" else tensor.float()
            if not torch.isfinite(stored).all():
                reached = tensor.abs().max().item()
                raise InputError(f"weight {name} is not finite in {precision}: it reaches {reached:g}")
            tensor.copy_(stored)


def save_weights(model: nn.Module, path: Path, precision: str, metadata: Mapping[str, str]) -> None:
    """Write the checkpoint: floating-point tensors in ``precision``, the others as they are. Repeatable.

    Wide elements come first, as safetensors has it, so that every tensor is aligned in the file.
    """
    floats, tensors = torch.float16 if precision == "fp16" else torch.float32, state(model)
    kinds = {name: floats if tensor.is_floating_point() else tensor.dtype for name, tensor in tensors.items()}
    names = sorted(tensors, key=lambda name: (-kinds[name].itemsize, name))
    like = {name: torch.empty(tensors[name].shape, dtype=kinds[name], device="meta") for name in names}
    words = dict(sorted({"format": "textsr", **metadata}.items()))
    write_tensors(path, like, ((name, tensors[name]) for name in names), words)


def layout(path: Path) -> dict[str, StoredTensor]:
    """Place of every tensor of a safetensors file: 8 bytes header length (little endian), JSON header, data."""
    with path.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(size))
    return {
        name: StoredTensor(
            _TYPES[entry["dtype"]],
            tuple(entry["shape"]),
            8 + size + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def attach(traced: TracedGraph, stored: Mapping[str, StoredTensor], location: str = WEIGHTS) -> onnx.ModelProto:
    """The graph with its weights as initializers whose data is in ``location``, beside the graph's file.

    Weights that are stored in half precision get a Cast to float32, which ONNX Runtime folds at load.
    """
    model = onnx.ModelProto()
    model.CopyFrom(traced.model)
    graph = model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    renamed, casts = {}, []
    for name in traced.weights:
        tensor = stored[name]
        graph.initializer.append(_external(name, tensor, location))
        if tensor.dtype != types[name]:
            renamed[name] = f"{name}.cast"
            casts.append(onnx.helper.make_node("Cast", [name], [renamed[name]], name=renamed[name], to=types[name]))
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    nodes = [*casts, *graph.node]
    own = [value for value in graph.input if value.name not in set(traced.weights)]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.extend(own)
    return model


def _external(name: str, tensor: StoredTensor, location: str) -> TensorProto:
    proto = TensorProto(name=name, data_type=tensor.dtype, dims=tensor.shape)
    proto.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", tensor.offset), ("length", tensor.length)):
        proto.external_data.add(key=key, value=str(value))
    return proto


def inline_bytes(model: onnx.ModelProto) -> int:
    """Bytes of the initializers that lie in the graph itself."""
    return sum(
        int(np.prod(tensor.dims)) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in model.graph.initializer
        if tensor.data_location != TensorProto.EXTERNAL
    )
