"""Rewrites of exported graphs: the same results from fewer nodes, checked with onnx's own reference evaluator."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export.simplify import simplify


def model(nodes: list[Any], inputs: dict[str, list[Any]], constants: dict[str, Any], output: list[Any]) -> Any:
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


def simplified(given: Any) -> tuple[Any, Counter[str]]:
    program = ir.from_proto(given)
    simplify(program)
    made = ir.to_proto(program)
    onnx.checker.check_model(made, full_check=True)
    return made, Counter(node.op_type for node in made.graph.node)


def run(made: Any, feed: dict[str, Any]) -> Any:
    (found,) = ReferenceEvaluator(made).run(None, feed)
    return found


def linear(sizes: tuple[int, ...], columns: int, out: int) -> Any:
    """x W^T + b, then a ReLU, as the exporter writes a Linear."""
    nodes = [
        helper.make_node("Transpose", ["weight"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"], name="block.0/node_linear"),
        helper.make_node("Relu", ["sum"], ["out"]),
    ]
    inputs: dict[str, list[Any]] = {"x": ["B", *sizes, columns], "weight": [out, columns], "bias": [out]}
    return model(nodes, inputs, {}, ["B", *sizes, out])


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    columns=st.integers(1, 5), out=st.integers(1, 5), batch=st.integers(1, 3),
)  # fmt: skip
def test_a_linear_of_more_than_rows_is_one_gemm(sizes: tuple[int, ...], columns: int, out: int, batch: int) -> None:
    before = linear(sizes, columns, out)
    after, count = simplified(before)
    assert (count["Gemm"], count["MatMul"], count["Add"]) == ((1, 0, 0) if sizes else (0, 1, 1))
    rng = np.random.default_rng(columns)
    feed = {
        "x": rng.standard_normal((batch, *sizes, columns), np.float32),
        "weight": rng.standard_normal((out, columns), np.float32),
        "bias": rng.standard_normal(out, np.float32),
    }
    np.testing.assert_allclose(run(after, feed), run(before, feed), rtol=1e-5, atol=1e-6)
    assert all(node.name.startswith("block.0/") for node in after.graph.node if node.op_type in ("Gemm", "Reshape"))


def test_a_product_that_is_used_twice_stays() -> None:
    nodes = [
        helper.make_node("Transpose", ["weight"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Mul", ["sum", "product"], ["out"]),
    ]
    given = model(nodes, {"x": ["B", 3, 4], "weight": [2, 4], "bias": [2]}, {}, ["B", 3, 2])
    assert simplified(given)[1] == {"Transpose": 1, "MatMul": 1, "Add": 1, "Mul": 1}


def neutral(operator: str, constant: Any, shape: list[Any]) -> Any:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node(operator, ["y", "c"], ["z"]),
        helper.make_node("Neg", ["z"], ["out"]),
    ]
    return model(nodes, {"x": shape}, {"c": np.asarray(constant, np.float32)}, ["B", 3, 4, 4])


def test_ones_and_zeros_go_where_they_do_nothing() -> None:
    for operator, constant in (("Mul", np.ones((3, 1, 1))), ("Add", np.zeros((3, 1, 1)))):
        assert simplified(neutral(operator, constant, ["B", 3, 4, 4]))[1] == {"Relu": 1, "Neg": 1}


def test_what_does_something_stays() -> None:
    almost = np.ones((3, 1, 1))
    almost[1] = 1 + 1e-6
    for operator, constant, shape in (
        ("Mul", almost, ["B", 3, 4, 4]),
        ("Add", np.ones((3, 1, 1)), ["B", 3, 4, 4]),
        ("Mul", np.ones((3, 4, 4)), ["B", 1, 4, 4]),  # it broadcasts
    ):
        assert simplified(neutral(operator, constant, shape))[1][operator] == 1


def reshaped(sizes: list[Any], attributes: dict[str, Any]) -> Any:
    """y reshaped to the shape of x."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], **attributes),
        helper.make_node("Reshape", ["y", "shape"], ["out"]),
    ]
    return model(nodes, {"x": sizes, "y": ["B", 12]}, {}, [None] * (len(sizes) - attributes.get("start", 0)))


def test_a_shape_known_but_for_the_batch_is_a_constant() -> None:
    after, count = simplified(reshaped(["B", 3, 4], {"start": 0}))
    assert count == {"Reshape": 1}
    feed = {"x": np.zeros((2, 3, 4), np.float32), "y": np.arange(24, dtype=np.float32).reshape(2, 12)}
    np.testing.assert_array_equal(run(after, feed), feed["y"].reshape(2, 3, 4))


def test_a_shape_with_another_free_axis_stays() -> None:
    assert simplified(reshaped(["B", 3, "L"], {}))[1] == {"Shape": 1, "Reshape": 1}
    assert simplified(reshaped(["B", 12, 1], {"start": 1}))[1]["Shape"] == 1
