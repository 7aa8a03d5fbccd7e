"""The systems of the table, ready to restore lines: ours through its public door, DiffTSR with random weights."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.difftsr.sampler import Options
from benchmarks.difftsr.timing import KEY, BaselineClock, Round
from benchmarks.speed.captured import CapturedDiffTSR
from benchmarks.speed.clock import Clock, Sample, TimedExecutor, all_steps
from benchmarks.speed.plan import CAPTURED, COMPILED, DIFFTSR, EAGER, OURS, OWN_WEIGHTS, Case
from runtime import Restorer
from runtime.bundle import Bundle
from textsr.checkpoint import load_model, stated_alphabet
from textsr.config import preset
from textsr.errors import InputError
from textsr.graphs import graphs
from textsr.reference.sampler import Reference
from textsr.torch_executor import TorchExecutor

logger = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
TEXT = "清晰的文字ABC123"
"""What each line is said to say: the recogniser is no part of a line's seconds, in no system."""
Lines = Sequence[NDArray[np.uint8]]


class System(Protocol):
    """What is timed."""

    def warm(self, case: Case, lines: Lines) -> None:
        """Runs what a first call takes longer for."""

    def __call__(self, case: Case, lines: Lines) -> Sample:
        """Restores a batch of lines, `Case.timed_steps` steps of it; seconds are a line's."""


@dataclass(frozen=True)
class Sources:
    """Where networks come from. ``bundles``: name or folder by preset; a preset without one gets random weights."""

    bundles: dict[str, str]
    size: str = "full"
    threads: int | None = None


class Ours:
    """A `Restorer`, or the reference sampler where the preset has no bundle; texts are given."""

    def __init__(self, restorer: Restorer | Reference, clock: Clock = time.perf_counter) -> None:
        self._restorer: Any = restorer
        self._clock = clock
        self._warm: set[tuple[object, ...]] = set()
        self._ran_on = ""

    @property
    def name(self) -> str:
        """The executor's own name, which says what it really runs on."""
        return self._ran_on or str(self._restorer.executor.name)

    def warm(self, case: Case, lines: Lines) -> None:
        """On a CPU one step at each size; elsewhere the call itself, twice, as a pass is recorded, then captured."""
        cpu = case.device == "cpu"
        key = (case.batch, case.text_sampler, 0 if cpu else case.steps)
        if key in self._warm:
            return
        self._warm.add(key)
        for _ in range(1 if cpu else 2):
            self._call(case, lines, 1 if cpu else case.timed_steps)

    def __call__(self, case: Case, lines: Lines) -> Sample:
        """See `System`. Off the CPU, where reading results back would slow it, graphs are timed in a second call."""
        sampled, count = case.text_sampler == "categorical", len(lines)
        seconds, ran_on = None, ""
        if case.device != "cpu":
            begin = self._clock()
            self._call(case, lines, case.timed_steps)
            seconds = (self._clock() - begin) / count
            ran_on = self._ran_on
        with self._timed() as timed:
            begin = self._clock()
            self._call(case, lines, case.timed_steps)
            run = (self._clock() - begin) / count
        parts = {graph: value / count for graph, value in timed.seconds.items()}
        found = all_steps(run, parts, case.timed_steps, case.steps, sampled)
        if seconds is None:
            return found
        self._ran_on = ran_on
        return Sample(seconds, seconds, found.parts)

    @contextmanager
    def _timed(self) -> Any:
        plain = self._restorer.executor
        timed = TimedExecutor(plain, self._clock)
        self._restorer.executor = timed
        try:
            yield timed
        finally:
            self._restorer.executor = plain

    def _call(self, case: Case, lines: Lines, steps: int) -> None:
        # The lines are noise or the test set's; what they are said to say does not change what is computed.
        first, *_ = self._restorer(
            lines, [TEXT] * len(lines), steps=steps, text_sampler=case.text_sampler, batch_size=len(lines)
        )
        self._ran_on = str(getattr(first, "executor", ""))  # says whether a pass was captured


