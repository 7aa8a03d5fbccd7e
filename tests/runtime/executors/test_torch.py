"""The torch executor: captured passes on a CPU, half precision, names; CUDA where there is one."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.runtime.executors.helpers import lines
from textsr.checkpoint import load_model
from textsr.config import TINY
from textsr.errors import EngineError, InputError
from textsr.graphs import Model, example_inputs, graphs
from textsr.loop import LoopOutput, TextSampler, restore
from textsr.networks.precision import lower
from textsr.torch_executor import Precision, TorchExecutor

SAMPLERS: tuple[TextSampler, ...] = ("fixed", "categorical")
PARTS = ("image", "tokens", "codes")
HOW = ("eager", "graph")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def model() -> Model:
    net = load_model(None, TINY, seed=3)
    assert isinstance(net, Model)
    return net


def passes(executor: TorchExecutor, sampler: TextSampler, count: int = 3) -> list[LoopOutput]:
    return [
        restore(executor, TINY, lines(TINY, 2, seed), seed=seed, steps=2, text_sampler=sampler) for seed in range(count)
    ]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_captured_passes_equal_the_plain_ones_to_the_bit(sampler: TextSampler) -> None:
    net = model()
    plain, captured = TorchExecutor(graphs(net)), TorchExecutor(graphs(net), capture=True)
    expected, found = passes(plain, sampler), passes(captured, sampler)
    for one, other in zip(expected, found, strict=True):
        assert all((getattr(one, part) == getattr(other, part)).all() for part in PARTS)
    assert [output.executor for output in expected] == ["torch:cpu"] * 3
    assert [output.executor for output in found] == ["torch:cpu:eager", "torch:cpu:graph", "torch:cpu:graph"]
    assert captured.get_device(captured.put(np.ones(2))).tolist() == [1, 1]
    captured.close()
    captured.close()
    for use in (lambda: passes(captured, sampler, 1), lambda: captured.put(np.ones(2))):
        with pytest.raises(EngineError, match="closed"):
            use()


def traced_by(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile with a backend that needs no compiler: what Dynamo makes of the graphs, run by torch."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))


def compiled_equals_plain(names: Collection[str]) -> None:
    net = model()
    plain, compiled = TorchExecutor(graphs(net)), TorchExecutor(graphs(model()), compiled=True)
    assert compiled.name == "torch:cpu:compiled"
    for name in names:
        for batch in (1, 2):  # another size is compiled anew
            inputs = {k: torch.from_numpy(v) for k, v in example_inputs(net, name, batch).items()}
            expected, found = plain.run(name, inputs), compiled.run(name, inputs)
            for key, value in expected.items():
                torch.testing.assert_close(found[key], value, rtol=1e-4, atol=2e-5, msg=f"{name}: {key}")


def test_what_is_compiled_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    traced_by("eager", monkeypatch)
    compiled_equals_plain(("text_condition", "vqgan_decoder", "text_step"))


@pytest.mark.slow
def test_every_graph_is_compiled_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    traced_by("aot_eager", monkeypatch)
    compiled_equals_plain(graphs(model()))


def test_a_graph_that_cannot_be_compiled_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    traced_by(fails, monkeypatch)
    net = model()
    executor = TorchExecutor(graphs(net), compiled=True)
    inputs = {k: torch.from_numpy(v) for k, v in example_inputs(net, "text_condition").items()}
    with pytest.raises(EngineError, match=r"torch:cpu:compiled: TextCondition cannot be compiled: .*no C\+\+ compiler"):
        executor.run("text_condition", inputs)


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 0.02), ("bf16", 0.2)])
def test_half_precision_gives_nearly_the_same(precision: Precision, limit: float) -> None:
    """Every graph of tiny on its own, from the same inputs; what comes out is float32 again."""
    net = model()
    exact, half = TorchExecutor(graphs(net)), TorchExecutor(graphs(model()), precision=precision)
    assert half.name == f"torch:cpu:{precision}"
    for graph in exact.graphs:
        inputs = {name: exact.put(value) for name, value in example_inputs(net, graph).items()}
        one, other = exact.run(graph, inputs), half.run(graph, inputs)
        for name, value in one.items():
            assert other[name].dtype == value.dtype
            if value.is_floating_point():
                scale = float(value.abs().max().clamp(min=1e-3))
                assert float((value - other[name]).abs().max()) <= limit * scale, (graph, name)
            elif graph == "vqgan_decoder":  # the quantiser is not converted
                assert (value == other[name]).all()


def test_what_is_converted_and_what_is_not() -> None:
    net = model()
    assert net.transocr is not None
    lower(graphs(net).values(), torch.float16)
    types = {name: parameter.dtype for name, parameter in net.named_parameters()}
    islands = {name for name, dtype in types.items() if dtype == torch.float32}
    assert "vqgan.quantize.embedding.weight" in islands
    assert "mom.first_embeder.weight" in islands
    norms = (nn.BatchNorm2d,)
    for name, part in net.named_modules():
        if isinstance(part, norms):
            assert all(f"{name}.{own}" in islands for own, _ in part.named_parameters())
    elements = sum(net.get_parameter(name).numel() for name in islands)
    assert {types[f"unet.{name}"] for name, _ in net.unet.named_parameters()} == {torch.float16}
    assert elements < 0.2 * sum(parameter.numel() for parameter in net.parameters())
    before = len(net.unet._forward_hooks)
    lower(graphs(net).values(), torch.float16)
    assert len(net.unet._forward_hooks) == before == 1


def test_half_precision_restores(caplog: pytest.LogCaptureFixture) -> None:
    given = lines(TINY, 1)
    one = restore(TorchExecutor(graphs(model())), TINY, given, steps=2)
    other = restore(TorchExecutor(graphs(model()), precision="fp16", capture=True), TINY, given, steps=2)
    assert np.isfinite(other.image).all()
    assert (one.codes == other.codes).mean() > 0.9
    assert not caplog.records


def test_an_unknown_precision() -> None:
    with pytest.raises(InputError, match="fp16"):
        TorchExecutor({}, precision="int4")  # type: ignore[arg-type]


@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_cuda_captured_equals_cuda_eager(precision: Precision, sampler: TextSampler) -> None:
    net: Any = graphs(model())
    captured = TorchExecutor(net, "cuda:0", precision=precision, capture=True)
    plain = TorchExecutor(net, "cuda:0", precision=precision)
    for one, other in zip(passes(plain, sampler), passes(captured, sampler), strict=True):
        assert np.abs(one.image - other.image).max() < 1e-3
    assert captured._looper is not None
    assert not captured._looper._refused


@needs_cuda
def test_captures_within_a_callers_inference_mode_spoil_none_outside_of_it() -> None:
    def restored() -> TorchExecutor:
        executor = TorchExecutor(graphs(model()), "cuda:0", capture=True)
        assert [one.executor for one in passes(executor, "fixed", 2)] == [f"torch:cuda:0:fp32:{how}" for how in HOW]
        return executor

    with torch.inference_mode():
        first = restored()
    for executor in (restored(), first):
        executor.close()
