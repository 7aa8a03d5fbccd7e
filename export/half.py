"""Typed fp16: a traced graph whose nodes compute in half precision, but for those of the blocks that keep float32.

Every node has one compute type. Where a value crosses the border a Cast is inserted, once for all who read it. Graph
inputs and outputs keep their names and types, so that executors are interchangeable; weights become half precision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.blocks import ROOT, node_block
from export.trace import OPSET, TracedGraph
from textsr.errors import EngineError

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
STRUCTURAL = (ROOT, "vqgan.quantize")
"""Blocks that never compute in half: step constants, posteriors and draws; the distances to the code vectors."""
STRUCTURAL_OPS = frozenset({"Sin", "Cos", "ArgMin", "ArgMax", "CumSum", "TopK", "LogSoftmax"})
"""Operators that never do, with the arithmetic before an angle: half precision knows steps of 999 to one half only."""
KINDS = {
    "softmax": frozenset({"Softmax"}),
    "normalisation": frozenset({"InstanceNormalization", "LayerNormalization", "GroupNormalization"}),
}
"""Groups of operators that a keep-list may name like a block."""
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that do the bulk of the work."""
POINTWISE = ":pointwise"
"""After a block's name: all of the block but its `PRODUCTS`, whose operands are half then."""
MOVES = frozenset(
    {"Concat", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Pad", "Reshape"}
    | {"Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"}
)
"""Operators that only move values and so round nothing."""


@dataclass(frozen=True)
class HalfGraph:
    """A typed graph, and the indices (in the traced graph) of the nodes that compute in half precision."""

    graph: TracedGraph
    half: frozenset[int]


def element_types(model: ModelProto) -> dict[str, int]:
    """Element type of every value, proven by strict inference.

    :raises EngineError: types or shapes contradict each other.
    """
    try:
        graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise EngineError(f"graph {model.graph.name}: types do not fit: {error}") from error
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def node_blocks(model: ModelProto) -> list[str]:
    """Block of every node; those that a pass made are in the block of what they read, or else of what reads them."""
    nodes = model.graph.node
    found = [node_block(node.name) for node in nodes]
    made = {name: index for index, node in enumerate(nodes) for name in node.output}
    for index, node in enumerate(nodes):
        sources = (found[made[name]] for name in node.input if name in made)
        found[index] = found[index] or next((block for block in sources if block), "")
    read: dict[str, str] = {}
    for index in reversed(range(len(nodes))):
        readers = (read[name] for name in nodes[index].output if name in read)
        found[index] = found[index] or next(readers, ROOT)
        read.update(dict.fromkeys(nodes[index].input, found[index]))
    return found


def structural(model: ModelProto, blocks: list[str]) -> set[int]:
    """Indices of the nodes that compute in float32 whatever the keep-list says."""
    nodes = model.graph.node
    fixed = {index for index, node in enumerate(nodes) if node.op_type in STRUCTURAL_OPS or blocks[index] in STRUCTURAL}
    made = {name: index for index, node in enumerate(nodes) for name in node.output}
    pending = [index for index, node in enumerate(nodes) if node.op_type in ("Sin", "Cos")]
    while pending:
        before = {made[name] for name in nodes[pending.pop()].input if name in made} - fixed
        fixed |= before
        pending += before
    return fixed


def candidates(model: ModelProto) -> list[str]:
    """What a keep-list may name: the blocks with arithmetic that could be half, in the order of running, then kinds."""
    blocks, types = node_blocks(model), element_types(model)
    fixed, found, kinds = structural(model, blocks), dict[str, None](), dict[str, None]()
    for index, node in enumerate(model.graph.node):
        if index not in fixed and node.op_type not in MOVES and FLOAT in {types.get(name) for name in node.output}:
            found[blocks[index]] = None
            kinds.update(dict.fromkeys(kind for kind, operators in KINDS.items() if node.op_type in operators))
    return [*found, *kinds]


def half_nodes(model: ModelProto, keep: Collection[str]) -> frozenset[int]:
    """Indices of the nodes that compute in half precision when ``keep`` (`candidates`) computes in float32.

    A block of ``keep`` may end in `POINTWISE`.
    """
    blocks, types = node_blocks(model), element_types(model)
    fixed = structural(model, blocks)
    kept = frozenset().union(*(KINDS[name] for name in keep if name in KINDS))
    return frozenset(
        index
        for index, node in enumerate(model.graph.node)
        if index not in fixed
        and blocks[index] not in keep
        and (node.op_type in PRODUCTS or blocks[index] + POINTWISE not in keep)
        and node.op_type not in kept
        and FLOAT in {types.get(name) for name in (*node.input, *node.output)}
        and all(_may_be_half(node, place, "outputs") for place in _floats(node.output, types))
    )


def to_half(traced: TracedGraph, keep: Collection[str] = ()) -> HalfGraph:
    """The graph in half precision but for ``keep`` and what is structural.

    :raises EngineError: the result is not valid ONNX; a constant leaves half precision's range.
    """
    half = half_nodes(traced.model, keep)
    model = _Writer(traced, half).write()
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EngineError(f"graph {traced.name} in half precision is not valid ONNX: {error}") from error
    names = {name for node in model.graph.node for name in node.input}
    return HalfGraph(TracedGraph(traced.name, model, tuple(name for name in traced.weights if name in names)), half)


def _floats(names: Collection[str], types: dict[str, int]) -> Iterator[int]:
    return (place for place, name in enumerate(names) if types.get(name) == FLOAT)


def _may_be_half(node: NodeProto, place: int, side: str) -> bool:
    """Whether the operator takes half precision there: Resize's scales, for one, are float32 always."""
    schema = onnx.defs.get_schema(node.op_type, OPSET, node.domain)
    formal = getattr(schema, side)
    kind = formal[min(place, len(formal) - 1)].type_str
    allowed = {constraint.type_param_str: constraint.allowed_type_strs for constraint in schema.type_constraints}
    return "tensor(float16)" in allowed.get(kind, [kind])


class _Writer:
    """Writes the typed graph node by node; ``names`` has what each value is called in each type."""

    def __init__(self, traced: TracedGraph, half: frozenset[int]) -> None:
        self.source, self.half = traced, half
        self.types = element_types(traced.model)
        self.model = ModelProto()
        self.model.CopyFrom(traced.model)
        graph = self.model.graph
        self.constants = {tensor.name: tensor for tensor in traced.model.graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self.names: dict[tuple[str, int], str] = {}
        del graph.node[:], graph.initializer[:]

    def write(self) -> ModelProto:
        graph, weights = self.model.graph, set(self.source.weights)
        for value in graph.input:
            kind = value.type.tensor_type
            if value.name in weights and kind.elem_type == FLOAT:
                kind.elem_type = HALF
            self.names[value.name, kind.elem_type] = value.name
        for index, node in enumerate(self.source.model.graph.node):
            self._node(node, HALF if index in self.half else FLOAT)
        used = {name for node in graph.node for name in node.input}
        unused = [value for value in graph.input if value.name in weights - used]
        for value in unused:
            graph.input.remove(value)
        return self.model

    def _node(self, node: NodeProto, kind: int) -> None:
        made = NodeProto()
        made.CopyFrom(node)
        for place, name in enumerate(node.input):
            if self.types.get(name) == FLOAT:
                wanted = kind if _may_be_half(node, place, "inputs") else FLOAT
                made.input[place] = self._read(name, wanted, node)
            elif name in self.constants:
                made.input[place] = self._constant(name, self.types[name], node)
        results = list(_floats(node.output, self.types))
        if kind == HALF and results:
            _retype(made)
        self.model.graph.node.append(made)
        for place in results:
            name = node.output[place]
            called = f"{name}.half" if kind == HALF and name in self.outputs else name
            made.output[place] = self.model.graph.node[-1].output[place] = called
            self.names[name, kind] = called
        for place in results:
            if node.output[place] in self.outputs:
                self._read(node.output[place], FLOAT, node)

    def _read(self, name: str, kind: int, reader: NodeProto) -> str:
        """The value in type ``kind``, cast or stored where it is not there yet."""
        if (name, kind) in self.names:
            return self.names[name, kind]
        if name in self.constants:
            return self._constant(name, kind, reader)
        source = self.names[name, HALF if kind == FLOAT else FLOAT]
        suffix = "half" if kind == HALF else "float"
        called = name if kind == FLOAT and name in self.outputs else f"{name}.{suffix}"
        block = node_block(reader.name) or ROOT
        cast = helper.make_node("Cast", [source], [called], name=f"{block}/Cast_{name}.{suffix}", to=kind)
        self.model.graph.node.append(cast)
        self.names[name, kind] = called
        return called

    def _constant(self, name: str, kind: int, reader: NodeProto) -> str:
        if (name, kind) in self.names:
            return self.names[name, kind]
        tensor = TensorProto()
        tensor.CopyFrom(self.constants[name])
        if kind == HALF:
            tensor.CopyFrom(_halved(tensor, f"graph {self.source.name}, node {reader.name}: constant {name}"))
            tensor.name = f"{name}.half"
        self.model.graph.initializer.append(tensor)
        self.names[name, kind] = tensor.name
        return tensor.name


def _retype(node: NodeProto) -> None:
    """The attributes that hold a node's type of result: of casts to float32, and of constants."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
            attribute.i = HALF
        elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == FLOAT:
            attribute.t.CopyFrom(_halved(attribute.t, f"node {node.name}: its constant"))


def _halved(tensor: TensorProto, what: str) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16)
    if not np.isfinite(rounded[np.isfinite(values)]).all():
        raise EngineError(f"{what} reaches {np.abs(values).max():g}, more than half precision's 65504")
    return numpy_helper.from_array(rounded, tensor.name)
