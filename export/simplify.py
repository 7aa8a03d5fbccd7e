"""What exporting leaves to do that no general pass does: a few rewrites that change no result, only what it costs.

Kernels of ONNX Runtime cost microseconds each however small their work, and every elementwise one reads and writes its
whole map: together these rewrites save a `compact` step some 4% on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

NEUTRAL = {"Mul": 1.0, "Add": 0.0}
"""What changes nothing, by operator: group norms without weights are exported with ones and zeros."""


def simplify(program: ir.Model) -> None:
    """Rewrites ``program`` in place. Weights are inputs of its graph, without values."""
    common.ShapeInferencePass()(program)
    graph = program.graph
    for node in tuple(graph):
        if node.op_type in NEUTRAL:
            _drop_neutral(graph, node)
    for node in tuple(graph):
        if node.op_type == "Shape":
            _fix_shape(graph, node)
        elif node.op_type == "Add":
            _to_gemm(graph, node)
    common.RemoveUnusedNodesPass()(program)


def _sizes(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """A value's shape, None for each free axis; None where the shape is not known at all."""
    if value is None or value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def _drop_neutral(graph: ir.Graph, node: ir.Node) -> None:
    """x * 1 and x + 0, where they do not broadcast x."""
    output = node.outputs[0]
    for place, value in enumerate(node.inputs):
        other = node.inputs[1 - place]
        constant = None if value is None else value.const_value
        if constant is None or other is None or output.is_graph_output():
            continue
        same = _sizes(other) is not None and str(other.shape) == str(output.shape)
        if same and bool((constant.numpy() == NEUTRAL[node.op_type]).all()):
            ir.convenience.replace_all_uses_with(output, other)
            graph.remove(node, safe=True)
            return


def _fix_shape(graph: ir.Graph, node: ir.Node) -> None:
    """A shape that only tells Reshape what is known but for the batch: [-1, ...] says the same."""
    output, sizes = node.outputs[0], _sizes(node.inputs[0])
    uses = output.uses()
    whole = node.attributes.get_int("start", 0) == 0 and "end" not in node.attributes
    known = whole and sizes is not None and len(sizes) > 0 and None not in sizes[1:]
    if known and uses and all(use.node.op_type == "Reshape" and use.idx == 1 for use in uses):
        numbers = [-1, *(_size(sizes or (), axis) for axis in range(1, len(sizes or ())))]
        ir.convenience.replace_all_uses_with(output, _constant(graph, f"{output.name}_fixed", numbers))
        graph.remove(node, safe=True)


def _to_gemm(graph: ir.Graph, node: ir.Node) -> None:
    """x W^T + b of rows in more than one axis: as one Gemm over all rows, which adds b on its way."""
    product, bias = node.inputs
    matmul = None if product is None else product.producer()
    if matmul is None or matmul.op_type != "MatMul" or matmul.outputs[0].is_graph_output():
        return
    if bias is None or len(matmul.outputs[0].uses()) != 1:
        return
    rows, turned = matmul.inputs
    transpose = None if turned is None else turned.producer()
    if transpose is None or transpose.op_type != "Transpose" or not bias.is_graph_input():
        return
    weight, sizes, output = transpose.inputs[0], _sizes(rows), node.outputs[0]
    free = weight is None or not weight.is_graph_input() or len(_sizes(weight) or ()) != 2
    if free or rows is None or sizes is None or len(sizes) < 3 or None in sizes[1:] or output.is_graph_output():
        return
    flat = _reshape(graph, node, rows, (-1, _size(sizes, -1)), "rows")
    gemm = ir.node("Gemm", [flat, weight, bias], {"transB": 1}, name=f"{node.name}_gemm")
    gemm.outputs[0].name = f"{output.name}_sum"
    graph.insert_before(node, gemm)
    back = _reshape(graph, node, gemm.outputs[0], (-1, *(_sizes(output) or ())[1:]), "back")
    back.shape, back.type = output.shape, output.type
    ir.convenience.replace_all_uses_with(output, back)
    graph.remove(node, safe=True)


def _size(sizes: Sequence[int | None], axis: int) -> int:
    found = sizes[axis]
    assert found is not None
    return found


def _reshape(graph: ir.Graph, before: ir.Node, value: ir.Value, sizes: Sequence[int | None], what: str) -> ir.Value:
    """``value`` in another shape, by a node in front of ``before``, whose name says which block it is in."""
    name = f"{before.outputs[0].name}_{what}"
    target = _constant(graph, f"{name}_shape", [_size(sizes, axis) for axis in range(len(sizes))])
    node = ir.node("Reshape", [value, target], name=f"{before.name}_{what}")
    node.outputs[0].name = name
    graph.insert_before(before, node)
    return node.outputs[0]


def _constant(graph: ir.Graph, name: str, numbers: Sequence[int]) -> ir.Value:
    tensor = ir.tensor(np.array(numbers, np.int64), name=name)
    value = ir.Value(
        name=name, const_value=tensor, shape=ir.Shape([len(numbers)]), type=ir.TensorType(ir.DataType.INT64)
    )
    graph.register_initializer(value)
    return value
