"""Rewrites of exported graphs that trade arithmetic or passes over memory for fewer of them: see `export.simplify`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import ArrayLike

from export.building import constant, known_size, reshape, sizes_of

TAPS = {0: ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), 1: ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0))}
"""What the three taps across a doubled map become on the map itself, for its even and odd places: (2, 3)."""
LARGEST_DOUBLED = 1 << 20
"""Elements of a doubled map up to which `upsampled_convolution` pays. Putting four maps together is a pass over memory
on one thread; the decoder's larger maps do not win it back on two (measured: its graph takes 1.2 times as long)."""
SHORTEST_ARGMIN = 256
"""Length from which `argmin` takes an axis apart."""


def merged_reshape(graph: ir.Graph, node: ir.Node) -> None:
    """A Reshape of what a Reshape gave."""
    source, target = node.inputs
    before = None if source is None else source.producer()
    if before is None or before.op_type != "Reshape" or target is None or target.const_value is None:
        return
    if not bool((target.const_value.numpy() == 0).any()):  # 0 copies a size of the input's
        node.replace_input_with(0, before.inputs[0])


def gelu(graph: ir.Graph, node: ir.Node) -> None:
    """x (0.5 (1 + erf ...)) as (x (1 + erf ...)) 0.5: the order in which ONNX Runtime knows it as one operator."""
    for place, value in enumerate(node.inputs):
        halved = None if value is None else value.producer()
        if halved is None or halved.op_type != "Mul" or len(halved.outputs[0].uses()) != 1:
            continue
        for half, sum_ in (halved.inputs, halved.inputs[::-1]):
            added = None if sum_ is None else sum_.producer()
            if added is None or added.op_type != "Add" or not _is(half, 0.5) or not _erf(added):
                continue
            x = node.inputs[1 - place]
            node.replace_input_with(place, half)
            node.replace_input_with(1 - place, _Builder(graph, node)("Mul", [x, sum_], "whole"))
            return


def _is(value: ir.Value | None, number: float) -> bool:
    constant_ = None if value is None else value.const_value
    return constant_ is not None and constant_.size == 1 and float(constant_.numpy().item()) == number


def _erf(added: ir.Node) -> bool:
    makers = [value.producer() for value in added.inputs if value is not None]
    return any(maker is not None and maker.op_type == "Erf" for maker in makers)


def argmin(graph: ir.Graph, node: ir.Node) -> None:
    """The least of a long last axis: of its blocks' least ones first, then within that block. The same place, also
    among equals; ONNX Runtime's ArgMin looks at one number at a time, its ReduceMin at many."""
    x, sizes, output = node.inputs[0], sizes_of(node.inputs[0]), node.outputs[0]
    if x is None or sizes is None or len(sizes) < 2 or None in sizes[1:] or output.is_graph_output():
        return
    given, axes, length = node.attributes, len(sizes) - 1, known_size(sizes, -1)
    last_axis = given.get_int("axis", 0) in (-1, axes)
    if not last_axis or given.get_int("keepdims", 1) != 0 or given.get_int("select_last_index", 0) != 0:
        return
    blocks = max(count for count in range(1, math.isqrt(length) + 1) if length % count == 0)
    if length < SHORTEST_ARGMIN or blocks == 1:
        return
    build, size = _Builder(graph, node), length // blocks
    tiles = reshape(graph, node, x, (-1, *sizes[1:-1], blocks, size), "tiles")
    last = build.constant("last", [-1])
    least = build("ReduceMin", [tiles, last], "least", keepdims=0)
    block = build("ArgMin", [least], "block", axis=axes, keepdims=1)  # (B, ..., 1)
    tile = build("GatherND", [tiles, block], "tile", batch_dims=axes)  # (B, ..., size)
    place = build("ArgMin", [tile], "place", axis=axes, keepdims=0)
    start = build("Mul", [build("Squeeze", [block, last], "number"), build.constant("size", [size])], "start")
    build.replace(build("Add", [start, place], "found"))


