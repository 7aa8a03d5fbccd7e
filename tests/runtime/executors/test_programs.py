"""Any sequence of calls, captured: the same values as one by one, without races, with memory used again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.bundle import GraphSpec, TensorSpec
from runtime.executors.tensorrt import TensorRTExecutor
from tests.runtime.executors.fake_cuda import FakeCuda
from tests.runtime.executors.fake_tensorrt import FakeSource
from tests.runtime.executors.helpers import Toy
from textsr.loop import Executor, LoopKey
from textsr.program import TEXT_BRANCH

WIDTH = 200
"""Elements of a line's value: as bytes above the smallest size class."""
NAMES = ("unet_step", "vqgan_decoder", *sorted(TEXT_BRANCH))


def spec(name: str) -> GraphSpec:
    tensors = [TensorSpec(letter, ("B", WIDTH), "float32") for letter in "abcd"]
    return GraphSpec(name, Path(name), tuple(tensors[:2]), tuple(tensors[2:]))


GRAPHS = {name: spec(name) for name in NAMES}


@dataclass(frozen=True)
class Plan:
    """Runs as (graph, which two values made before it reads), then which values are asked back."""

    puts: int
    runs: tuple[tuple[str, int, int], ...]
    gets: tuple[int, ...]

    def follow(self, executor: Executor, seed: int) -> list[NDArray[np.float32]]:
        rng = np.random.default_rng(seed)
        values = [executor.put(rng.random((2, WIDTH), np.float32)) for _ in range(self.puts)]
        for graph, first, second in self.runs:
            values.extend(executor.run(graph, {"a": values[first], "b": values[second]}).values())
        return [executor.get(values[place]) for place in self.gets]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    puts = draw(st.integers(1, 2))
    runs: list[tuple[str, int, int]] = []
    for graph in draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=14)):
        count = puts + 2 * len(runs)
        near = st.integers(max(0, count - 6), count - 1)  # recent values, so that older ones die
        runs.append((graph, draw(near), draw(near)))
    last = st.integers(0, puts + 2 * len(runs) - 1)
    return Plan(puts, tuple(runs), tuple(draw(st.lists(last, min_size=1, max_size=3, unique=True))))


@settings(max_examples=150, deadline=None)
@given(plans())
def test_captured_calls_give_what_single_ones_give(plan: Plan) -> None:
    cuda, toy = FakeCuda(), Toy(GRAPHS)
    executor = TensorRTExecutor(GRAPHS, FakeSource(cuda, toy.run), api=cuda)
    for seed in range(3):
        expected = plan.follow(toy, seed)
        with executor.loop(LoopKey(2, 1, "any")) as runner:
            found = plan.follow(runner, seed)
            assert runner.name.endswith(":graph" if seed else ":eager")
        assert all((one == other).all() for one, other in zip(found, expected, strict=True))
    executor.close()
    assert not cuda.leaks()


def test_memory_of_dead_values_is_used_again() -> None:
    """A chain of forty runs needs the memory of a few."""
    cuda, toy = FakeCuda(), Toy(GRAPHS)
    executor = TensorRTExecutor(GRAPHS, FakeSource(cuda, toy.run), api=cuda)
    plan = Plan(1, tuple(("unet_step", max(0, 2 * place - 1), 2 * place) for place in range(40)), (79,))
    for seed in range(2):
        with executor.loop(LoopKey(2, 1, "any")) as runner:
            plan.follow(runner, seed)
    (capture,) = cuda.live["executable"].values()
    written = {span for kind, _, what in capture.nodes if kind == "work" for span in what[1]}
    assert len(written) <= 8
    executor.close()


def test_the_keys_used_last_stay_captured() -> None:
    """With room for eight keys, nine in turn are captured anew each time, freeing the oldest; results stay right."""
    cuda, toy = FakeCuda(), Toy(GRAPHS)
    executor = TensorRTExecutor(GRAPHS, FakeSource(cuda, toy.run), api=cuda)
    plan = Plan(2, (("unet_step", 0, 1), ("mom_image", 2, 0)), (4, 3))
    for turn in range(3):
        for steps in range(9):
            with executor.loop(LoopKey(2, steps, "any")) as runner:
                found = plan.follow(runner, turn)
            assert all((one == other).all() for one, other in zip(found, plan.follow(toy, turn), strict=True))
        assert len(cuda.live["executable"]) == min(8, 9 * turn)
    assert cuda.calls.count("cudaGraphInstantiate") == 18
    assert len(cuda.pinned) == 16
    executor.close()
    assert not cuda.leaks()
