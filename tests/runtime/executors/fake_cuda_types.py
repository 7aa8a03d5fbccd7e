"""What `fake_cuda.FakeCuda` keeps of memory, streams and events, and CUDA's enumerations as far as they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Clock = dict[Any, int]
Span = tuple[int, int]
"""Address and bytes."""


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInvalidDevice = 101
    cudaErrorLaunchFailure = 719


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaMemoryType(IntEnum):
    cudaMemoryTypeUnregistered = 0
    cudaMemoryTypeHost = 1
    cudaMemoryTypeDevice = 2
    cudaMemoryTypeManaged = 3


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2


ENUMS = (cudaError_t, cudaMemcpyKind, cudaMemoryType, cudaStreamCaptureMode)
FORBIDDEN_IN_CAPTURE = {
    *("cudaMalloc", "cudaFree", "cudaMallocHost", "cudaFreeHost"),
    *("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaStreamDestroy", "cudaEventDestroy"),
}
RELEASES = {"cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaEventDestroy", "cudaGraphDestroy"}
RELEASES |= {"cudaGraphExecDestroy"}


@dataclass
class Block:
    base: int
    data: NDArray[np.uint8]
    alive: bool = True
    accesses: list[tuple[int, int, bool, Any, int]] = field(default_factory=list)


@dataclass
class Op:
    stream: Any
    tick: int
    run: Callable[[], None]


@dataclass
class Order:
    """A stream, real or of a graph's branch: what happened before its next operation."""

    name: Any
    clock: Clock = field(default_factory=dict)
    capture: Capture | None = None


@dataclass
class Capture:
    origin: int
    thread: int
    nodes: list[tuple[str, int, Any]] = field(default_factory=list)
    open: bool = True


@dataclass
class Event:
    clock: Clock = field(default_factory=dict)
    capture: Capture | None = None
    token: object = None


@dataclass
class Attributes:
    type: int
    device: int


def merge(clock: Clock, other: Clock) -> None:
    for name, tick in other.items():
        clock[name] = max(tick, clock.get(name, 0))
