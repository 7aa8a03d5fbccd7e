"""Nodes and constants put into a graph of onnx_ir, for the rewrites of `export.simplify` and `export.rewrites`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike


def sizes_of(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """A value's shape, None for each free axis; None where the shape is not known at all."""
    if value is None or value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def known_size(sizes: Sequence[int | None], axis: int) -> int:
    """The size of an axis that is not free."""
    found = sizes[axis]
    assert found is not None
    return found


def constant(graph: ir.Graph, name: str, values: ArrayLike) -> ir.Value:
    """An initializer: whole numbers are int64. One of that name that is there is taken."""
    if name in graph.initializers:
        return graph.initializers[name]
    array = np.asarray(values)
    tensor = ir.tensor(array if array.dtype == np.float32 else array.astype(np.int64), name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value


def reshape(graph: ir.Graph, before: ir.Node, value: ir.Value, sizes: Sequence[int | None], what: str) -> ir.Value:
    """``value`` in another shape, by a node in front of ``before``, whose name says which block it is in."""
    name = f"{before.outputs[0].name}_{what}"
    target = constant(graph, f"{name}_shape", [known_size(sizes, axis) for axis in range(len(sizes))])
    node = ir.node("Reshape", [value, target], name=f"{before.name}_{what}")
    node.outputs[0].name = name
    graph.insert_before(before, node)
    return node.outputs[0]
