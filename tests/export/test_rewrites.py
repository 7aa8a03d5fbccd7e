"""Rewrites that spare arithmetic and passes over memory: the same results, by onnx's own evaluator and by torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch.nn import functional as F

from export import rewrites
from tests.export.test_simplify import model, run, simplified


def doubled(sizes: tuple[int, int, int], out: int, *, bias: bool = True, resize: Any = None, **conv: Any) -> Any:
    """A map repeated in both directions, then a convolution, as the exporter writes it."""
    channels, height, width = sizes
    ways = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    scales = np.array([1, 1, 2, 2], np.float32)
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["up"], **{**ways, **(resize or {})}),
        helper.make_node("Conv", ["up", "weight", *(["bias"] if bias else [])], ["sum"], name="up.conv/node_conv2d",
                         **{"pads": [1, 1, 1, 1], **conv}),
        helper.make_node("Relu", ["sum"], ["out"]),
    ]  # fmt: skip
    inputs: dict[str, list[Any]] = {"x": ["B", channels, height, width], "weight": [out, channels, 3, 3]}
    if bias:
        inputs["bias"] = [out]
    return model(nodes, inputs, {"scales": scales}, ["B", out, None, None])


@settings(deadline=None, max_examples=20)
@given(
    channels=st.integers(1, 3), height=st.integers(1, 4), width=st.integers(1, 4), out=st.integers(1, 3),
    batch=st.integers(1, 2), bias=st.booleans(), seed=st.integers(0, 1000),
)  # fmt: skip
def test_a_convolution_of_a_doubled_map_is_four_small_ones(
    channels: int, height: int, width: int, out: int, batch: int, bias: bool, seed: int
) -> None:
    after, count = simplified(doubled((channels, height, width), out, bias=bias))
    assert (count["Resize"], count["Conv"], count["DepthToSpace"]) == (0, 4, 1)
    rng = np.random.default_rng(seed)
    feed = {
        "x": rng.standard_normal((batch, channels, height, width), np.float32),
        "weight": rng.standard_normal((out, channels, 3, 3), np.float32),
    }
    if bias:
        feed["bias"] = rng.standard_normal(out, np.float32)
    x, weight = torch.from_numpy(feed["x"]), torch.from_numpy(feed["weight"])
    wanted = F.conv2d(
        F.interpolate(x, scale_factor=2.0, mode="nearest"), weight,
        torch.from_numpy(feed["bias"]) if bias else None, padding=1,
    )  # fmt: skip
    np.testing.assert_allclose(run(after, feed), wanted.relu().numpy(), rtol=1e-5, atol=1e-5)
    assert all(node.name.startswith("up.conv/") for node in after.graph.node if node.op_type != "Relu")


@pytest.mark.parametrize(
    "other",
    [
        {"resize": {"nearest_mode": "ceil"}},
        {"resize": {"coordinate_transformation_mode": "half_pixel"}},
        {"pads": [0, 0, 0, 0]},
        {"strides": [2, 2]},
        {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
    ],
)
def test_other_resizes_and_convolutions_stay(other: dict[str, Any]) -> None:
    assert simplified(doubled((2, 4, 4), 2, **other))[1] == {"Resize": 1, "Conv": 1, "Relu": 1}


def test_large_maps_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrites, "LARGEST_DOUBLED", 2 * 8 * 8)
    assert simplified(doubled((2, 4, 4), 2))[1]["Conv"] == 4
    assert simplified(doubled((2, 4, 4), 3))[1]["Conv"] == 1


def least(length: int, **attributes: Any) -> Any:
    nodes = [
        helper.make_node("ArgMin", ["x"], ["place"], **{"axis": -1, "keepdims": 0, **attributes}),
        helper.make_node("Cast", ["place"], ["out"], to=onnx.TensorProto.FLOAT),
    ]
    return model(nodes, {"x": ["B", 3, length]}, {}, [None, None])


@settings(deadline=None, max_examples=25)
@given(length=st.sampled_from([256, 300, 510, 1024]), levels=st.integers(1, 4), seed=st.integers(0, 1000))
def test_the_least_of_many_is_found_in_its_block_first_of_equals(length: int, levels: int, seed: int) -> None:
    before = least(length)
    after, count = simplified(before)
    assert count["ArgMin"] == 2
    x = np.random.default_rng(seed).integers(0, levels, (2, 3, length)).astype(np.float32)  # many are equal
    np.testing.assert_array_equal(run(after, {"x": x}), x.argmin(-1))
    session = ort.InferenceSession(after.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x.argmin(-1))


@pytest.mark.parametrize("length", [255, 257])
def test_a_short_axis_or_one_without_blocks_stays(length: int) -> None:
    assert simplified(least(length))[1] == {"ArgMin": 1, "Cast": 1}


@pytest.mark.parametrize("other", [{"select_last_index": 1}, {"axis": 1}])
def test_the_last_of_equals_and_other_axes_stay(other: dict[str, Any]) -> None:
    assert simplified(least(256, **other))[1] == {"ArgMin": 1, "Cast": 1}


def gelu(*, order: str) -> Any:
    """torch's exact GELU as the exporter writes it, with the operands of its products in either order."""
    half, whole = (["half", "sum"], ["x1", "scaled"]) if order == "given" else (["sum", "half"], ["scaled", "x1"])
    nodes = [
        helper.make_node("Relu", ["x"], ["x1"]),
        helper.make_node("Div", ["x1", "root"], ["y"]),
        helper.make_node("Erf", ["y"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["sum"]),
        helper.make_node("Mul", half, ["scaled"]),
        helper.make_node("Mul", whole, ["z"]),
        helper.make_node("Neg", ["z"], ["out"]),
    ]
    constants = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    return model(nodes, {"x": ["B", 5]}, constants, ["B", 5])


@pytest.mark.parametrize("order", ["given", "turned"])
def test_gelu_is_one_operator_of_onnx_runtime(order: str, tmp_path: Any) -> None:
    before = gelu(order=order)
    after, _ = simplified(before)
    x = np.linspace(-4, 4, 10, dtype=np.float32).reshape(2, 5)
    np.testing.assert_allclose(run(after, {"x": x}), run(before, {"x": x}), rtol=1e-6)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(after.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds == ["Relu", "Gelu", "Neg"]


def test_a_reshape_of_a_reshape_is_one() -> None:
    def chain(second: list[int]) -> Any:
        nodes = [
            helper.make_node("Reshape", ["x", "first"], ["y"]),
            helper.make_node("Reshape", ["y", "second"], ["out"]),
        ]
        constants = {"first": np.array([-1, 12]), "second": np.array(second)}
        return model(nodes, {"x": ["B", 3, 4]}, constants, [None] * len(second))

    after, count = simplified(chain([-1, 2, 6]))
    assert count == {"Reshape": 1}
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(run(after, {"x": x}), x.reshape(2, 2, 6))
    assert simplified(chain([0, 2, 6]))[1] == {"Reshape": 2}  # 0 is the first's size, not x's


def test_every_constant_is_one_that_the_checker_knows() -> None:
    after, _ = simplified(doubled((1, 2, 2), 1))
    onnx.checker.check_model(after, full_check=True)
    taps = [numpy_helper.to_array(value) for value in after.graph.initializer if value.dims == [2, 3]]
    assert {tuple(map(tuple, tap.tolist())) for tap in taps} == set(rewrites.TAPS.values())
