"""The TensorRT executor over stand-ins: the same results one by one, captured and replayed; lives, orders, errors."""

from __future__ import annotations

import gc
import logging
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.bundle import Bundle
from runtime.executors.onnxruntime import OrtExecutor
from runtime.executors.tensorrt import TensorRTExecutor
from runtime.options import Gate, Split
from runtime.restorer import Restorer
from tests.runtime.executors.fake_tensorrt import check_names
from tests.runtime.executors.helpers import Toy, lines, open_fake
from tests.runtime.helpers import draw_line
from textsr.errors import DeviceError, EngineError, TextSRError
from textsr.loop import LoopKey, LoopOutput, TextSampler, restore
from textsr.noise import normal

SAMPLERS: tuple[TextSampler, ...] = ("fixed", "categorical")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


def same(one: LoopOutput, other: LoopOutput) -> bool:
    return all((getattr(one, part) == getattr(other, part)).all() for part in ("image", "tokens", "codes"))


def test_the_fake_has_only_names_of_the_real_bindings() -> None:
    check_names()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("batch", [1, 3])
def test_recorded_captured_and_replayed_passes_are_equal(bundle: Bundle, sampler: TextSampler, batch: int) -> None:
    executor, cuda = open_fake(bundle)
    toy = Toy(bundle.graphs)
    names = []
    for seed in range(4):  # new lines and new noise each time
        given = lines(bundle.preset, batch, seed)
        expected = restore(toy, bundle.preset, given, seed=seed, steps=5, text_sampler=sampler)
        found = restore(executor, bundle.preset, given, seed=seed, steps=5, text_sampler=sampler)
        assert same(found, expected)
        names.append(found.executor)
    assert names == ["tensorrt:cuda:0:fp32:eager", *["tensorrt:cuda:0:fp32:graph"] * 3]
    assert cuda.calls.count("cudaGraphInstantiate") == 1
    assert cuda.calls.count("cudaGraphLaunch") == 3
    executor.close()
    assert not cuda.leaks()


def test_a_replayed_pass_makes_no_call_but_launch_and_wait(bundle: Bundle) -> None:
    executor, cuda = open_fake(bundle)
    for _ in range(2):
        restore(executor, bundle.preset, lines(bundle.preset), steps=6)
    before = len(cuda.calls)
    restore(executor, bundle.preset, lines(bundle.preset), steps=6)
    calls = [name for name in cuda.calls[before:] if name != "cudaGetDevice"]
    assert calls == ["cudaGraphLaunch", "cudaStreamSynchronize"]
    executor.close()


def test_the_text_branch_runs_beside_the_image_branch(bundle: Bundle) -> None:
    """The step's image and text graphs are on two streams, and the image's step is not what the text waits for."""
    executor, cuda = open_fake(bundle)
    for _ in range(2):
        restore(executor, bundle.preset, lines(bundle.preset), steps=3, text_sampler="categorical")
    (capture,) = cuda.live["executable"].values()
    works = [(stream, what[2]) for kind, stream, what in capture.nodes if kind == "work"]
    assert len({stream for stream, _ in works}) == 2
    order = [(kind, stream == capture.origin) for kind, stream, _ in capture.nodes]
    side = [kind for kind, main in order if not main]
    assert side.count("work") == 7  # text_time_condition, then mom_image and text_step, three steps
    assert side[0] == "wait"
    executor.close()


def test_the_whole_restorer_equals_onnx_runtime(bundle: Bundle) -> None:
    reference = OrtExecutor(bundle, "cpu", threads=1)
    executor, cuda = open_fake(bundle, lambda graph, arrays: reference.run(graph, arrays))
    images = [draw_line("Hi", 20, 40), draw_line(), draw_line("x", 33, 500)]
    ours, theirs = Restorer(bundle, executor, None), Restorer(bundle, reference, None)
    for sampler in SAMPLERS:
        for seed in range(3):
            options: dict[str, Any] = {"seed": seed, "steps": 2, "text_sampler": sampler, "batch_size": 2}
            options |= {"gate": Gate.off(), "split": Split(enabled=False)}
            texts = ["Hi", "Hello 42", None]
            for found, expected in zip(ours(images, texts, **options), theirs(images, texts, **options), strict=True):
                assert (found.image == expected.image).all()
                assert found.tokens == expected.tokens
                assert found.executor == f"tensorrt:cuda:0:fp32:{'graph' if seed else 'eager'}"
    executor.close()
    assert not cuda.leaks()


