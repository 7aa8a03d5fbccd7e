"""The search for keep-lists on small graphs with planted faults: overflow, cancellation, NaN, black images."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, helper

from export.emulate import emulated, open_plain, run_plain
from export.flops import Work
from export.half import FLOAT, to_half
from export.halfreport import Budget, GraphEvidence, HalfReport, ImageEvidence, from_json
from export.ranges import Fault, Reached, find_constant, find_fault, largest_sum, record
from export.recording import Guard
from export.report import Flips
from export.search import Call, Found, Search
from export.trace import TracedGraph
from textsr.errors import EngineError

SIDE = 8
X = np.random.default_rng(0).uniform(0.5, 1, (2, SIDE)).astype(np.float32)
W = (np.random.default_rng(1).normal(0, 0.3, (SIDE, SIDE))).astype(np.float16).astype(np.float32)
CONSTANTS = {"thousand": 1000.0, "million": 1e6, "tiny": 1e-3, "zero": 0.0}


def node(op: str, inputs: str, output: str, block: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=f"{block}/{op}_{output}", **attributes)


def traced(*nodes: NodeProto, name: str = "test", output: str = "y") -> TracedGraph:
    """A graph from x (B, SIDE) and w (SIDE, SIDE) to one output."""
    constants = [onnx.numpy_helper.from_array(np.array(v, np.float32), key) for key, v in CONSTANTS.items()]
    made = helper.make_graph(
        list(nodes),
        name,
        [
            helper.make_tensor_value_info("x", FLOAT, ["B", SIDE]),
            helper.make_tensor_value_info("w", FLOAT, [SIDE, SIDE]),
        ],
        [helper.make_tensor_value_info(output, FLOAT, ["B", SIDE])],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return TracedGraph(name, model, ("w",))


def weights(_: str) -> dict[str, NDArray[Any]]:
    return {"w": W}


def search(graph: TracedGraph, x: NDArray[np.float32] = X) -> Search:
    outputs = run_plain(open_plain(graph.model), graph.name, {"x": x}, {"w": W})
    return Search(graph, [Call({"x": x}, outputs)], weights)


OVERFLOWS = (
    node("MatMul", "x w", "a", "net.a.x"),
    node("Mul", "a thousand", "b", "net.a.y"),
    node("Mul", "b thousand", "c", "net.a.y"),  # some 1e6
    node("Mul", "c tiny", "d", "net.a.y"),
    node("Mul", "d tiny", "e", "net.a.y"),
    node("MatMul", "e w", "y", "net.b"),
)
CANCELS = (
    node("MatMul", "x w", "a", "net.a.x"),
    node("MatMul", "a w", "b", "net.a.y"),
    node("Add", "b thousand", "c", "net.a.y"),  # half precision knows half units here
    node("Sub", "c thousand", "d", "net.a.y"),
    node("MatMul", "d w", "y", "net.b"),
)


def test_what_needs_nothing_keeps_nothing() -> None:
    found = search(traced(node("MatMul", "x w", "a", "net.a.x"), node("Sigmoid", "a", "y", "net.b"))).run(5e-3)
    assert found.keep == found.because_of_range == ()
    assert 1e-6 < found.error == found.error_all_half < 5e-3
    assert found.macs == Work(SIDE * SIDE, SIDE * SIDE)
    assert found.tried == 1


def test_overflow_is_found_by_its_range_and_its_block_kept() -> None:
    found = search(traced(*OVERFLOWS)).run(5e-3)
    assert found.because_of_range == ("net.a.y",)
    assert found.keep == ("net.a.y:pointwise",)
    assert found.error_all_half == float("inf")
    assert found.error < 5e-3
    assert found.ranges[0].tensor == "million"
    assert found.ranges[1].node == "net.a.y/Mul_c"
    assert found.ranges[1].largest > 65504
    assert found.macs.half == found.macs.total == 2 * SIDE * SIDE


def test_cancellation_is_found_by_its_error_and_products_go_back_to_half() -> None:
    found = search(traced(*CANCELS)).run(5e-3)
    assert found.because_of_range == ()
    assert found.keep == ("net.a.y:pointwise",)
    assert found.error < 5e-3 < found.error_all_half
    assert min(found.alone, key=found.alone.__getitem__) == "net.a.y"
    assert found.macs.half == found.macs.total


def test_a_smaller_budget_keeps_more() -> None:
    made = search(traced(*CANCELS))
    loose, tight = made.run(5e-3), made.run(1e-6)
    assert len(tight.keep) == 3 > len(loose.keep)
    assert tight.error < 1e-6


def test_a_value_that_is_not_finite_in_float32_is_named() -> None:
    graph = traced(
        node("Mul", "x zero", "a", "net.a.x"),
        node("Div", "a zero", "b", "net.a.y"),
        node("MatMul", "b w", "y", "net.b"),
    )
    with pytest.raises(EngineError, match=r"graph test, node net\.a\.y/Div_b: NaN in float32 already"):
        search(graph).run(5e-3)


def test_structure_that_does_not_fit_the_budget_is_refused_with_its_error() -> None:
    graph = traced(node("MatMul", "x w", "y", "graph"))
    made = Search(graph, [Call({"x": X}, {"y": np.zeros((2, SIDE), np.float32) + 1})], weights)
    with pytest.raises(
        EngineError, match=r"graph test: error .* with every block in float32, more than the budget 0.005"
    ):
        made.run(5e-3)


def test_ranges_are_those_of_numpy() -> None:
    entries = {entry.tensor: entry for entry in record(traced(*OVERFLOWS).model, [{"x": X}, {"x": -3 * X}], {"w": W})}
    assert entries["c"].largest == pytest.approx(np.abs(3e6 * X @ W).max(), rel=1e-5)
    assert entries["a"] == Reached("a", "net.a.x/MatMul_a", entries["a"].largest)
    assert entries["tiny"] == Reached("tiny", "", float(np.float32(1e-3)))


def test_the_largest_sum_bounds_every_partial_sum() -> None:
    found = largest_sum(traced(*CANCELS).model, [{"x": X}, {"x": -2 * X}], {"w": W})
    b = (2 * X) @ W @ W
    expected = {"a": np.abs(2 * X) @ np.abs(W), "b": np.abs(2 * X @ W) @ np.abs(W), "y": np.abs(b) @ np.abs(W)}
    tensor = max(expected, key=lambda name: float(expected[name].max()))
    assert found is not None
    assert found.tensor == tensor
    assert found.largest == pytest.approx(expected[tensor].max(), rel=1e-3)
    assert largest_sum(traced(node("Relu", "x", "y", "net.a.x")).model, [{"x": X}], {"w": W}) is None


def guard(*nodes: NodeProto) -> tuple[Guard, dict[str, NDArray[Any]]]:
    """A guard over a decoder of these nodes in half precision, unsearched, and what the decoder gives for x."""
    half = to_half(traced(*nodes, name="vqgan_decoder", output="image"))
    found = Found(half, (), 0.0, 0.0, (), Work(0, 0))
    image = run_plain(open_plain(emulated(half.graph.model)), "vqgan_decoder", {"x": X}, {"w": W})
    return Guard({"vqgan_decoder": found}, weights), image


def test_the_guard_names_graph_and_node_of_an_overflow() -> None:
    checks, image = guard(
        node("Mul", "x thousand", "a", "net.a.x"),
        node("Mul", "a thousand", "b", "net.a.y"),
        node("MatMul", "b w", "image", "net.b"),
    )
    with pytest.raises(EngineError, match=r"graph vqgan_decoder, node net\.a\.y/Mul_b: infinity in half precision"):
        checks(-1, "vqgan_decoder", {"x": X, "z_0": X}, image)


def test_the_guard_names_graph_and_node_of_a_black_image() -> None:
    checks, image = guard(
        node("Mul", "x tiny", "a", "net.a.x"),
        node("Mul", "a tiny", "b", "net.a.x"),
        node("Mul", "b tiny", "c", "net.a.y"),  # 1e-9: half precision has none
        node("MatMul", "c w", "d", "net.b"),
        node("Sigmoid", "d", "image", "net.b"),
    )
    assert (image["image"] == 0.5).all()
    with pytest.raises(EngineError, match=r"node net\.a\.y/Mul_c: the same value everywhere \(0\) in half precision"):
        checks(-1, "vqgan_decoder", {"x": X, "z_0": X}, image)


def test_a_good_image_passes_the_guard() -> None:
    checks, image = guard(node("MatMul", "x w", "image", "net.b"))
    checks(-1, "vqgan_decoder", {"x": X, "z_0": X}, image)
    assert checks.latent is X
    model = traced(node("MatMul", "x w", "y", "net.b")).model
    assert find_fault(model, {"x": X}, {"w": W}) is None
    assert find_constant(model, "y", {"x": X}, {"w": W}) is None
    assert find_fault(model, {"x": X * np.float32(np.inf)}, {"w": W}) == Fault("net.b/MatMul_y", "NaN")


def report(share: float = 0.99, psnr: float = 50.0) -> HalfReport:
    evidence = GraphEvidence(
        keep=("net.a.x",), because_of_range=(), error=1e-3, error_all_half=None, alone={"net.a.x": 1e-3}, tried=3,
        runs=2, largest=(Reached("a", "n", 7.0),), largest_sum=Reached("b", "m", 9.0), macs=Work(1, 2),
        nodes={"half": 1}, on_cpu=1e-4,
    )  # fmt: skip
    image = ImageEvidence(psnr, 60.0, 1e-3, Flips(1, 100), Flips(0, 24))
    return HalfReport(Budget(), "how", {"source": "x"}, 18, {"unet_step": evidence}, {"fixed": image}, {"fixed": share})


def test_the_report_survives_json_and_tells_all() -> None:
    made = report()
    assert from_json(json.loads(json.dumps(made.to_json(), allow_nan=False))) == made
    table = made.table()
    assert "not finite" in table
    assert "net.a.x" in table
    assert "99.00% of a line's FLOP" in table
    made.require()


def test_the_report_refuses_what_keeps_no_budget() -> None:
    with pytest.raises(EngineError, match=r"only 80.0% of a line's FLOP \(fixed text\).*unet_step keeps net\.a\.x"):
        report(share=0.8).require()
    with pytest.raises(EngineError, match=r"final image in half precision \(fixed text\): 39.0 dB, 40 needed"):
        report(psnr=39.0).require()
    with pytest.raises(EngineError, match="nan dB"):
        report(psnr=float("nan")).require()