class Baseline:
    """DiffTSR eager, as released. It takes one line at a time whatever is given."""

    def __init__(self, clock: BaselineClock) -> None:
        self._clock = clock

    def warm(self, case: Case, lines: Lines) -> None:
        """One step, as the text diffusion has kernels of its own."""
        self._clock.line(1, case.text_sampler == "categorical")

    def __call__(self, case: Case, lines: Lines) -> Sample:
        """See `System`."""
        return line_of(self._clock.line(case.timed_steps, case.text_sampler == "categorical"), case.steps)


class Captured:
    """DiffTSR with equal engineering; with and without text diffusion it is captured apart."""

    def __init__(self, clock: BaselineClock) -> None:
        self._clock = clock
        self._captured: dict[str, CapturedDiffTSR] = {}

    def warm(self, case: Case, lines: Lines) -> None:
        """Captures and launches once."""
        options = Options(case.timed_steps, text_diffusion=case.text_sampler == "categorical")
        made = CapturedDiffTSR(self._clock.model, options, case.batch)
        image = np.repeat(self._clock.image, case.batch, axis=0)
        made.lay(image, np.repeat(self._clock.tokens, case.batch, axis=0), [KEY] * case.batch)
        made.run()
        self._captured[case.label] = made

    def __call__(self, case: Case, lines: Lines) -> Sample:
        """See `System`; `warm` comes before."""
        return line_of(self._captured[case.label].run(), case.steps, case.batch)


def line_of(found: Round, steps: int, batch: int = 1) -> Sample:
    """A line of ``steps`` steps from a batch's round of as many or fewer, each of which then counts as its median."""
    each = float(found.steps.sum()) if len(found.steps) == steps else float(np.median(found.steps)) * steps
    parts = {"encode": found.encode / batch, "steps": each / batch, "decode": found.decode / batch}
    return Sample(sum(parts.values()), found.total / batch, parts)


Opener = Callable[[Case], System]


def opener(sources: Sources) -> Opener:
    """What opens the system of a row; rows of one `Case.runner` share what it gives."""
    opened: dict[tuple[str, ...], System] = {}

    def open_once(case: Case) -> System:
        if case.runner not in opened:
            logger.info("opening %s", case.label)
            opened[case.runner] = open_system(case, sources)
        return opened[case.runner]

    return open_once


def open_system(case: Case, sources: Sources) -> System:
    """The system of a row.

    :raises BundleError, DeviceError, EngineError: it cannot be had here.
    """
    if sources.threads is not None:
        torch.set_num_threads(sources.threads)
    if case.system.startswith(DIFFTSR):
        dtype = torch.float16 if case.precision == "fp16" else torch.float32
        clock = BaselineClock(case.timed_steps, sources.size, case.device, dtype=dtype)
        return Captured(clock) if case.executor == CAPTURED else Baseline(clock)
    if case.system != OURS:
        raise InputError(f"unknown system {case.system!r}")
    source = sources.bundles.get(case.preset)
    if case.executor == EAGER:
        return Ours(_eager(case, source))
    if source is None and case.executor in OWN_WEIGHTS:
        return Ours(_random(case, capture=case.device != "cpu"))
    if source is None:
        raise InputError(f"no bundle of preset {case.preset}")
    return Ours(open_restorer(source, case, sources.threads))


def open_restorer(source: str, case: Case, threads: int | None) -> Restorer:
    """A restorer of a bundle, without recogniser: texts are given."""
    return Restorer.open(
        source, case.device, executor=case.executor, threads=threads, precision=case.precision, read_text=False
    )


def _eager(case: Case, source: str | None) -> Restorer | Reference:
    """The torch modules run one by one in float32, never captured."""
    if source is None:
        return _random(case, capture=False)
    bundle = Bundle.open(source)
    model = load_model(Path(bundle.path) / WEIGHTS, bundle.preset)
    executor = TorchExecutor(graphs(model), case.device)  # type: ignore[arg-type]
    return Restorer(bundle, executor, None)


def _random(case: Case, *, capture: bool) -> Reference:
    """The reference sampler with random weights, on torch as `runtime.executors.torch` sets it up."""
    with torch.device(case.device):  # drawn there, which on a GPU takes no time
        model = load_model(None, preset(case.preset))
    executor = TorchExecutor(
        graphs(model),  # type: ignore[arg-type]
        case.device,
        precision=case.precision,
        capture=capture,
        compiled=case.executor == COMPILED,
    )
    return Reference(executor, preset(case.preset), stated_alphabet({}), None)
