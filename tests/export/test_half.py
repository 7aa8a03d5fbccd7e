"""Typed half graphs: consistent types on random graphs, borders, blocks, structure, FLOP."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import NodeProto, helper

from export.blocks import ROOT, block_of, named, node_block
from export.emulate import Arrays, emulated, open_plain, run_plain
from export.flops import Work, observed_shapes, one_line, work
from export.half import FLOAT, HALF, candidates, element_types, half_nodes, node_blocks, to_half
from export.trace import TracedGraph
from textsr.errors import EngineError

BLOCKS = ("net.a.x", "net.a.y", "net.b", ROOT)
SIDE = 4


def graph(
    nodes: list[NodeProto], outputs: list[str], constants: dict[str, NDArray[Any]] | None = None, weights: Any = ()
) -> TracedGraph:
    """Input x (B, SIDE), weights (SIDE, SIDE), outputs of any shape."""
    inputs = [helper.make_tensor_value_info("x", FLOAT, ["B", SIDE])]
    inputs += [helper.make_tensor_value_info(name, FLOAT, [SIDE, SIDE]) for name in weights]
    made = helper.make_graph(
        nodes,
        "test",
        inputs,
        [helper.make_tensor_value_info(name, FLOAT, ["B", None]) for name in outputs],
        [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return TracedGraph("test", model, tuple(weights))


CONSTANTS: dict[str, NDArray[Any]] = {
    "zero": np.array([0]),
    "one": np.array([1]),
    "side": np.array([SIDE]),
    "low": np.array(-1, np.float32),
    "high": np.array(1, np.float32),
    "two": np.array(2, np.float32),
    "ones": np.ones(SIDE, np.float32),
    "last": np.array([-1], np.int64),
    "scales": np.array([1, 1], np.float32),
}


def random_node(draw: st.DrawFn, number: int, values: list[str]) -> list[NodeProto]:
    """One of the operators that the exported graphs have, keeping the shape (B, SIDE); its last output is v<number>."""
    kind = draw(st.sampled_from(["Relu", "Sigmoid", "Add", "Mul", "MatMul", "Clip", "Pow", "Softmax", "Where", "Resize",
                                 "LayerNormalization", "ReduceMax", "Cast", "Identity", "Cos", "Concat"]))  # fmt: skip
    block, a, b = draw(st.sampled_from(BLOCKS)), draw(st.sampled_from(values)), draw(st.sampled_from(values))
    out = f"v{number}"

    def node(op: str, inputs: list[str], result: str = out, **attributes: Any) -> NodeProto:
        return helper.make_node(op, inputs, [result], name=f"{block}/{op}_{result}", **attributes)

    match kind:
        case "Add" | "Mul":
            return [node(kind, [a, b])]
        case "MatMul":
            return [node(kind, [a, "w"])]
        case "Clip":
            return [node(kind, [a, "low", "high"])]
        case "Pow":
            return [node("Clip", [a, "low", "high"], f"{out}.c"), node(kind, [f"{out}.c", "two"])]
        case "Softmax":
            return [node(kind, [a], axis=-1)]
        case "Where":
            return [node("Greater", [a, b], f"{out}.g"), node(kind, [f"{out}.g", a, b])]
        case "Resize":
            return [node(kind, [a, "", "scales"], mode="nearest")]
        case "LayerNormalization":
            return [node(kind, [a, "ones", "ones"])]
        case "ReduceMax":
            return [node(kind, [a, "last"], f"{out}.m"), node("Sub", [a, f"{out}.m"])]
        case "Cast":
            return [node("Cast", [a], f"{out}.i", to=onnx.TensorProto.INT64), node("Cast", [f"{out}.i"], to=FLOAT)]
        case "Concat":
            return [node(kind, [a, b], f"{out}.l", axis=1), node("Slice", [f"{out}.l", "zero", "side", "one"])]
        case _:
            return [node(kind, [a])]


@st.composite
def graphs(draw: st.DrawFn) -> TracedGraph:
    nodes: list[NodeProto] = []
    values = ["x"]
    for number in range(draw(st.integers(1, 12))):
        nodes += random_node(draw, number, values)
        values.append(f"v{number}")
    outputs = sorted({values[-1], draw(st.sampled_from(values[1:]))})
    return graph(nodes, outputs, CONSTANTS, ["w"])


@settings(deadline=None, max_examples=150)
@given(traced=graphs(), keep=st.sets(st.sampled_from([*BLOCKS, "softmax", "normalisation"])))
def test_types_are_consistent_whatever_is_kept(traced: TracedGraph, keep: set[str]) -> None:
    found = to_half(traced, keep)
    model = found.graph.model
    onnx.checker.check_model(model, full_check=True)
    types = element_types(model)  # strict inference
    signature = [(v.name, v.type.tensor_type.elem_type) for v in traced.model.graph.output]
    assert [(v.name, v.type.tensor_type.elem_type) for v in model.graph.output] == signature
    assert types["x"] == FLOAT
    assert all(types[name] == HALF for name in found.graph.weights)
    casts = [node for node in model.graph.node if node.op_type == "Cast" and types[node.input[0]] in (HALF, FLOAT)]
    between = Counter(
        (node.input[0], types[node.output[0]]) for node in casts if types[node.output[0]] in (HALF, FLOAT)
    )
    assert all(types[name] != kind for name, kind in between), "no idle casts"
    assert max(between.values(), default=1) == 1, "one cast for all readers"
    sources = {node.name: node for node in traced.model.graph.node}
    half = {traced.model.graph.node[index].name for index in found.half}
    for node in model.graph.node:
        if node.name not in sources:
            continue
        floating = {types[name] for name in (*node.input, *node.output) if name and types[name] in (HALF, FLOAT)}
        expected = {HALF} if node.name in half else {FLOAT}
        if node.op_type == "Resize":
            floating.discard(FLOAT)  # its scales
            expected &= {HALF}
        assert floating == expected, node.name
        assert node_block(node.name) not in keep or node.name not in half


@settings(deadline=None, max_examples=40)
@given(traced=graphs(), seed=st.integers(0, 9))
def test_the_emulation_of_what_is_all_kept_is_float32(traced: TracedGraph, seed: int) -> None:
    weight = np.random.default_rng(seed).normal(0, 0.5, (SIDE, SIDE)).astype(np.float16).astype(np.float32)
    inputs = {"x": np.random.default_rng(seed).normal(size=(3, SIDE)).astype(np.float32)}
    kept = emulated(to_half(traced, BLOCKS).graph.model)
    expected = run_plain(open_plain(traced.model), "test", inputs, {"w": weight})
    for name, value in run_plain(open_plain(kept), "test", inputs, {"w": weight}).items():
        np.testing.assert_array_equal(value, expected[name])


def test_the_emulation_rounds_as_numpy_does() -> None:
    """Independent reference: float16 arithmetic of NumPy, which rounds each result."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["sq"], name="net.a.x/sq"),
        helper.make_node("Add", ["sq", "x"], ["sum"], name="net.a.x/sum"),
        helper.make_node("Sqrt", ["sum"], ["y"], name="net.a.x/y"),
    ]
    model = emulated(to_half(graph(nodes, ["y"])).graph.model)
    x = np.array([[300, 1e-4, 3.1415, 1.0009]], np.float32)
    (found,) = run_plain(open_plain(model), "test", {"x": x}, {}).values()
    half = x.astype(np.float16)
    with np.errstate(over="ignore"):
        expected = np.sqrt(half * half + half).astype(np.float32)
    np.testing.assert_array_equal(found, expected)
    assert np.isinf(found[0, 0]), "300 squared overflows"