def test_threads_share_the_lanes(bundle: Bundle) -> None:
    executor, cuda = open_fake(bundle, lanes=2)
    toy, wrong = Toy(bundle.graphs), []
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        for turn in range(4):
            given = lines(bundle.preset, 1 + number % 2, seed=10 * number + turn)
            sampler = SAMPLERS[number % 2]
            found = restore(executor, bundle.preset, given, seed=turn, steps=3, text_sampler=sampler)
            if not same(found, restore(toy, bundle.preset, given, seed=turn, steps=3, text_sampler=sampler)):
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cuda.calls.count("cudaStreamCreateWithFlags") <= 6  # two for each lane, and for the shared one
    executor.close()
    assert not cuda.leaks()


def test_eager_handles_on_several_threads_and_lanes(bundle: Bundle) -> None:
    """Graphs one by one: memory comes back and is used again; another lane's handle is waited for."""
    executor, cuda = open_fake(bundle)
    tokens, weights = lines(bundle.preset).tokens, lines(bundle.preset).weights
    expected = Toy(bundle.graphs).run("text_condition", {"tokens": tokens, "weights": weights})["c_cond"]
    for _ in range(20):
        inputs = {"tokens": executor.put(tokens), "weights": executor.put(weights)}
        assert (executor.get(executor.run("text_condition", inputs)["c_cond"]) == expected).all()
    assert cuda.calls.count("cudaMalloc") < 8
    with executor.loop(LoopKey(2, 1, "fixed", observed=True)) as lane:
        inputs = {"tokens": lane.put(tokens), "weights": executor.put(weights)}
        handle = lane.run("text_condition", inputs)["c_cond"]
        del inputs
    assert (executor.get(handle) == expected).all()
    executor.close()


def test_profiles_are_chosen_and_too_large_a_batch_is_refused(bundle: Bundle) -> None:
    executor, _ = open_fake(bundle)
    assert executor.largest_batch == 4
    engine = executor.engine("text_condition")
    at = [engine.profile({"tokens": (batch, 24), "weights": (batch, 24)}) for batch in (1, 2, 4)]
    assert at == [0, 1, 1]
    engine.profiles = tuple({name: ((1, 24), (most, 24)) for name in engine.inputs} for most in (9, 2, 4))
    at = [engine.profile({"tokens": (batch, 24), "weights": (batch, 24)}) for batch in (1, 3, 5)]
    assert at == [1, 2, 0], "the smallest that fits"
    with pytest.raises(EngineError, match="largest batch is 4"):
        restore(executor, bundle.preset, lines(bundle.preset, 5), steps=1)
    executor.close()


