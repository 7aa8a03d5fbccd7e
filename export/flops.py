"""How much of a graph's arithmetic runs on half operands, counted from shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from export.emulate import EXACT, Arrays, open_plain, run_plain
from export.half import HALF, PRODUCTS, element_types

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Work:
    """Multiply-adds of a graph's convolutions and matrix products for one line; ``half`` of them on half operands."""

    half: int
    total: int


def one_line(model: ModelProto, inputs: Arrays, place: int = 0) -> dict[str, NDArray[Any]]:
    """One line of a graph's inputs: those whose first axis is the batch, B, cut to the entry ``place``."""
    batched = {
        value.name
        for value in model.graph.input
        if [dim.dim_param for dim in value.type.tensor_type.shape.dim[:1]] == ["B"]
    }
    return {name: value[place : place + 1] if name in batched else value for name, value in inputs.items()}


def observed_shapes(model: ModelProto, inputs: Arrays, weights: Arrays) -> dict[str, tuple[int, ...]]:
    """Shapes of what convolutions and matrix products read and make, as seen in a run of the emulation.

    Inference does not find all of them: sizes that a graph works out from other sizes.

    :param model: from `export.emulate.emulated`.
    :raises EngineError: the graph cannot be run.
    """
    nodes = [node for node in model.graph.node if node.op_type in PRODUCTS]
    names = sorted({name.removesuffix(EXACT) for node in nodes for name in (*node.input, *node.output) if name})
    measured = ModelProto()
    measured.CopyFrom(model)
    for name in names:
        measured.graph.node.append(helper.make_node("Shape", [name], [f"{name}.shape"], name=f"{name}.shape"))
        measured.graph.output.append(helper.make_tensor_value_info(f"{name}.shape", TensorProto.INT64, None))
    asked = [f"{name}.shape" for name in names]
    found = run_plain(open_plain(measured), model.graph.name, inputs, weights, asked) if asked else {}
    return {name: tuple(int(size) for size in found[f"{name}.shape"]) for name in names}


def multiply_adds(node: NodeProto, shapes: Shapes) -> int:
    """Multiply-adds of one of `PRODUCTS`; a bias is not counted."""
    if node.op_type == "Conv":
        out, kernel = shapes[node.output[0]], shapes[node.input[1]]
        return int(np.prod(out)) * int(np.prod(kernel[1:]))
    if node.op_type == "ConvTranspose":
        return int(np.prod(shapes[node.input[0]])) * int(np.prod(shapes[node.input[1]][1:]))
    if node.op_type == "MatMul":
        return int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][-1]
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)  # Gemm
    return int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][0 if turned else 1]


def work(model: ModelProto, shapes: Shapes) -> Work:
    """The work of a typed graph (`export.half`): a node counts as half where all its operands are.

    :param shapes: of the operands and results, for one line (`observed_shapes`).
    """
    types, counted, total = element_types(model), 0, 0
    for node in model.graph.node:
        if node.op_type in PRODUCTS:
            cost = multiply_adds(node, shapes)
            total += cost
            counted += cost * all(types[name] == HALF for name in node.input if name)
    return Work(counted, total)
