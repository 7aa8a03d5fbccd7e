"""What is timed, what is extrapolated, and what is left alone: with a clock of our own."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.difftsr.timing import BaselineClock, Round
from benchmarks.speed.clock import REST, TimedExecutor, all_steps, mean_parts, quantiles
from benchmarks.speed.peak import Peak
from benchmarks.speed.plan import EAGER, OURS, Case
from benchmarks.speed.systems import TEXT, Ours, line_of
from runtime.bundle import Bundle
from textsr.errors import InputError

SECONDS = st.floats(1e-6, 1e3)


class Ticks:
    """A clock that stands still but for what is added to it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Echo:
    """An executor whose graphs take as many seconds as ``takes`` says."""

    def __init__(self, clock: Ticks, takes: dict[str, float], name: str = "echo:cpu") -> None:
        self.clock, self.takes, self.name, self.fetched = clock, takes, name, 0

    def put(self, array: object) -> object:
        return array

    def get(self, handle: object) -> object:
        self.fetched += 1
        return handle

    def run(self, graph: str, inputs: object) -> dict[str, object]:
        self.clock.now += self.takes[graph]
        return {"y": graph}


@pytest.mark.parametrize(("name", "fetched"), [("echo:cpu", 0), ("echo:cuda:0", 3)])
def test_timed_executor(name: str, fetched: int) -> None:
    clock = Ticks()
    inner = Echo(clock, {"a": 1.0, "b": 0.25}, name)
    timed = TimedExecutor(inner, clock)  # type: ignore[arg-type]
    assert timed.run("a", {}) == {"y": "a"}
    timed.run("a", {})
    timed.run("b", {})
    assert timed.seconds == {"a": 2.0, "b": 0.25}
    assert inner.fetched == fetched
    assert timed.get(timed.put(np.zeros(1))) is not None


@given(encode=SECONDS, step=SECONDS, text=SECONDS, rest=SECONDS, timed=st.integers(1, 18), sampled=st.booleans())
def test_steps_that_are_alike_extrapolate_to_what_all_take(
    encode: float, step: float, text: float, rest: float, timed: int, sampled: bool
) -> None:
    def run(steps: int) -> tuple[float, dict[str, float]]:
        parts = {"vqgan_encoder": encode, "text_condition": text * (steps if sampled else 1), "unet_step": step * steps}
        return sum(parts.values()) + rest, parts

    found = all_steps(*run(timed), timed, 18, sampled)
    seconds, parts = run(18)
    assert found.seconds == pytest.approx(seconds)
    assert found.run == pytest.approx(run(timed)[0])
    assert found.parts == pytest.approx({**parts, REST: rest}, rel=1e-3, abs=1e-9)
    assert sum(found.parts.values()) == pytest.approx(found.seconds)


@pytest.mark.parametrize(("timed", "steps"), [(0, 18), (19, 18)])
def test_more_steps_than_there_are_cannot_be_timed(timed: int, steps: int) -> None:
    with pytest.raises(InputError, match="at least 1 and at most all"):
        all_steps(1.0, {}, timed, steps, False)


def test_difftsr_s_line_from_some_of_its_steps() -> None:
    found = line_of(Round(1.0, np.array([2.0, 9.0, 2.0]), 3.0), 200)
    assert (found.seconds, found.run) == (404.0, 17.0)
    assert found.parts == {"encode": 1.0, "steps": 400.0, "decode": 3.0}
    assert line_of(Round(1.0, np.array([2.0, 9.0, 2.0]), 3.0), 3).seconds == 17.0  # all of them: nothing is a median
    assert line_of(Round(8.0, np.full(2, 4.0), 8.0), 4, batch=8).seconds == 4.0


@given(st.lists(SECONDS, min_size=1, max_size=30))
def test_quantiles_rise_within_the_samples(seconds: list[float]) -> None:
    found = quantiles(seconds)
    assert min(seconds) <= found["p50"] <= found["p90"] <= found["p99"] <= max(seconds)
    assert found["p50"] == pytest.approx(float(np.median(seconds)))


def test_mean_parts() -> None:
    assert mean_parts([{"a": 1.0}, {}, {"a": 3.0}]) == {"a": 2.0}
    assert mean_parts([{}]) == mean_parts([]) == {}


