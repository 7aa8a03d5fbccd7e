"""One stream of work on a device: buffers, execution contexts, and runs of single graphs. Not tried on a GPU yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.cuda import Buffer, Cuda, DeviceArray, Pool, borrow, is_device_object
from runtime.executors.engine import Engine, Shape
from textsr.errors import EngineError

MOST_BORROWED = 64
"""Foreign arrays kept alive for work not waited for; with more, the stream is waited for."""


@dataclass
class _Shaped:
    """A context and the shapes that it is set to."""

    context: Any
    inputs: dict[str, Shape] = field(default_factory=dict)
    outputs: dict[str, Shape] = field(default_factory=dict)


class Lane:
    """A stream with its memory and contexts. Its methods are safe from any thread, and enqueue in the order called.

    Handles are `DeviceArray`; those of another lane of the same executor are waited for on the device.
    """

    def __init__(self, name: str, cuda: Cuda, engine: Callable[[str], Engine], owner: object) -> None:
        self.name, self.cuda, self._engine, self.owner = name, cuda, engine, owner
        self.lock = threading.RLock()
        self.main, self.side = cuda.stream(), cuda.stream()
        self.pool = Pool(cuda, self.main)
        self._event = cuda.event()
        self._contexts: dict[tuple[str, int], _Shaped] = {}
        self._scratch: dict[bool, Buffer] = {}
        self._borrowed: list[Any] = []

    def check(self) -> None:
        """Raises EngineError after `close` and in a forked process."""
        self.cuda.check()

    def scratch(self, size: int, side: bool = False) -> Buffer:
        """Memory for contexts that run one after the other on one of the two streams; grows, never shrinks."""
        found = self._scratch.get(side)
        if found is None or found.size < size:
            found = self._scratch[side] = self.pool.take(size)
        return found

    def put(self, array: Any) -> DeviceArray:
        """A host array's copy on the device, or a handle on the memory of an array that is there already."""
        self.check()
        with self.lock, self.cuda.current():
            if isinstance(array, DeviceArray):
                return self._own(array)
            if is_device_object(array):
                return borrow(array, self, self.cuda, self.main, self._event)
            array = np.ascontiguousarray(array)
            handle = DeviceArray(self, self.main, self.pool.take(array.nbytes), array.shape, array.dtype)
            if array.nbytes:  # pageable memory: CUDA has read it when the call returns
                kind = self.cuda.api.cudaMemcpyKind.cudaMemcpyHostToDevice
                address = array.ctypes.data
                self.cuda.call("cudaMemcpyAsync", handle.address, address, array.nbytes, kind, self.main.raw)
            return handle

    def get(self, handle: DeviceArray) -> NDArray[Any]:
        """The values on the host, once they are there."""
        self.check()
        with self.lock, self.cuda.current():
            self._own(handle)
            array = np.empty(handle.shape, handle.dtype)
            if array.nbytes:
                kind = self.cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
                self.cuda.call("cudaMemcpyAsync", array.ctypes.data, handle.address, array.nbytes, kind, self.main.raw)
            self._wait()
            return array

    def _wait(self) -> None:
        self.cuda.synchronize(self.main)
        self._borrowed.clear()

    def _own(self, handle: Any) -> DeviceArray:
        """The handle, made safe to use on this stream. Raises EngineError when another executor made it."""
        if not isinstance(handle, DeviceArray) or getattr(handle.lane, "owner", None) is not self.owner:
            raise EngineError(f"{self.name}: a {type(handle).__name__} that this executor did not make")
        if handle.lane is not self:
            self.cuda.order(handle.stream.raw, self.main.raw, self._event)
        if handle.lane is not self or handle.owner is not None:
            if len(self._borrowed) >= MOST_BORROWED:
                self._wait()
            self._borrowed.append(handle)  # its memory may be another's again once it is dropped
        return handle

    def run(self, graph: str, inputs: Mapping[str, DeviceArray]) -> dict[str, DeviceArray]:
        """Outputs by name, ready behind the stream's work. Raises EngineError on wrong inputs or a failing run."""
        self.check()
        engine = self._engine(graph)
        with self.lock, self.cuda.current():
            handles = {name: self._own(handle) for name, handle in inputs.items()}
            shapes = {name: handle.shape for name, handle in handles.items()}
            engine.check(shapes, {name: handle.dtype for name, handle in handles.items()})
            profile = engine.profile(shapes)
            shaped = self._context(engine, profile)
            if shaped.inputs != shapes:
                shaped.inputs = {}
                shaped.outputs = engine.shape(shaped.context, shapes)
                shaped.inputs = shapes
            outputs = {name: self._new(shape, engine.outputs[name].dtype) for name, shape in shaped.outputs.items()}
            scratch = self.scratch(engine.scratch[profile])
            addresses = {name: handle.address for name, handle in {**handles, **outputs}.items()}
            engine.enqueue(shaped.context, addresses, (scratch.address, scratch.size), self.main)
            return outputs

    def _new(self, shape: Shape, dtype: np.dtype[Any]) -> DeviceArray:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return DeviceArray(self, self.main, self.pool.take(size), shape, dtype)

    def _context(self, engine: Engine, profile: int) -> _Shaped:
        key = engine.graph, profile
        if key not in self._contexts:
            self._contexts[key] = _Shaped(engine.context(profile, self.cuda, self.main))
        return self._contexts[key]

    def close(self) -> None:
        """Frees everything; no other thread may use the lane."""
        self.cuda.quietly("cudaStreamSynchronize", self.main.raw)
        self._contexts.clear()
        self._borrowed.clear()
        self._scratch.clear()
        self.pool.close()
        for made in (self._event, self.side, self.main):
            self.cuda.destroy(made)