def test_the_emulation_keeps_its_casts_where_the_half_graph_hides_overflow_and_underflow() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["sq"], name="net.a.x/sq"),
        helper.make_node("Sqrt", ["sq"], ["y"], name="net.a.x/y"),
    ]
    typed = to_half(graph(nodes, ["y"])).graph.model
    x = {"x": np.array([[300, 1e-4, 1, 2]], np.float32)}
    (found,) = run_plain(open_plain(emulated(typed)), "test", x, {}).values()
    np.testing.assert_array_equal(found, [[np.inf, 0, 1, 2]])


def test_blocks_come_from_the_exporters_scopes() -> None:
    assert block_of("unet.input_blocks.3.0.in_layers.2") == "unet.input_blocks.3.0"
    assert block_of("unet.text_blocks.middle_block.attn1") == "unet.text_blocks.middle_block"
    assert block_of("vqgan.decoder.up.0.block.1.conv1") == "vqgan.decoder.up.0"
    assert block_of("glyph_canvas") == "glyph_canvas"
    assert block_of("") == ROOT
    notes = {"pkg.torch.onnx.name_scopes": "['', 'unet', 'unet.out', 'unet.out.2', 'conv2d_40']"}
    assert named("node_conv2d_40", notes) == "unet.out.2/node_conv2d_40"
    assert named("node_Shape_0", {}) == f"{ROOT}/node_Shape_0"


