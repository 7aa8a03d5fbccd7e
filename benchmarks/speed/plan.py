"""Which rows the latency table has, and why some of them are not measured on a machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.difftsr.networks import SIZES
from textsr.config import preset
from textsr.describe import DIFFTSR_STEPS
from textsr.errors import InputError
from textsr.loop import TextSampler

OURS, DIFFTSR = "ours", "DiffTSR"
EAGER, CAPTURED = "torch eager", "torch, captured graph"
"""Executors that only exist here: torch's modules run one by one; DiffTSR with the engineering that ours has."""
OPENVINO = "openvino"
COMPILED = "torch-compile"
EXECUTORS = ("onnxruntime", OPENVINO, "torch", COMPILED, "tensorrt")
"""`Restorer.open`'s executors. Its torch is the eager one on a CPU; on CUDA it captures passes, and has own rows."""
OWN_WEIGHTS = ("torch", COMPILED)
"""Those that random weights will do for."""
Precision = Literal["fp32", "fp16", "bf16"]
FP32: Precision = "fp32"
FP16: Precision = "fp16"
BF16: Precision = "bf16"
PRECISIONS: dict[str, tuple[Precision, ...]] = {OPENVINO: (FP32, BF16), COMPILED: (FP16,)}
"""Of the rows of executors that have others than float32 and fp16; to compile one takes minutes."""
BATCHES = (1, 4, 16, 64)
DIFFTSR_BATCH = 16
"""Of DiffTSR with equal engineering, besides 1; the release takes one line at a time."""
CPU_BATCHES = {EAGER: (1, 4), "onnxruntime": (1, 4, 16), OPENVINO: (1, 4)}
FEWER = {"compact": (8, 4, 1), "paper": (4,)}
"""Steps besides all of them."""
CPU_PAPER_SAMPLED = 3
"""Steps of `paper` with sampled text that are timed on a CPU, where all take half a minute."""
CPU_DIFFTSR = 2
"""Steps of DiffTSR that are timed on a CPU, where all take ten minutes and more."""

NEEDS_CUDA = "needs a CUDA device"
HALF_ON_CPU = "ONNX Runtime's CPU kernels compute half graphs in fp32: fp16 is measured on CUDA only"
NO_HALF_TORCH = "torch's fp16 is for GPUs: measured on CUDA only"
NO_OPENVINO = "OpenVINO is not installed: pip install '.[openvino]'"
NO_BF16 = "this processor does not multiply in bfloat16"
NO_PAPER = "no bundle of paper is shipped: give --paper-bundle FOLDER (python -m export.build --preset paper)"
TOO_LONG = "a batch of this size takes a CPU long and tells nothing that a smaller one does not"


@dataclass(frozen=True)
class Case:
    """A row. ``timed_steps`` of its ``steps`` are run, the rest is extrapolated where there are fewer.

    ``reason`` tells why it is not measured; empty: it is.
    """

    system: str
    preset: str
    executor: str
    precision: Precision
    device: str
    batch: int
    steps: int
    text_sampler: TextSampler
    timed_steps: int
    reason: str = ""

    @property
    def runner(self) -> tuple[str, ...]:
        """What rows that use the same networks on the same executor have in common."""
        return self.system, self.preset, self.executor, self.precision, self.device

    @property
    def extrapolated(self) -> bool:
        """Whether only some of the steps are run."""
        return self.timed_steps < self.steps

    @property
    def label(self) -> str:
        """What names the row among a table's."""
        words = [self.system, self.preset] if self.system == OURS else [self.system]
        words += [self.executor, self.precision, f"batch {self.batch}", f"{self.steps} steps", self.text_sampler]
        return ", ".join(words)


@dataclass(frozen=True)
class Choices:
    """What a run measures with. ``device`` is cpu, cuda or cuda:N; None takes the device's usual number of steps;
    ``openvino``: the precisions that OpenVINO computes in here, none where it is not installed.

    :raises InputError: ``size`` or a number of steps is out of range.
    """

    device: str = "cpu"
    paper_bundle: bool = False
    difftsr_steps: int | None = None
    size: str = "full"
    openvino: tuple[str, ...] = (FP32, BF16)

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise InputError(f"--size {self.size}: choose one of {', '.join(SIZES)}")
        if self.difftsr_steps is not None and not 1 <= self.difftsr_steps <= DIFFTSR_STEPS:
            raise InputError(f"--difftsr-steps {self.difftsr_steps}: from 1 to {DIFFTSR_STEPS}")

    @property
    def cpu(self) -> bool:
        """Whether the device is the CPU."""
        return self.device == "cpu"


def plan(choices: Choices) -> list[Case]:
    """All rows for a device, those that cannot be measured there with their reason."""
    return [*_baseline(choices), *_ours(choices, "paper"), *_ours(choices, "compact")]


def _baseline(choices: Choices) -> Iterator[Case]:
    timed = choices.difftsr_steps or (CPU_DIFFTSR if choices.cpu else DIFFTSR_STEPS)
    name = DIFFTSR if choices.size == "full" else f"{DIFFTSR} ({choices.size} size: says nothing of DiffTSR)"
    released = Case(name, "difftsr", EAGER, FP32, choices.device, 1, DIFFTSR_STEPS, "fixed", timed)
    equal = replace(
        released, executor=CAPTURED, precision=FP16, timed_steps=DIFFTSR_STEPS, reason=NEEDS_CUDA if choices.cpu else ""
    )
    for case in (released, equal):
        yield case
        yield replace(case, text_sampler="categorical")
    yield replace(equal, batch=DIFFTSR_BATCH)


def _ours(choices: Choices, name: str) -> Iterator[Case]:
    steps = preset(name).schedule.steps
    eager = Case(OURS, name, EAGER, FP32, choices.device, 1, steps, "fixed", steps)
    yield from _variants(eager, choices)
    for executor in EXECUTORS:
        if choices.cpu and executor == "torch":
            yield replace(eager, precision=FP16, reason=NO_HALF_TORCH)
            continue
        if executor == (COMPILED if choices.cpu else OPENVINO):
            continue
        for precision in PRECISIONS.get(executor, (FP32, FP16)):
            reason = ""
            if choices.cpu:
                reason = NEEDS_CUDA if executor == "tensorrt" else HALF_ON_CPU if precision == FP16 else ""
                if executor == OPENVINO and precision not in choices.openvino:
                    reason = NO_BF16 if choices.openvino else NO_OPENVINO
            if not reason and name == "paper" and not choices.paper_bundle and executor not in OWN_WEIGHTS:
                reason = NO_PAPER
            case = replace(eager, executor=executor, precision=precision, reason=reason)
            yield from [case] if reason else _variants(case, choices)


def _variants(case: Case, choices: Choices) -> Iterator[Case]:
    """Fixed and sampled text, fewer steps, larger batches."""
    heavy = choices.cpu and case.preset == "paper"
    yield case
    yield replace(case, text_sampler="categorical", timed_steps=CPU_PAPER_SAMPLED if heavy else case.steps)
    for steps in FEWER[case.preset]:
        yield replace(case, steps=steps, timed_steps=steps)
    measured: Sequence[int] = BATCHES
    if choices.cpu:
        measured = (1,) if heavy else CPU_BATCHES[case.executor]
    for batch in BATCHES[1:]:
        yield replace(case, batch=batch, reason="" if batch in measured else TOO_LONG)
