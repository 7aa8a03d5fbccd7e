"""CUDA's runtime on one device, every call checked, over ``cuda.bindings.runtime`` or a stand-in of the same names."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from textsr.errors import DeviceError, EngineError, TextSRError

logger = logging.getLogger(__name__)

_NON_BLOCKING = 0x01  # cudaStreamNonBlocking: no hidden ordering with the legacy default stream
_NO_TIMING = 0x02  # cudaEventDisableTiming
_DEVICE_CALLS = {
    *("cudaGetDeviceCount", "cudaSetDevice", "cudaGetDevice", "cudaMalloc", "cudaMallocHost"),
    *("cudaDeviceGetAttribute", "cudaPointerGetAttributes", "cudaMemGetInfo"),
}
"""Calls whose failure says something of the device or of what was asked of it; all others raise EngineError."""


def load_api() -> Any:
    """The module ``cuda.bindings.runtime``. Raises EngineError where it is not installed."""
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise EngineError(f"cuda.bindings cannot be imported ({error}): pip install cuda-bindings") from error


class Stream:
    """A CUDA stream; ``handle`` is its address, as every library takes it."""

    def __init__(self, handle: Any) -> None:
        self.raw = handle
        self.handle = int(handle)


class Cuda:
    """One device. Streams, events and graphs that it made and that were not destroyed go at `close`.

    Not for use after a fork: a child has no CUDA context. `check` raises there; the owner calls it on every entry.
    """

    def __init__(self, index: int = 0, api: Any = None) -> None:
        """Raises DeviceError when there is no such device, EngineError when ``cuda.bindings`` is missing."""
        self.api = load_api() if api is None else api
        self.index = index
        self._process = os.getpid()
        self._closed = False
        self._made: dict[int, tuple[str, Any, Any]] = {}  # how to destroy what, by the id of its Python object
        (count,) = self.call("cudaGetDeviceCount")
        if not 0 <= index < count:
            raise DeviceError(f"device cuda:{index} is not there: this machine has {count} CUDA device(s)")

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        """What a CUDA call returns, without its status. Raises DeviceError or EngineError with CUDA's own words."""
        status, *values = getattr(self.api, name)(*arguments)
        if status != self.api.cudaError_t.cudaSuccess:
            kind: type[TextSRError] = DeviceError if name in _DEVICE_CALLS else EngineError
            raise kind(f"{name} on cuda:{self.index}: {self._words(status)}")
        return tuple(values)

    def _words(self, status: Any) -> str:
        found = self.api.cudaGetErrorString(status)[-1]
        text = found.decode(errors="replace") if isinstance(found, bytes) else str(found)
        return f"{text} ({getattr(status, 'name', status)})"

    def quietly(self, name: str, *arguments: Any) -> None:
        """A call while tidying up: a failure is logged, so that the rest is tidied too."""
        try:
            self.call(name, *arguments)
        except TextSRError as error:
            logger.warning("while closing: %s", error)

    def check(self) -> None:
        """Raises EngineError after `close` and in a forked process."""
        if self._process != os.getpid():
            raise EngineError("CUDA is used after a fork: open the executor in the process that uses it")
        if self._closed:
            raise EngineError("the executor is closed")

    @contextmanager
    def current(self, *, closing: bool = False) -> Iterator[None]:
        """Makes this the calling thread's device, and the caller's own again afterwards.

        While ``closing`` a failure is logged, so that the rest is still tidied.
        """
        before = self.index
        try:
            (before,) = self.call("cudaGetDevice")
            if before != self.index:
                self.call("cudaSetDevice", self.index)
        except TextSRError as error:
            if not closing:
                raise
            logger.warning("while closing: %s", error)
        try:
            yield
        finally:
            if before != self.index:
                self.quietly("cudaSetDevice", before)

    def stream(self) -> Stream:
        """A new stream that does not wait for the default stream."""
        (raw,) = self.call("cudaStreamCreateWithFlags", _NON_BLOCKING)
        stream = Stream(raw)
        self._made[id(stream)] = ("cudaStreamDestroy", raw, stream)
        return stream

    def event(self) -> Any:
        """A new event without timing, kept until `close` or `destroy`."""
        (raw,) = self.call("cudaEventCreateWithFlags", _NO_TIMING)
        self._made[id(raw)] = ("cudaEventDestroy", raw, raw)
        return raw

    def destroy(self, made: Any) -> None:
        """Destroys a stream, event or executable graph; a second time does nothing."""
        name, raw, _ = self._made.pop(id(made), ("", None, None))
        if name and self._process == os.getpid():
            self.quietly(name, raw)

    def order(self, before: Any, after: Any, event: Any) -> None:
        """Work enqueued on stream ``after`` from now on waits for what ``before`` was given until now."""
        self.call("cudaEventRecord", event, before)
        self.call("cudaStreamWaitEvent", after, event, 0)

    def synchronize(self, stream: Stream) -> None:
        """Waits until a stream has done all its work."""
        self.call("cudaStreamSynchronize", stream.raw)

    def capture(self, stream: Stream, enqueue: Callable[[], None]) -> Any:
        """An executable graph of what ``enqueue`` puts on ``stream`` and the streams that it forks to and joins.

        Thread-local mode: other threads may allocate and wait meanwhile; ``enqueue`` must not.
        """
        mode = self.api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        collects = gc.isenabled()
        gc.disable()  # a foreign object that frees device memory as it goes would spoil the capture
        try:
            self.call("cudaStreamBeginCapture", stream.raw, mode)
            try:
                enqueue()
            except BaseException:
                self._abandon(stream)
                raise
            (graph,) = self.call("cudaStreamEndCapture", stream.raw)
        finally:
            if collects:
                gc.enable()
        try:
            (executable,) = self.call("cudaGraphInstantiate", graph, 0)
        finally:
            self.quietly("cudaGraphDestroy", graph)
        self._made[id(executable)] = ("cudaGraphExecDestroy", executable, executable)
        return executable

    def _abandon(self, stream: Stream) -> None:
        """Ends a capture that failed: CUDA then gives no graph, or one to throw away."""
        status, graph = self.api.cudaStreamEndCapture(stream.raw)
        if status == self.api.cudaError_t.cudaSuccess and graph is not None:
            self.quietly("cudaGraphDestroy", graph)

    def launch(self, executable: Any, stream: Stream) -> None:
        """Enqueues a captured graph."""
        self.call("cudaGraphLaunch", executable, stream.raw)

    def close(self) -> None:
        """Destroys what is left; again does nothing, and in a forked process nothing is touched."""
        if self._closed or self._process != os.getpid():
            return
        self._closed = True
        for name, raw, _ in reversed(list(self._made.values())):
            self.quietly(name, raw)
        self._made.clear()
