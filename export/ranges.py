"""What a graph's values reach: the largest magnitude of every tensor, and the first node where a value goes wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.emulate import PART, Arrays, open_plain, run_plain
from export.half import FLOAT, PRODUCTS, element_types

HIGHEST, LOWEST, TOTAL = ".highest", ".lowest", ".total"
_REDUCE = {HIGHEST: "ReduceMax", LOWEST: "ReduceMin", TOTAL: "ReduceL1"}


@dataclass(frozen=True)
class Reached:
    """Largest magnitude of a tensor over all recorded runs, and the node that makes it (empty: a constant)."""

    tensor: str
    node: str
    largest: float


def instrumented(model: ModelProto, statistics: Sequence[str]) -> tuple[ModelProto, list[str]]:
    """The graph with statistics of every float32 value as scalar outputs, and the names of these values in order."""
    types = element_types(model)
    found = ModelProto()
    found.CopyFrom(model)
    values = [name for node in model.graph.node for name in node.output if name and types.get(name) == FLOAT]
    for name in values:
        for statistic in statistics:
            result = name + statistic
            found.graph.node.append(helper.make_node(_REDUCE[statistic], [name], [result], name=result, keepdims=0))
            found.graph.output.append(helper.make_tensor_value_info(result, FLOAT, []))
    return found, values


def record(model: ModelProto, calls: Iterable[Arrays], weights: Arrays) -> list[Reached]:
    """Largest magnitudes of every float32 tensor of a traced graph over ``calls``, constants included, largest first.

    :raises EngineError: the graph cannot be run.
    """
    measured, values = instrumented(model, (HIGHEST, LOWEST))
    session, largest = open_plain(measured), np.zeros(len(values))
    names = [name + statistic for statistic in (HIGHEST, LOWEST) for name in values]
    for inputs in calls:
        found = run_plain(session, model.graph.name, inputs, weights, names)
        reached = np.abs(np.array([found[name] for name in names], np.float64)).reshape(2, -1).max(axis=0)
        largest = np.maximum(largest, reached)
    made = {name: node.name for node in model.graph.node for name in node.output}
    entries = [Reached(name, made[name], float(value)) for name, value in zip(values, largest, strict=True)]
    entries += [Reached(tensor.name, "", _largest(tensor)) for tensor in model.graph.initializer]
    return sorted(entries, key=lambda entry: -entry.largest)


def _largest(tensor: TensorProto) -> float:
    if tensor.data_type != FLOAT:
        return 0.0
    return float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))


def largest_sum(model: ModelProto, calls: Iterable[Arrays], weights: Arrays) -> Reached | None:
    """The largest sum of magnitudes, sum |a| |b|, in a convolution or matrix product: no partial sum is larger, in any
    order. None where the graph has no such operator.

    Below half precision's 65504, not even a backend that adds up in half precision would overflow.

    :raises EngineError: the graph cannot be run.
    """
    measured, results = ModelProto(), {}
    measured.CopyFrom(model)
    for node in [node for node in model.graph.node if node.op_type in PRODUCTS]:
        product, result = NodeProto(), node.output[0] + TOTAL
        product.CopyFrom(node)
        del product.input[:], product.output[:]
        product.name, product.output[:] = result, [f"{result}s"]
        for side, name in enumerate(node.input[:2]):
            product.input.append(f"{result}.{side}")
            measured.graph.node.append(helper.make_node("Abs", [name], [product.input[-1]], name=product.input[-1]))
        reduced = helper.make_node("ReduceMax", [f"{result}s"], [result], name=f"{result}.max", keepdims=0)
        measured.graph.node.extend([product, reduced])
        measured.graph.output.append(helper.make_tensor_value_info(result, FLOAT, []))
        results[result] = node
    if not results:
        return None
    session = open_plain(measured)
    runs = [run_plain(session, model.graph.name, inputs, weights, list(results)) for inputs in calls]
    reached = {result: max(float(found[result]) for found in runs) for result in results}
    worst = max(reached, key=reached.__getitem__)
    return Reached(results[worst].output[0], results[worst].name, reached[worst])


@dataclass(frozen=True)
class Fault:
    """The first node of a graph, in the order of running, that gives what it must not, and what that is."""

    node: str
    what: str


def find_fault(model: ModelProto, inputs: Arrays, weights: Arrays) -> Fault | None:
    """The first node of a float32 graph (`export.emulate.emulated` or traced) with a value that is not finite."""
    measured, values = instrumented(model, (TOTAL,))
    found = run_plain(open_plain(measured), model.graph.name, inputs, weights)
    for name, node in _makers(model, values).items():
        total = float(found[name + TOTAL])
        if not np.isfinite(total):
            return Fault(node, "NaN" if np.isnan(total) else "infinity")
    return None


def find_constant(model: ModelProto, output: str, inputs: Arrays, weights: Arrays) -> Fault | None:
    """Where ``output`` is the same everywhere (a black image): the first node on its way from which on nothing varies.

    None where ``output`` varies.
    """
    measured, values = instrumented(model, (HIGHEST, LOWEST))
    found = run_plain(open_plain(measured), model.graph.name, inputs, weights)
    flat = {name for name in values if found[name + HIGHEST] == found[name + LOWEST]}
    if output not in flat:
        return None
    nodes, place = {name: node for node in model.graph.node for name in node.output}, output
    before = output
    while before in nodes and nodes[before].input:
        before = nodes[before].input[0]  # the first input is the one that is worked on
        if before in flat:
            place = before
        elif before in values:
            break  # else it is a value in half precision between two casts
    return Fault(nodes[place].name.partition(PART)[0], f"the same value everywhere ({float(found[place + HIGHEST]):g})")


def _makers(model: ModelProto, values: Sequence[str]) -> Mapping[str, str]:
    wanted = set(values)
    return {name: node.name.partition(PART)[0] for node in model.graph.node for name in node.output if name in wanted}
