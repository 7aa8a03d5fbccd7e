"""A torch graph module as a small ONNX graph that names its weights instead of holding them."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common
import torch
from numpy.typing import NDArray
from onnxscript import optimizer
from polygraphy.backend.onnx import fold_constants
from polygraphy.logger import G_LOGGER
from torch import Tensor, nn

from export.blocks import named
from export.simplify import simplify
from textsr.errors import EngineError
from textsr.graphs import Graph

logger = logging.getLogger(__name__)

OPSET = 18
"""Read by ONNX Runtime and TensorRT alike. Group norms are decomposed below opset 21, which both take."""
FOLD_LIMIT = 32 * 1024
"""Bytes up to which constants are folded into the graph. What is larger, as the masks of shifted windows, is left as
the few nodes that compute it; ONNX Runtime folds these when it loads the graph."""
IR_VERSION = 10
EXPORT_BATCH = 2
"""Batch of the example inputs: 1 would be taken for a constant."""
FREE_AXES: Mapping[str, Mapping[int, str]] = {"prefix": {0: "B", 1: "L"}}
"""Free axes of inputs that have more than the batch."""
FIXED = frozenset({"t", "time", "constants", "modulations", "mom_modulations", "tdm_modulations"})
"""Inputs that are the same for the whole batch and have no batch axis."""


@dataclass(frozen=True)
class TracedGraph:
    """An exported graph. Its weights are inputs after its own, under torch's names, so that no pass can fold them.

    ``weights`` are the names of these inputs; `export.weights.attach` turns them into external initializers.
    """

    name: str
    model: onnx.ModelProto
    weights: tuple[str, ...]


def trace(name: str, module: Graph, inputs: Mapping[str, NDArray[Any]], state: Mapping[str, Tensor]) -> TracedGraph:
    """Export ``module`` with a free batch axis, folded and checked.

    :param inputs: example arrays by input name, batch `EXPORT_BATCH`.
    :param state: the model's state dict (`keep_vars` or not): floating-point and uint8 tensors found in it by their
        memory stay weights; index tables and constants outside it are folded.
    :raises EngineError: the graph cannot be exported or is not valid ONNX.
    """
    named = {tensor.data_ptr(): key for key, tensor in state.items() if tensor.numel() and _is_weight(tensor)}
    local = {key: named[tensor.data_ptr()] for key, tensor in _tensors(module).items() if tensor.data_ptr() in named}
    program = _export(name, module, inputs)
    weights = _promote_weights(program.graph, local)
    _forget_origin(program.graph)
    _fold(program)
    simplify(program)
    model = _sanitize(ir.to_proto(program), name)
    kept = _drop_unused(model, weights)
    logger.info("%s: %d nodes, %d weights", name, len(model.graph.node), len(kept))
    return TracedGraph(name, model, kept)


def free_axes(name: str) -> Mapping[int, str]:
    """Free axes of the graph input ``name``."""
    return {} if name in FIXED else FREE_AXES.get(name, {0: "B"})


def _is_weight(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.dtype == torch.uint8


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, shared ones under each of their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _export(name: str, module: Graph, inputs: Mapping[str, NDArray[Any]]) -> ir.Model:
    symbols = {symbol: torch.export.Dim(symbol, min=1, max=4096) for symbol in ("B", "L")}
    shapes: tuple[Any, ...] = tuple(
        {axis: symbols[symbol] for axis, symbol in free_axes(key).items()} or None for key in module.inputs
    )
    if any(kind.kind is kind.VAR_POSITIONAL for kind in inspect.signature(module.forward).parameters.values()):
        shapes = (shapes,)  # "*arrays" is one parameter
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                tuple(torch.from_numpy(inputs[key]) for key in module.inputs),
                dynamo=True,
                optimize=False,
                opset_version=OPSET,
                input_names=list(module.inputs),
                output_names=list(module.outputs),
                dynamic_shapes=shapes,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise EngineError(f"graph {name} cannot be exported to ONNX: {error}") from error
    assert program is not None
    return program.model


def _promote_weights(graph: ir.Graph, local: Mapping[str, str]) -> frozenset[str]:
    """Make the initializers that are weights inputs of the graph, once each, under the names of the state dict."""
    inputs: dict[str, ir.Value] = {}
    for key, value in list(graph.initializers.items()):
        if key not in local:
            continue
        del graph.initializers[key]
        full = local[key]
        if full in inputs:
            ir.convenience.replace_all_uses_with(value, inputs[full])
            continue
        value.const_value = None
        value.name = full
        inputs[full] = value
    graph.inputs.extend(inputs.values())
    return frozenset(inputs)


def _forget_origin(graph: ir.Graph) -> None:
    """Remove stack traces and other notes of the exporter, which hold paths of this machine.

    What they say of a node's module goes into its name first.
    """
    graph.metadata_props.clear()
    graph.doc_string = None
    for node in graph.all_nodes():
        node.name = named(node.name or "", node.metadata_props)
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()


def _fold(program: ir.Model) -> None:
    """Fold constants up to `FOLD_LIMIT`, drop idle nodes (casts to the same type), share what is computed twice.

    Folding by itself first is for speed: the rewriter's time grows with the square of the nodes.
    """
    limit = FOLD_LIMIT // 4  # in elements
    optimizer.fold_constants(program, input_size_limit=limit, output_size_limit=limit)
    ir.passes.common.RemoveUnusedNodesPass()(program)
    ir.passes.common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(program)
    ir.passes.common.CommonSubexpressionEliminationPass()(program)
    optimizer.optimize_ir(program, num_iterations=1, input_size_limit=limit, output_size_limit=limit)


def _sanitize(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """What ``polygraphy surgeon sanitize --fold-constants --cleanup`` does."""
    with G_LOGGER.verbosity(G_LOGGER.ERROR):
        model = fold_constants(model, error_ok=False, size_threshold=FOLD_LIMIT)
    del model.graph.value_info[:]
    del model.metadata_props[:]
    for value in model.graph.output:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_param = "B"  # enlargement by a float leaves "floor(1.0*B)"
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.graph.name = "textsr", "", name
    return model


def _drop_unused(model: onnx.ModelProto, weights: frozenset[str]) -> tuple[str, ...]:
    """Remove weights that no node reads; returns the others in the graph's order."""
    used = {name for node in model.graph.node for name in node.input}
    unused = [value for value in model.graph.input if value.name in weights and value.name not in used]
    for value in unused:
        model.graph.input.remove(value)
    return tuple(value.name for value in model.graph.input if value.name in weights)


def io_spec(model: onnx.ModelProto, weights: Sequence[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """``inputs`` and ``outputs`` as bundle.json lists them: name, shape (free axes by their symbol) and dtype."""
    skip = frozenset(weights)
    return {
        side: [_tensor_spec(value) for value in values if value.name not in skip]
        for side, values in (("inputs", model.graph.input), ("outputs", model.graph.output))
    }


def _tensor_spec(value: onnx.ValueInfoProto) -> dict[str, Any]:
    kind = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
    return {"name": value.name, "shape": [dim.dim_param or dim.dim_value for dim in kind.shape.dim], "dtype": dtype}
