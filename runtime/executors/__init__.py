"""Who runs the graphs: ONNX Runtime by default, the torch modules themselves when asked for."""

from __future__ import annotations

from importlib import import_module

from runtime.bundle import Bundle
from textsr.errors import EngineError, InputError
from textsr.loop import Executor

EXECUTORS = {"onnxruntime": "runtime.executors.onnxruntime", "torch": "runtime.executors.torch"}
"""Module of each executor, imported only when it is asked for. Each has ``open_bundle(bundle, device, threads)``."""


def open_executor(
    bundle: Bundle, device: str = "auto", *, executor: str = "onnxruntime", threads: int | None = None
) -> Executor:
    """An executor for the bundle's graphs.

    :param device: auto (CUDA where the executor can use it, else CPU), cpu, cuda or cuda:N.
    :param executor: onnxruntime, or torch, which needs the extra [export].
    :param threads: CPU threads of one graph; None leaves it to the executor.
    :raises InputError: unknown executor or malformed device.
    :raises DeviceError: the device is not there.
    :raises EngineError: the executor's package is not installed.
    """
    if executor not in EXECUTORS:
        raise InputError(f"unknown executor {executor!r}: choose one of {', '.join(EXECUTORS)}")
    try:
        module = import_module(EXECUTORS[executor])
    except ImportError as error:
        raise EngineError(f"executor {executor!r} cannot be loaded: {error}. Install its packages") from error
    opened: Executor = module.open_bundle(bundle, device, threads)
    return opened