def upsampled_convolution(graph: ir.Graph, node: ir.Node) -> None:
    """A 3x3 convolution of a map doubled by repetition: as four of 2x2 on the map itself, whose outputs interleave.

    16 products a place instead of 36, and the same sums: at even places the second and the third tap meet the same
    value, at odd ones the first and the second.
    """
    doubled = None if node.inputs[0] is None else node.inputs[0].producer()
    sizes = sizes_of(node.outputs[0])
    if doubled is None or doubled.op_type != "Resize" or not _doubles(doubled) or not _three_by_three(node):
        return
    if sizes is None or None in sizes[1:] or node.outputs[0].is_graph_output():
        return
    if math.prod(known_size(sizes, axis) for axis in (1, 2, 3)) > LARGEST_DOUBLED:
        return
    x, weight, *bias = doubled.inputs[0], *node.inputs[1:]
    build, parts = _Builder(graph, node), []
    for row in (0, 1):
        for column in (0, 1):
            kernel = _kernel(build, weight, row, column)
            pads = [1 - row, 1 - column, row, column]
            parts.append(build("Conv", [x, kernel, *bias], f"at{row}{column}", pads=pads))
    whole = build("Concat", parts, "parts", axis=1)  # (B, (2, 2, Cout), H, W)
    made = build("DepthToSpace", [whole], "interleaved", blocksize=2, mode="DCR")
    build.replace(made)


def _kernel(build: _Builder, weight: ir.Value | None, row: int, column: int) -> ir.Value:
    """(Cout, Cin, 2, 2) of the places with that parity, from (Cout, Cin, 3, 3): a constant where the graph runs."""
    across = build.constant(f"rows{row}", np.asarray(TAPS[row], np.float32))  # (2, 3)
    down = build.constant(f"columns{column}", np.asarray(TAPS[column], np.float32).T)  # (3, 2)
    return build("MatMul", [build("MatMul", [across, weight], f"rows{row}{column}"), down], f"kernel{row}{column}")


def _doubles(node: ir.Node) -> bool:
    """Whether a Resize repeats every row and column once."""
    given = node.attributes
    scales = node.inputs[2] if len(node.inputs) > 2 else None
    return (
        given.get_string("mode", "nearest") == "nearest"
        and given.get_string("coordinate_transformation_mode", "half_pixel") == "asymmetric"
        and given.get_string("nearest_mode", "round_prefer_floor") == "floor"
        and scales is not None
        and scales.const_value is not None
        and scales.const_value.numpy().tolist() == [1, 1, 2, 2]
    )


def _three_by_three(node: ir.Node) -> bool:
    """Whether a Conv has a 3x3 kernel, one place around, and nothing else."""
    weight = sizes_of(node.inputs[1])
    given = node.attributes
    ones = (given.get_ints(name, [1, 1]) for name in ("strides", "dilations"))
    return (
        weight is not None
        and weight[2:] == (3, 3)
        and given.get_int("group", 1) == 1
        and list(given.get_ints("pads", [0] * 4)) == [1] * 4
        and all(list(numbers) == [1, 1] for numbers in ones)
        and given.get_string("auto_pad", "NOTSET") == "NOTSET"
    )


class _Builder:
    """Puts nodes in front of one, named after it: the name says which block they are in."""

    def __init__(self, graph: ir.Graph, before: ir.Node) -> None:
        self._graph, self._before = graph, before

    def __call__(self, kind: str, inputs: Sequence[ir.Value | None], what: str, **attributes: object) -> ir.Value:
        made = ir.node(kind, inputs, attributes, name=f"{self._before.name}_{what}")  # type: ignore[arg-type]
        made.outputs[0].name = f"{self._before.outputs[0].name}_{what}"
        self._graph.insert_before(self._before, made)
        return made.outputs[0]

    def constant(self, what: str, values: ArrayLike) -> ir.Value:
        """An initializer, see `export.building.constant`."""
        return constant(self._graph, f"{self._before.outputs[0].name}_{what}", values)

    def replace(self, value: ir.Value) -> None:
        """``value`` takes the place of what the node in question gave, and the node goes."""
        output = self._before.outputs[0]
        value.shape, value.type = output.shape, output.type
        ir.convenience.replace_all_uses_with(output, value)
        self._graph.remove(self._before, safe=True)
