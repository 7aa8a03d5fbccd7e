"""Half precision as a GPU computes it, emulated on the CPU: every half node's outputs are rounded to half.

ONNX Runtime's CPU kernels compute half graphs in float32, fused and unrounded, and so hide what overflows. Here the
typed graph is taken back to float32 with a Cast to half and one back after each half node, and run with graph
optimisation off, so that the casts stay. Inside a node sums are float32, as on tensor cores and in TensorRT's norms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.half import FLOAT, HALF, MOVES, element_types
from textsr.errors import EngineError

EVALUATOR = (
    "ONNX Runtime on the CPU, optimisation off, of the typed graph in float32 with the outputs of every half node, its "
    "inputs, weights and constants rounded to half precision; sums within a node are float32"
)
"""What bundle.json says of the evaluator."""
EXACT = ".exact"
"""After the name of a value that is not rounded yet."""
PART = "#"
"""In the names of casts, after that of the node whose output they round."""
Arrays = Mapping[str, NDArray[Any]]


def emulated(model: ModelProto) -> ModelProto:
    """A typed graph as one in float32 that rounds where the typed one does. Weights are inputs, in float32."""
    types = element_types(model)
    found = ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    del graph.node[:], graph.initializer[:]
    for value in graph.input:
        if value.type.tensor_type.elem_type == HALF:
            value.type.tensor_type.elem_type = FLOAT
    graph.initializer.extend(map(_widened, model.graph.initializer))
    for node in model.graph.node:
        graph.node.extend(_rounding(node, types))
    return found


def _widened(tensor: TensorProto) -> TensorProto:
    if tensor.data_type != HALF:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _rounding(node: NodeProto, types: Mapping[str, int]) -> list[NodeProto]:
    """The node in float32, and the casts that round its half outputs."""
    made = NodeProto()
    made.CopyFrom(node)
    for attribute in made.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            attribute.t.CopyFrom(_widened(attribute.t))
        elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == HALF:
            attribute.i = FLOAT
    nodes = [made]
    if node.op_type in MOVES:
        return nodes
    for place, name in enumerate(node.output):
        if types.get(name) == HALF:
            made.output[place] = name + EXACT
            for source, target, kind in ((name + EXACT, f"{name}.16", HALF), (f"{name}.16", name, FLOAT)):
                called = f"{node.name}{PART}{place}.{kind}"
                nodes.append(helper.make_node("Cast", [source], [target], name=called, to=kind))
    return nodes


def open_plain(model: ModelProto, threads: int | None = None) -> ort.InferenceSession:
    """A session on the CPU that runs the graph as it is written, nothing fused, folded or left out."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class
        raise EngineError(f"graph {model.graph.name} cannot be loaded: {error}") from error


class PlainExecutor:
    """An executor over graphs in memory whose weights are inputs (`export.trace.TracedGraph`), run as written.

    It holds the weights of one graph at a time.
    """

    def __init__(self, name: str, models: Mapping[str, ModelProto], weights: Callable[[str], Arrays]) -> None:
        """``weights`` gives a graph's weights by name, float32 (or uint8)."""
        self.name, self._models, self._weights = name, models, weights
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._held: tuple[str, Arrays] = "", {}

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array itself."""
        return array

    def get(self, handle: NDArray[Any]) -> NDArray[Any]:
        """The array itself."""
        return handle

    def run(self, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs of ``graph`` by name. Raises EngineError where it cannot be loaded or run."""
        if graph not in self._sessions:
            self._sessions[graph] = open_plain(self._models[graph])
        if self._held[0] != graph:
            self._held = graph, self._weights(graph)
        return run_plain(self._sessions[graph], graph, inputs, self._held[1])


def run_plain(
    session: ort.InferenceSession, graph: str, inputs: Arrays, weights: Arrays, outputs: Sequence[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Outputs by name, all by default; what the graph takes beside ``inputs`` comes from ``weights``."""
    names = list(outputs or (value.name for value in session.get_outputs()))
    feeds = {v.name: inputs[v.name] if v.name in inputs else weights[v.name] for v in session.get_inputs()}
    try:
        return dict(zip(names, session.run(names, feeds), strict=True))
    except Exception as error:  # its errors share no base class
        raise EngineError(f"graph {graph} failed in the emulation: {error}") from error