class _Restorer:
    """Stands for a restorer: 3 graphs, and half a second a call beside them."""

    def __init__(self, executor: Echo) -> None:
        self.executor, self.clock, self.calls = executor, executor.clock, list[dict[str, object]]()

    def __call__(self, images: list[object], texts: list[str], *, steps: int, **rest: object) -> list[SimpleNamespace]:
        self.calls.append({"lines": len(images), "texts": texts, "steps": steps, **rest})
        for graph in ("vqgan_encoder", *["unet_step"] * steps, "vqgan_decoder"):
            self.executor.run(graph, {})
        self.clock.now += 0.5
        eager = "" if "cpu" in self.executor.name else ":graph" if hasattr(self.executor, "takes") else ":eager"
        return [SimpleNamespace(executor=self.executor.name + eager)] * len(images)


def _case(device: str, timed: int, batch: int = 1) -> Case:
    return Case(OURS, "compact", EAGER, "fp32", device, batch, 18, "fixed", timed)


def _ours(device: str) -> tuple[Ours, _Restorer]:
    clock = Ticks()
    restorer = _Restorer(Echo(clock, {"vqgan_encoder": 1.0, "unet_step": 0.5, "vqgan_decoder": 2.0}, f"echo:{device}"))
    return Ours(restorer, clock), restorer  # type: ignore[arg-type]


def test_ours_on_a_cpu_times_graphs_and_line_in_one_call() -> None:
    ours, restorer = _ours("cpu")
    case = _case("cpu", 3, batch=2)
    lines = [np.zeros((4, 4, 3), np.uint8)] * 2
    ours.warm(case, lines)
    ours.warm(case, lines)
    assert [call["steps"] for call in restorer.calls] == [1]
    found = ours(case, lines)
    assert len(restorer.calls) == 2
    assert found.run == (1 + 3 * 0.5 + 2 + 0.5) / 2
    assert found.seconds == (1 + 18 * 0.5 + 2 + 0.5) / 2
    assert found.parts == {"vqgan_encoder": 0.5, "unet_step": 4.5, "vqgan_decoder": 1.0, REST: 0.25}
    assert restorer.executor.name == ours.name == "echo:cpu"
    assert restorer.calls[1]["texts"] == [TEXT] * 2


def test_ours_on_a_gpu_is_timed_without_waiting_for_each_graph() -> None:
    ours, restorer = _ours("cuda")
    case = _case("cuda", 18)
    lines = [np.zeros((4, 4, 3), np.uint8)]
    ours.warm(case, lines)
    ours.warm(case, lines)
    assert [call["steps"] for call in restorer.calls] == [18, 18]  # recorded, then captured
    inner = restorer.executor
    found = ours(case, lines)
    assert found.seconds == found.run == 1 + 18 * 0.5 + 2 + 0.5
    assert len(restorer.calls) == 4
    assert ours.name == "echo:cuda:graph"  # what was timed, not the second call
    assert inner.fetched == 20  # of the second call, whose seconds are the parts'


def test_the_timing_executor_is_taken_off_again_where_a_call_fails() -> None:
    ours, restorer = _ours("cpu")
    inner, restorer.executor.takes = restorer.executor, {}
    with pytest.raises(KeyError):
        ours(_case("cpu", 1), [np.zeros((4, 4, 3), np.uint8)])
    assert restorer.executor is inner


def test_the_rate_of_products() -> None:
    times: Iterator[float] = iter(np.arange(0, 1000, 0.125).tolist())
    assert Peak("cpu", 64, lambda: next(times)).rate(torch.float32) == pytest.approx(2 * 64**3 / 0.125 / 1e9)
    assert set(Peak("cpu", 16)()) == {"fp32", "bf16"}


def test_the_baseline_s_clock() -> None:
    clock = BaselineClock(3, "small")
    assert clock().steps.shape == (3,)
    assert clock.line(2, text_diffusion=True).steps.shape == (2,)
    with pytest.raises(InputError, match="from 1 to 1000"):
        BaselineClock(1001, "small")
    with pytest.raises(InputError, match="unknown size"):
        BaselineClock(1, "huge")


def test_the_shipped_bundle_holds_the_weights_that_eager_torch_takes() -> None:
    from benchmarks.speed.systems import WEIGHTS

    assert WEIGHTS in Bundle.open("compact", verify=False).files
