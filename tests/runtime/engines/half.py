"""A bundle as ``--precision fp16`` writes it: weights and second graphs in half, whatever that does to its accuracy."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from safetensors.numpy import load_file, save_file

from export.half import to_half
from export.trace import TracedGraph
from export.weights import WEIGHTS, attach, layout
from runtime.bundle import Bundle


def with_half(folder: Path, out: Path) -> Bundle:
    """A copy at ``out`` of the bundle in ``folder``, its weights in half, and a half graph for each of its graphs."""
    bundle = Bundle.open(shutil.copytree(folder, out))
    tensors = load_file(folder / WEIGHTS)
    halves = {name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in tensors.items()}
    save_file(halves, out / WEIGHTS)
    stored, graphs = layout(out / WEIGHTS), dict(bundle.graphs)
    for name, graph in bundle.graphs.items():
        traced, half = detached(graph.path), bundle.path / f"{name}.half.onnx"
        graph.path.write_bytes(attach(traced, stored).SerializeToString())
        half.write_bytes(attach(to_half(traced).graph, stored).SerializeToString())
        graphs[name] = replace(graph, half=half)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bundle.path.iterdir()}
    return replace(bundle, files=files, graphs=graphs)


def detached(path: Path) -> TracedGraph:
    """The inverse of `export.weights.attach`, whatever the weights are stored in: float32 weights become inputs."""
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    weights = [tensor for tensor in graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    casts = [node for node in graph.node if node.name.endswith(".cast") and node.op_type == "Cast"]
    for cast in casts:
        graph.node.remove(cast)
    for node in graph.node:
        node.input[:] = [name.removesuffix(".cast") for name in node.input]
    for tensor in weights:
        kind = TensorProto.FLOAT if tensor.data_type == TensorProto.FLOAT16 else tensor.data_type
        graph.initializer.remove(tensor)
        graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, kind, tensor.dims))
    return TracedGraph(path.stem, model, tuple(tensor.name for tensor in weights))
