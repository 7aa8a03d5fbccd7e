"""Opening an executor by name, and choosing the fastest one that works here."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from runtime.bundle import Bundle
from runtime.executors.device import check_precision, no_gpu
from textsr.device import Device
from textsr.errors import DeviceError, EngineError, InputError, TextSRError
from textsr.loop import Executor

logger = logging.getLogger(__name__)

EXECUTORS = {
    "tensorrt": "runtime.executors.tensorrt",
    "onnxruntime": "runtime.executors.onnxruntime",
    "torch": "runtime.executors.torch",
    "torch-compile": "runtime.executors.torch_compile",
    "openvino": "runtime.executors.openvino",
}
"""Module of each executor, imported only when it is asked for or tried. Each has ``open_bundle(bundle, device, threads,
precision)``."""
ON_CUDA = ("tensorrt", "onnxruntime", "torch")
"""What ``auto`` tries on a GPU, in this order."""
AUTO = "auto"
_PROOF = "text_condition"
"""A small graph that every bundle has: running it proves that an executor works."""


@dataclass(frozen=True)
class Attempt:
    """An executor that was tried; ``reason`` says why it was not taken, and is empty for the one that was."""

    executor: str
    device: str
    reason: str = ""


@dataclass(frozen=True)
class Choice:
    """What ``auto`` chose: the executor's name, as results have it, and what was tried before it, in order."""

    name: str
    attempts: tuple[Attempt, ...]

    def __str__(self) -> str:
        passed = [f"{at.executor} on {at.device}: {at.reason}" for at in self.attempts if at.reason]
        return "; ".join([f"{self.name} is used", *passed])


def open_executor(
    bundle: Bundle,
    device: str = "auto",
    *,
    executor: str = AUTO,
    threads: int | None = None,
    precision: str = "auto",
) -> Executor:
    """An executor for the bundle's graphs.

    :param device: auto (CUDA where an executor can use it, else CPU), cpu, cuda or cuda:N.
    :param executor: auto (see `choose_executor`), tensorrt (TensorRT or TensorRT-RTX, CUDA only), onnxruntime, torch,
        which needs the extra [export], torch-compile (torch through its compiler, which takes minutes for each new size
        of a batch and needs a C++ compiler), or openvino (CPU only), which needs the extra [openvino].
    :param threads: CPU threads of one graph; None leaves it to the executor.
    :param precision: fp32, fp16 (the bundle's half graphs; torch converts its networks), bf16 (openvino, torch), or
        auto: fp16 on CUDA where it can be had, bf16 with openvino on processors that multiply in it, else fp32.
    :raises InputError: unknown executor or precision, malformed device, or fewer than 1 thread.
    :raises DeviceError: the device is not there, or cannot be used.
    :raises EngineError: the executor's package is not installed, or it does not work here.
    :raises BundleError: the bundle has no half graphs, and fp16 is asked for.
    """
    if executor == AUTO:
        return choose_executor(bundle, device, threads=threads, precision=precision)[0]
    if executor not in EXECUTORS:
        raise InputError(f"unknown executor {executor!r}: choose one of {', '.join([AUTO, *EXECUTORS])}")
    check_precision(precision)
    Device.parse(device)
    if threads is not None and threads < 1:
        raise InputError(f"{threads} threads: give at least 1")
    try:
        module = import_module(EXECUTORS[executor])
        opened: Executor = module.open_bundle(bundle, device, threads, precision)
    except ImportError as error:
        raise EngineError(f"executor {executor!r} cannot be loaded: {error}. Install its packages") from error
    return opened


def choose_executor(
    bundle: Bundle, device: str = "auto", *, threads: int | None = None, precision: str = "auto"
) -> tuple[Executor, Choice]:
    """The first executor that is installed and runs a graph: TensorRT, ONNX Runtime and torch on CUDA, then ONNX
    Runtime on the CPU. What was tried and why it was not taken is returned and logged.

    :raises DeviceError: CUDA is asked for, and nothing works there; all reasons are told.
    :raises TextSRError: what `open_executor` raises for the CPU.
    """
    check_precision(precision)
    wanted = Device.parse(device)
    attempts: list[Attempt] = []
    absent = ""
    if wanted.kind != "cpu":
        absent, place = no_gpu(), str(Device("cuda", wanted.index))
        for name in ON_CUDA:
            opened = None
            if absent:
                attempts.append(Attempt(name, place, absent))
                continue
            try:
                opened = open_executor(bundle, place, executor=name, threads=threads, precision=precision)
                prove(opened, bundle)
            except TextSRError as error:
                _close(opened)
                attempts.append(Attempt(name, place, str(error)))
            else:
                return opened, _chosen(opened, [*attempts, Attempt(name, place)], logging.INFO)
        if wanted.kind == "cuda":
            reasons = absent or "; ".join(f"{at.executor}: {at.reason}" for at in attempts)
            raise DeviceError(
                f"device {device}: {reasons}. Use --device cpu; with a GPU, install tensorrt-rtx or onnxruntime-gpu"
            )
    opened = open_executor(bundle, "cpu", executor="onnxruntime", threads=threads, precision=precision)
    level = logging.WARNING if attempts and not absent else logging.INFO  # a GPU that goes unused is worth a word
    return opened, _chosen(opened, [*attempts, Attempt("onnxruntime", "cpu")], level)


def _chosen(executor: Executor, attempts: list[Attempt], level: int) -> Choice:
    choice = Choice(executor.name, tuple(attempts))
    logger.log(level, "%s", choice)
    return choice


def _close(executor: Executor | None) -> None:
    close = getattr(executor, "close", None)
    if close is not None:
        close()


def prove(executor: Executor, bundle: Bundle) -> None:
    """Runs a small graph on one line of padding. Raises what the executor raises, EngineError where numbers are bad."""
    inputs = {}
    for tensor in bundle.graphs[_PROOF].inputs:
        shape = tuple(side if isinstance(side, int) else 1 for side in tensor.shape)
        inputs[tensor.name] = executor.put(np.zeros(shape, tensor.dtype))
    for name, handle in executor.run(_PROOF, inputs).items():
        if not np.isfinite(executor.get(handle)).all():
            raise EngineError(f"{executor.name}: graph {_PROOF} gives values of {name} that are not finite")