def test_nodes_that_passes_made_are_in_their_neighbours_block() -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["first"], name="made_by_a_pass"),
        helper.make_node("Relu", ["first"], ["second"], name="net.a.x/relu"),
        helper.make_node("Identity", ["second"], ["y"], name="made_too"),
    ]
    assert node_blocks(graph(nodes, ["y"]).model) == ["net.a.x"] * 3


def test_structure_stays_in_float32() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["angle"], name="net.a.x/angle"),
        helper.make_node("Cos", ["angle"], ["cos"], name="net.a.x/cos"),
        helper.make_node("MatMul", ["cos", "w"], ["h"], name="net.a.x/h"),
        helper.make_node("MatMul", ["h", "w"], ["near"], name="vqgan.quantize/near"),
        helper.make_node("Softmax", ["near"], ["p"], name="net.b/p"),
        helper.make_node("Add", ["p", "x"], ["y"], name=f"{ROOT}/posterior"),
    ]
    traced = graph(nodes, ["y"], CONSTANTS, ["w"])
    assert half_nodes(traced.model, ()) == {2, 4}
    assert candidates(traced.model) == ["net.a.x", "net.b", "softmax"]
    assert half_nodes(traced.model, {"softmax"}) == {2}
    assert half_nodes(traced.model, {"net.a.x"}) == {4}
    shared = to_half(traced).graph.model
    up = [node.name for node in shared.graph.node if node.op_type == "Cast" and node.input[0] == "w"]
    assert len(up) == 1, "the weight is cast up for the quantiser only"


def test_a_constant_out_of_range_is_named() -> None:
    nodes = [helper.make_node("Add", ["x", "mask"], ["y"], name="net.a.x/add")]
    traced = graph(nodes, ["y"], {"mask": np.full(SIDE, -1e9, np.float32)})
    with pytest.raises(EngineError, match=r"graph test, node net\.a\.x/add: constant mask reaches 1e\+09"):
        to_half(traced)
    assert to_half(traced, {"net.a.x"}).half == frozenset()


def test_work_is_counted_as_by_hand() -> None:
    image = helper.make_tensor_value_info("i", FLOAT, ["B", 6, 10, 20])
    out = helper.make_tensor_value_info("y", FLOAT, ["B", 8, 5, 7])
    shapes = {"k": (8, 3, 3, 3), "m": (10, 7)}
    weights = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["i", "k"], ["c"], name="net.a.x/conv", group=2, strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("MatMul", ["c", "m"], ["y"], name="net.a.y/product"),
    ]
    made = helper.make_graph(nodes, "test", [image, *weights], [out])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    traced = TracedGraph("test", model, ("k", "m"))
    convolution, product = 8 * 5 * 10 * (3 * 3 * 3), 8 * 5 * 7 * 10
    given = {"i": np.zeros((3, 6, 10, 20), np.float32)}
    values = {"k": np.zeros(shapes["k"], np.float32), "m": np.zeros(shapes["m"], np.float32)}
    for keep, half in (((), convolution + product), (("net.a.x",), product), (("net.a.y",), convolution)):
        assert counted(to_half(traced, keep).graph.model, given, values) == Work(half, convolution + product)
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"], name="net.b/gemm", transB=1)
    x, w = np.zeros((5, SIDE), np.float32), np.zeros((SIDE, SIDE), np.float32)
    assert counted(to_half(graph([gemm], ["y"], weights=["w"])).graph.model, {"x": x}, {"w": w}) == Work(16, 16)


def counted(model: onnx.ModelProto, inputs: Arrays, weights: Arrays) -> Work:
    """The work of one line."""
    return work(model, observed_shapes(emulated(model), one_line(model, inputs), weights))