def test_an_observer_runs_one_by_one_and_that_is_said(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    executor, _ = open_fake(bundle)
    seen: list[str] = []
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = restore(
                executor, bundle.preset, lines(bundle.preset), steps=2,
                observer=lambda step, graph, inputs, outputs: seen.append(graph),
            )  # fmt: skip
    assert found.executor.endswith(":eager")
    assert seen.count("unet_step") == 4
    assert caplog.text.count("observer") == 1
    executor.close()


def test_calls_that_differ_from_the_captured_ones_still_come_right(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    executor, cuda = open_fake(bundle)
    key = LoopKey(2, 1, "fixed")
    tokens, weights = lines(bundle.preset).tokens, lines(bundle.preset).weights
    toy = Toy(bundle.graphs)

    def once(weights: Any, scale: int) -> tuple[str, Any]:
        with executor.loop(key) as runner:
            inputs = {"tokens": runner.put(tokens), "weights": runner.put(weights)}
            found = runner.run("text_condition", inputs)
            for _ in range(scale):
                found = runner.run("text_condition", inputs)
            return runner.name, runner.get(found["c_cond"])

    expected = toy.run("text_condition", {"tokens": tokens, "weights": weights})["c_cond"]
    assert [once(weights, 0)[0][-6:] for _ in range(3)] == [":eager", ":graph", ":graph"]
    name, value = once(weights, 2)
    assert name.endswith(":eager")
    assert "not the one that was captured" in caplog.text
    assert (value == expected).all()
    half = lines(bundle.preset, 1)
    with executor.loop(key) as runner:  # another shape at the second put
        runner.put(tokens)
        inputs = {"tokens": runner.put(half.tokens), "weights": runner.put(half.weights)}
        value = runner.get(runner.run("text_condition", inputs)["c_cond"])
    assert (value == toy.run("text_condition", {"tokens": half.tokens, "weights": half.weights})["c_cond"]).all()
    assert once(weights, 0)[0].endswith(":graph")
    executor.close()
    assert not cuda.leaks()


def test_close_is_idempotent_and_nothing_works_afterwards(bundle: Bundle) -> None:
    executor, cuda = open_fake(bundle)
    handle = executor.put(np.zeros(3, np.float32))
    restore(executor, bundle.preset, lines(bundle.preset), steps=1)
    with executor:
        pass
    executor.close()
    assert not cuda.leaks()
    for use in (
        lambda: executor.put(np.zeros(3, np.float32)),
        lambda: executor.get(handle),
        lambda: executor.run("text_condition", {}),
        lambda: restore(executor, bundle.preset, lines(bundle.preset), steps=1),
        lambda: handle.__cuda_array_interface__,
        lambda: executor.engine("unet_step"),
    ):
        with pytest.raises(EngineError, match="closed"):
            use()


def test_closing_within_a_pass_is_refused(bundle: Bundle) -> None:
    executor, _ = open_fake(bundle)
    with executor.loop(LoopKey(1, 1, "fixed")), pytest.raises(EngineError, match="within a pass"):
        executor.close()
    executor.close()


def test_after_a_fork_nothing_works_and_nothing_is_touched(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    executor, cuda = open_fake(bundle)
    handle = executor.put(np.zeros(3, np.float32))
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    before = len(cuda.calls)
    for use in (lambda: executor.put(np.zeros(3)), lambda: executor.get(handle), lambda: executor.run("unet_step", {})):
        with pytest.raises(EngineError, match="fork"):
            use()
    with pytest.raises(EngineError, match="fork"), executor.loop(LoopKey(1, 1, "fixed")):
        pass
    executor.close()
    assert len(cuda.calls) == before
    monkeypatch.undo()
    executor.close()
    assert not cuda.leaks()


def test_wrong_inputs_and_graphs_are_named(bundle: Bundle) -> None:
    executor, _ = open_fake(bundle)
    with pytest.raises(EngineError, match="no graph 'abacus'"):
        executor.run("abacus", {})
    with pytest.raises(EngineError, match="weights"):
        executor.run("text_condition", {"tokens": executor.put(np.zeros((1, 24), np.int64))})
    wrong = {
        "tokens": executor.put(np.zeros((1, 24), np.int32)),
        "weights": executor.put(np.zeros((1, 24), np.float32)),
    }
    with pytest.raises(EngineError, match="int32"):
        executor.run("text_condition", wrong)
    other, _ = open_fake(bundle)
    with pytest.raises(EngineError, match="did not make"):
        executor.get(other.put(np.zeros(3)))
    with pytest.raises(DeviceError, match="cuda:3"):
        open_fake(bundle, index=3)
    executor.close()
    other.close()


def use(executor: TensorRTExecutor, bundle: Bundle) -> list[LoopOutput]:
    given = lines(bundle.preset, 1)
    return [restore(executor, bundle.preset, given, steps=1, text_sampler="categorical") for _ in range(3)]


def count_calls(bundle: Bundle) -> int:
    executor, cuda = open_fake(bundle)
    use(executor, bundle)
    executor.close()
    return len(cuda.calls)


def check_failing_call(bundle: Bundle, number: int, expected: list[LoopOutput]) -> None:
    """A failing call either raises one of our errors or is logged, leaks nothing, and never gives a wrong result."""
    from tests.runtime.executors.fake_cuda import FakeCuda
    from tests.runtime.executors.fake_tensorrt import FakeSource

    cuda = FakeCuda(fail_at=number)
    try:
        executor = TensorRTExecutor(bundle.graphs, FakeSource(cuda, Toy(bundle.graphs).run), api=cuda)
    except TextSRError:
        assert not cuda.leaks(), cuda.failed
        return
    try:
        found = use(executor, bundle)
        assert all(same(one, other) for one, other in zip(found, expected, strict=True)), cuda.failed
    except TextSRError:
        again = use(executor, bundle)  # the executor goes on
        assert same(again[0], expected[0])
    finally:
        cuda.fail_at = cuda.fail_at if cuda.failed else number
        executor.close()
    gc.collect()
    assert not cuda.leaks(), cuda.failed


def test_any_call_may_fail_once(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    given = lines(bundle.preset, 1)
    expected = [restore(Toy(bundle.graphs), bundle.preset, given, steps=1, text_sampler="categorical")]
    for number in range(0, count_calls(bundle), 61):
        check_failing_call(bundle, number, expected * 3)


@pytest.mark.slow
def test_every_call_may_fail_once(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    expected = [
        restore(Toy(bundle.graphs), bundle.preset, lines(bundle.preset, 1), steps=1, text_sampler="categorical")
    ]
    for number in range(count_calls(bundle)):
        check_failing_call(bundle, number, expected * 3)


def test_a_capture_that_fails_goes_on_one_by_one_and_says_so(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    executor, cuda = open_fake(bundle)
    given = lines(bundle.preset, 1)
    for _ in range(2):
        restore(executor, bundle.preset, given, steps=1)
    executor.close()
    number = cuda.calls.index("cudaGraphInstantiate")
    executor, cuda = open_fake(bundle, fail_at=number)
    first, second = (restore(executor, bundle.preset, given, steps=1) for _ in range(2))
    assert cuda.failed == "cudaGraphInstantiate"
    assert second.executor.endswith(":eager")
    assert "capturing failed" in caplog.text
    assert same(first, second)
    executor.close()
    assert not cuda.leaks()


def test_out_of_memory_is_told_with_sizes(bundle: Bundle) -> None:
    executor, cuda = open_fake(bundle)
    cuda.room = 1 << 21
    with pytest.raises(DeviceError, match="MiB are held: use a smaller batch"):
        executor.put(np.zeros(1 << 20, np.float32))
    executor.close()
    assert not cuda.leaks()


def test_free_memory_is_given_back_before_memory_runs_out(bundle: Bundle) -> None:
    executor, cuda = open_fake(bundle)
    cuda.room = 5 << 20
    for size in (1 << 20, 3 << 18, 1 << 19):  # each another class; together they do not fit
        executor.get(executor.put(np.full(size, 3, np.float32)))
    executor.close()
    assert not cuda.leaks()


def test_seeds_reach_the_graphs(bundle: Bundle) -> None:
    """The fake would not notice noise that never arrives: the inputs of a replay are the new pass's own."""
    seen: list[Any] = []
    toy = Toy(bundle.graphs)

    def compute(graph: str, arrays: Any) -> Any:
        if graph == "vqgan_encoder":
            seen.append(arrays["noise"].copy())
        return toy.run(graph, arrays)

    executor, _ = open_fake(bundle, compute)
    given = lines(bundle.preset, 1)
    for seed in (7, 8, 9):
        restore(executor, bundle.preset, given, seed=seed, steps=1)
        assert (seen[-1][0] == normal(seed, given.keys[0], 0, 0, bundle.preset.latent_shape)).all()
    executor.close()
