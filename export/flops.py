"""How much of a graph's arithmetic runs on half operands, counted from shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from export.half import HALF, element_types
from textsr.errors import EngineError

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Work:
    """Multiply-adds of a graph's convolutions and matrix products for one line; ``half`` of them on half operands."""

    half: int
    total: int


def concrete_shapes(model: ModelProto, axes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Shape of every value where the free axes have the sizes ``axes``; values whose shape is not found are left out.

    :raises EngineError: shapes contradict each other.
    """
    sized = ModelProto()
    sized.CopyFrom(model)
    for value in (*sized.graph.input, *sized.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in axes:
                dim.dim_value = axes[dim.dim_param]
    try:
        graph = onnx.shape_inference.infer_shapes(sized, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise EngineError(f"graph {model.graph.name}: shapes do not fit: {error}") from error
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def multiply_adds(node: NodeProto, shapes: Shapes) -> int:
    """Multiply-adds of a convolution or matrix product; 0 of any other operator."""
    if node.op_type == "Conv":
        out, kernel = shapes[node.output[0]], shapes[node.input[1]]
        return int(np.prod(out)) * int(np.prod(kernel[1:]))
    if node.op_type == "ConvTranspose":
        return int(np.prod(shapes[node.input[0]])) * int(np.prod(shapes[node.input[1]][1:]))
    if node.op_type == "MatMul":
        return int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][-1]
    if node.op_type == "Gemm":
        turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][0 if turned else 1]
    return 0


def work(model: ModelProto, axes: Mapping[str, int]) -> Work:
    """The work of a typed graph (`export.half`): a node counts as half where all its floating-point operands are.

    :param axes: sizes of the free axes: B, and L where the graph has it.
    :raises EngineError: the shape of an operand is not known.
    """
    types, shapes, counted, total = element_types(model), concrete_shapes(model, axes), 0, 0
    for node in model.graph.node:
        try:
            cost = multiply_adds(node, shapes)
        except KeyError as error:
            raise EngineError(f"graph {model.graph.name}, node {node.name}: shape of {error} is not known") from error
        total += cost
        counted += cost * all(types[name] == HALF for name in node.input if name)
    return Work(counted, total)
