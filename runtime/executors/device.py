"""Names of precisions, and whether there is a GPU at all."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Literal

from runtime.bundle import Bundle, GraphSpec
from textsr.errors import EngineError, InputError

PRECISIONS = ("auto", "fp32", "fp16", "bf16")


def check_precision(precision: str) -> None:
    """Raises InputError unless it is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")


def graph_precision(bundle: Bundle, precision: str, *, cuda: bool) -> Literal["fp32", "fp16"]:
    """The precision of the bundle's graphs to run: ``auto`` is fp16 on CUDA where all graphs are there in half.

    Raises InputError for bf16, in which no graphs are stored.
    """
    check_precision(precision)
    if precision == "bf16":
        raise InputError("precision 'bf16': no graphs are stored in it; the executors openvino and torch compute in it")
    if precision == "auto":
        has_half = all(graph.half is not None for graph in bundle.graphs.values())
        return "fp16" if cuda and has_half else "fp32"
    return "fp16" if precision == "fp16" else "fp32"


def no_gpu() -> str:
    """Why no CUDA device can be there, found without any package; empty where the driver has at least one."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return f"this machine has no NVIDIA driver ({library})"
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        return f"the NVIDIA driver finds no GPU that it can use (error {status})"
    return "" if count.value else "the NVIDIA driver finds no GPU"


def known_graph(graphs: Mapping[str, GraphSpec], graph: str) -> GraphSpec:
    """The graph of that name. Raises EngineError that names those there are."""
    if graph not in graphs:
        raise EngineError(f"the bundle has no graph {graph!r}; it has {', '.join(sorted(graphs))}")
    return graphs[graph]


def check_names(graph: str, wanted: Iterable[str], given: Iterable[str]) -> None:
    """Raises EngineError unless the names of the inputs ``given`` are those ``wanted``."""
    wrong = set(wanted) ^ set(given)
    if wrong:
        raise EngineError(f"graph {graph}: inputs missing or not its own: {', '.join(sorted(wrong))}")


class Lifetime:
    """Whether an executor may still be used: not after `end`, and one that is ``bound`` to its process, by a GPU or
    by threads of its own, not in a forked one."""

    def __init__(self, name: str, *, bound: bool) -> None:
        self.name, self._ended = name, False
        self._process = os.getpid() if bound else None

    def check(self) -> None:
        """Raises EngineError when the executor is closed, or is bound to another process."""
        if self._process not in (None, os.getpid()):
            raise EngineError(f"{self.name} is used after a fork: open the executor in the process that uses it")
        if self._ended:
            raise EngineError(f"{self.name}: the executor is closed")

    def end(self) -> None:
        """From now on `check` raises."""
        self._ended = True
