"""A stand-in for ``cuda.bindings.runtime`` that runs nothing before it must and finds what a GPU would forgive or not.

Work is deferred until something waits for it. Every access to device memory is checked for a happens-before order with
the accesses that it conflicts with, for memory that was freed, and for bounds. While a thread captures, calls that a
thread-local capture forbids fail the test. The n-th call can be made to fail.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.runtime.executors.fake_cuda_types import (
    FORBIDDEN_IN_CAPTURE,
    RELEASES,
    Attributes,
    Block,
    Capture,
    Clock,
    Event,
    Op,
    Order,
    Span,
    cudaError_t,
    cudaMemcpyKind,
    cudaMemoryType,
    cudaStreamCaptureMode,
    merge,
)


class FakeCuda:
    """The module. ``fail_at`` counts calls from 0, those of the fake TensorRT too."""

    def __init__(self, devices: int = 1, fail_at: int | None = None) -> None:
        self.devices, self.fail_at = devices, fail_at
        self.cudaError_t, self.cudaMemcpyKind = cudaError_t, cudaMemcpyKind
        self.cudaMemoryType, self.cudaStreamCaptureMode = cudaMemoryType, cudaStreamCaptureMode
        self.calls: list[str] = []
        self.failed = ""
        self.lock = threading.RLock()
        self.device = threading.local()
        self.blocks: dict[int, Block] = {}
        self.pinned: dict[int, NDArray[np.uint8]] = {}
        self.live: dict[str, dict[int, Any]] = {kind: {} for kind in ("stream", "event", "graph", "executable")}
        self.host: Clock = {}
        self.pending: list[Op] = []
        self.captures: dict[int, Capture] = {}
        self._next, self._address, self._launches = 16, 0x7F00_0000_0000, 0
        self.room = 1 << 40

    # Calling

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        if not name.startswith("cuda"):
            raise AttributeError(name)
        run = object.__getattribute__(self, f"do_{name}")

        def call(*arguments: Any) -> tuple[Any, ...]:
            with self.lock:
                if self.count(name):
                    if name in RELEASES:
                        self.forget(arguments[0])
                    if name == "cudaStreamEndCapture":  # it ends the capture also where it fails
                        self.end_capture(int(arguments[0]))
                    return (cudaError_t.cudaErrorLaunchFailure, None)
                capturing = self.captures.get(threading.get_ident())
                assert not (capturing and name in FORBIDDEN_IN_CAPTURE), f"{name} while capturing"
                values = run(*(int(a) if type(a).__name__ == "Handle" else a for a in arguments))
                return values if isinstance(values, tuple) else (cudaError_t.cudaSuccess, *values)

        return call

    def count(self, name: str) -> bool:
        """Counts a call; whether it is the one to fail."""
        with self.lock:
            self.calls.append(name)
            fails = len(self.calls) - 1 == self.fail_at and name != "cudaGetErrorString"
            if fails:
                self.failed = name
            return fails

    def forget(self, what: Any) -> None:
        """A release that failed was at least tried: that is no leak."""
        for kind in self.live.values():
            kind.pop(int(what), None)
        if int(what) in self.blocks:
            self.drain()
            self.blocks[int(what)].alive = False
        self.pinned.pop(int(what), None)

    def handle(self, kind: str, value: Any) -> list[int]:
        self._next += 1
        self.live[kind][self._next] = value
        return [self._next]

    def leaks(self) -> dict[str, int]:
        """What was not given back."""
        found = {kind: len(values) for kind, values in self.live.items()}
        found |= {"device memory": sum(block.alive for block in self.blocks.values()), "pinned": len(self.pinned)}
        return {kind: count for kind, count in found.items() if count}

    # Device and errors

    def do_cudaGetDeviceCount(self) -> list[int]:
        return [self.devices]

    def do_cudaGetDevice(self) -> list[int]:
        return [getattr(self.device, "index", 0)]

    def do_cudaSetDevice(self, index: int) -> list[int]:
        assert 0 <= index < self.devices
        self.device.index = index
        return []

    def do_cudaGetErrorString(self, status: int) -> list[bytes]:
        return [b"made to fail"]

    # Memory

    def do_cudaMalloc(self, size: int) -> Any:
        held = sum(len(block.data) for block in self.blocks.values() if block.alive)
        if held + size > self.room:
            return (cudaError_t.cudaErrorMemoryAllocation, None)
        assert size > 0
        base = self._address
        self._address += -(-size // 4096) * 4096 + 4096
        self.blocks[base] = Block(base, np.full(size, 0xCB, np.uint8))
        return [base]

    def do_cudaFree(self, address: int) -> list[int]:
        self.drain()
        assert self.blocks[address].alive, "freed twice"
        self.blocks[address].alive = False
        self.blocks[address].data = np.zeros(0, np.uint8)
        return []

    def do_cudaMallocHost(self, size: int) -> list[int]:
        memory = np.full(size, 0xCD, np.uint8)
        self.pinned[memory.ctypes.data] = memory
        return [memory.ctypes.data]

    def do_cudaFreeHost(self, address: int) -> list[int]:
        self.drain()
        del self.pinned[address]
        return []

    def do_cudaPointerGetAttributes(self, address: int) -> list[Attributes]:
        known = any(
            block.alive and block.base <= address < block.base + len(block.data) for block in self.blocks.values()
        )
        kind = cudaMemoryType.cudaMemoryTypeDevice if known else cudaMemoryType.cudaMemoryTypeUnregistered
        return [Attributes(kind, 0)]

    def view(self, address: int, size: int) -> NDArray[np.uint8]:
        """Bytes of live device memory."""
        return self.block(address, size).data[address - self.block(address, size).base :][:size]

    def block(self, address: int, size: int) -> Block:
        for block in self.blocks.values():
            if block.base <= address < block.base + max(len(block.data), 1):
                assert block.alive, f"device memory {address:#x} is used after it was freed"
                assert address + size <= block.base + len(block.data), "beyond the end of device memory"
                return block
        freed = [b for b in self.blocks.values() if not b.alive and b.base <= address < b.base + 4096]
        raise AssertionError(f"{address:#x} is {'freed' if freed else 'no'} device memory")

    def pinned_view(self, address: int, size: int) -> NDArray[np.uint8] | None:
        for base, memory in self.pinned.items():
            if base <= address and address + size <= base + len(memory):
                return memory[address - base :][:size]
        return None

    # Order

    def order(self, stream: int) -> Order:
        assert stream in self.live["stream"], f"stream {stream} does not exist"
        found: Order = self.live["stream"][stream]
        return found

    def do_cudaStreamCreateWithFlags(self, flags: int) -> list[int]:
        assert flags == 1, "a stream that waits for the default stream"
        made = self.handle("stream", None)
        self.live["stream"][made[0]] = Order(made[0])
        return made

    def do_cudaStreamDestroy(self, stream: int) -> list[int]:
        self.order(stream)
        del self.live["stream"][stream]
        return []

    def do_cudaEventCreateWithFlags(self, flags: int) -> list[int]:
        return self.handle("event", Event())

    def do_cudaEventDestroy(self, event: int) -> list[int]:
        del self.live["event"][event]
        return []

    def do_cudaEventRecord(self, event: int, stream: int) -> list[int]:
        order, found = self.order(stream), self.live["event"][event]
        found.capture, found.token, found.clock = order.capture, object(), {}
        if order.capture:
            order.capture.nodes.append(("record", stream, found.token))
        else:
            merge(order.clock, self.host)
            found.clock = dict(order.clock)
        return []

    def do_cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> list[int]:
        order, found = self.order(stream), self.live["event"][event]
        if found.capture is not None:
            assert found.capture.open, "an event of a capture that is over"
            order.capture = found.capture
            order.capture.nodes.append(("wait", stream, found.token))
        else:
            assert order.capture is None, "a capturing stream waits for what is not captured"
            merge(order.clock, found.clock)
        return []

    def do_cudaStreamSynchronize(self, stream: int) -> list[int]:
        order = self.order(stream)
        assert order.capture is None, "a capturing stream is waited for"
        self.drain(order.clock)
        merge(self.host, order.clock)
        return []

    def do_cudaDeviceSynchronize(self) -> list[int]:
        self.drain()
        for order in self.live["stream"].values():
            merge(self.host, order.clock)
        return []

    def drain(self, clock: Clock | None = None) -> None:
        """Runs what happens before ``clock``, or everything."""
        due = [op for op in self.pending if clock is None or op.tick <= clock.get(op.stream, 0)]
        self.pending = [op for op in self.pending if op not in due]
        for op in due:
            op.run()

    def enqueue(self, stream: int, reads: list[Span], writes: list[Span], run: Callable[[], None]) -> None:
        """Work on a stream; where the stream is capturing, a node."""
        order = self.order(stream)
        for span in (*reads, *writes):
            self.block(*span)
        if order.capture:
            order.capture.nodes.append(("work", stream, (reads, writes, run)))
        else:
            self.work(order, reads, writes, run)

    def work(self, order: Order, reads: list[Span], writes: list[Span], run: Callable[[], None]) -> None:
        merge(order.clock, self.host)
        order.clock[order.name] = tick = order.clock.get(order.name, 0) + 1
        for spans, writing in ((reads, False), (writes, True)):
            for address, size in spans:
                self.access(order, address, address + size, writing, tick)
        self.pending.append(Op(order.name, tick, run))

    def access(self, order: Order, low: int, high: int, writing: bool, tick: int) -> None:
        block = self.block(low, high - low)
        for start, end, wrote, who, when in block.accesses:
            if start < high and low < end and (wrote or writing):
                assert when <= order.clock.get(who, 0), f"race: {order.name} and {who} at {low:#x}"
        if writing:
            block.accesses = [entry for entry in block.accesses if not (low <= entry[0] and entry[1] <= high)]
        block.accesses.append((low, high, writing, order.name, tick))

    def do_cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> list[int]:
        down = kind == cudaMemcpyKind.cudaMemcpyDeviceToHost
        device, host = (source, to) if down else (to, source)
        pinned = self.pinned_view(host, size)
        capturing = self.order(stream).capture is not None
        assert pinned is not None or not capturing, "pageable memory in a capture"
        if pinned is None and not down:
            pinned = np.frombuffer(ctypes.string_at(host, size), np.uint8)  # read before the call returns

        def copy() -> None:
            if down:
                data = self.view(device, size)
                assert pinned is None or self.pinned_view(host, size) is not None, "pinned memory was freed"
                ctypes.memmove(host, data.ctypes.data, size)
            else:
                assert pinned is not None
                self.view(device, size)[:] = pinned

        spans = [(device, size)]
        self.enqueue(stream, spans if down else [], [] if down else spans, copy)
        if pinned is None:  # a copy to pageable memory is over when the call returns
            self.drain(self.order(stream).clock)
            merge(self.host, self.order(stream).clock)
        return []

    def do_cudaMemcpy(self, to: int, source: int, size: int, kind: int) -> list[int]:
        assert kind == cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.do_cudaDeviceSynchronize()
        ctypes.memmove(to, self.view(source, size).ctypes.data, size)
        return []

    # Capture

    def do_cudaStreamBeginCapture(self, stream: int, mode: int) -> list[int]:
        assert mode == cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        order, thread = self.order(stream), threading.get_ident()
        assert order.capture is None
        assert thread not in self.captures
        order.capture = self.captures[thread] = Capture(stream, thread)
        return []

    def do_cudaStreamEndCapture(self, stream: int) -> list[int]:
        return self.handle("graph", self.end_capture(stream))

    def end_capture(self, stream: int) -> Capture:
        capture = self.order(stream).capture
        assert capture is not None
        assert capture.origin == stream
        assert self.captures.pop(threading.get_ident()) is capture, "ended by another thread"
        capture.open = False
        for order in self.live["stream"].values():
            if order.capture is capture:
                order.capture = None
        return capture

    def do_cudaGraphInstantiate(self, graph: int, flags: int) -> list[int]:
        capture = self.live["graph"][graph]
        orders: dict[int, Order] = {}
        self.replay(
            capture, orders, lambda order, work: order.clock.update({order.name: order.clock.get(order.name, 0) + 1})
        )
        for name, order in orders.items():
            joined = orders[capture.origin].clock.get(name, 0) >= order.clock.get(name, 0)
            assert joined, "a forked stream was not joined before the capture's end"
        return self.handle("executable", capture)

    def replay(self, capture: Capture, orders: dict[int, Order], work: Callable[[Order, Any], object]) -> None:
        clocks: dict[Any, Clock] = {}
        for kind, stream, what in capture.nodes:
            order = orders.setdefault(stream, Order(stream))
            if kind == "record":
                clocks[what] = dict(order.clock)
            elif kind == "wait":
                merge(order.clock, clocks[what])
            else:
                work(order, what)

    def do_cudaGraphDestroy(self, graph: int) -> list[int]:
        del self.live["graph"][graph]
        return []

    def do_cudaGraphExecDestroy(self, executable: int) -> list[int]:
        del self.live["executable"][executable]
        return []

    def do_cudaGraphLaunch(self, executable: int, stream: int) -> list[int]:
        capture, start = self.live["executable"][executable], self.order(stream)
        self._launches += 1
        orders = {capture.origin: start}
        for _, branch, _ in capture.nodes:
            orders.setdefault(branch, Order((self._launches, branch)))
        self.replay(capture, orders, lambda order, what: self.work(order, *what))
        return []
