"""A pass of the loop as one CUDA graph over fixed memory. Not tried on a GPU yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.cuda import Buffer, Pinned
from runtime.cuda.memory import ALIGNMENT, size_class
from runtime.executors.engine import Engine, Shape
from runtime.executors.lane import Lane
from textsr.program import Program, Run

_IMAGE, _TEXT = False, True


@dataclass(frozen=True)
class _Place:
    """Where a value lies on the device."""

    address: int
    shape: Shape
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class _Step:
    """A run made ready: a context of this program's own, whose shapes never change again."""

    engine: Engine
    context: Any
    addresses: Mapping[str, int]
    side: bool
    wait: int | None


class CapturedProgram:
    """A `textsr.replay.Captured` on a lane.

    All arrays from the host lie in one pinned block and go over in one copy; each graph runs in a context of the
    program's own; the text branch is forked to the lane's second stream and joined again, each branch waiting for
    the other only where it reads what that made. Nothing is allocated or waited for while capturing.
    """

    def __init__(self, lane: Lane, program: Program, engines: Mapping[str, Engine]) -> None:
        """Prepares, runs once uncaptured, and captures. Raises DeviceError or EngineError, leaving nothing behind."""
        self._lane, self._cuda, self._program = lane, lane.cuda, program
        self._held: list[Buffer] = []
        self._pinned: list[Pinned] = []
        self._events: list[Any] = []
        self._graph: Any = None
        self._places: dict[int, _Place] = {}
        self._steps: list[_Step] = []
        self._in: dict[int, int] = {}
        self._out: dict[int, int] = {}
        self._open = True
        with lane.lock, self._cuda.current():
            try:
                self._lay_out_inputs()
                self._plan(engines)
                self._lay_out_outputs()
                self._prepare_events()
                self._enqueue()
                self._cuda.synchronize(lane.main)
                self._graph = self._cuda.capture(lane.main, self._enqueue)
            except BaseException:
                self.close()
                raise

    def _take(self, size: int) -> Buffer:
        self._held.append(self._lane.pool.take(size))
        return self._held[-1]

    def _lay_out_inputs(self) -> None:
        end, shapes = 0, {}
        for put in self._program.puts:
            shapes[put.value] = np.dtype(put.dtype), put.shape
            self._in[put.value] = end
            end += _padded(int(np.prod(put.shape, dtype=np.int64)) * np.dtype(put.dtype).itemsize)
        self._source = self._pin(end)
        self._arena = self._take(end)
        for value, (dtype, shape) in shapes.items():
            self._places[value] = _Place(self._arena.address + self._in[value], shape, dtype)

    def _lay_out_outputs(self) -> None:
        end = 0
        for value in self._program.gets:
            self._out[value] = end
            end += _padded(self._places[value].nbytes)
        self._sink = self._pin(end)

    def _pin(self, size: int) -> Pinned:
        self._pinned.append(Pinned(self._cuda, size))
        return self._pinned[-1]

    def _plan(self, engines: Mapping[str, Engine]) -> None:
        """A context for each graph and shape, memory for each value. Memory is used again where one branch alone
        touches a value: there, its next user comes after its last."""
        contexts: dict[tuple[str, tuple[Shape, ...], bool], tuple[Any, dict[str, Shape]]] = {}
        free: dict[tuple[bool, int], list[Buffer]] = {}
        lent: dict[int, tuple[int, tuple[bool, int], Buffer]] = {}  # value: place of its last use, whose, what
        waits = iter(self._program.waits)
        for place, call in enumerate(self._program.calls):
            if not isinstance(call, Run):
                continue
            engine, side = engines[call.graph], call.side
            shapes = {name: self._places[value].shape for name, value in call.inputs}
            engine.check(shapes, {name: self._places[value].dtype for name, value in call.inputs})
            key = call.graph, tuple(shapes.values()), side
            if key not in contexts:
                contexts[key] = self._context(engine, shapes, side)
            context, outputs = contexts[key]
            for name, value in call.outputs:
                dtype, shape = engine.outputs[name].dtype, outputs[name]
                size = size_class(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
                spare = free.setdefault((side, size), [])
                private = self._program.branches[value] == {side}
                buffer = spare.pop() if spare and private else self._take(size)
                self._places[value] = _Place(buffer.address, shape, dtype)
                if private:
                    lent[value] = self._program.last_use[value], (side, size), buffer
            tensors = (*call.inputs, *call.outputs)
            addresses = {name: self._places[value].address for name, value in tensors}
            self._steps.append(_Step(engine, context, addresses, side, next(waits)))
            for value in [value for value, (last, _, _) in lent.items() if last <= place]:
                _, whose, buffer = lent.pop(value)
                free.setdefault(whose, []).append(buffer)

    def _context(self, engine: Engine, shapes: Mapping[str, Shape], side: bool) -> tuple[Any, dict[str, Shape]]:
        profile = engine.profile(shapes)
        context = engine.context(profile, self._cuda, self._lane.side if side else self._lane.main)
        self._lane.scratch(engine.scratch[profile], side)
        return context, engine.shape(context, shapes)

    def _prepare_events(self) -> None:
        """One event for each run that the other branch waits for, one for the arrays (-1), one for the join."""
        self._sides = any(step.side for step in self._steps)
        needed = {step.wait for step in self._steps if step.wait is not None}
        last = max((place for place, step in enumerate(self._steps) if step.side), default=None)
        self._last_side = last
        self._marks = {}
        for place in sorted(needed | ({last} if last is not None else set())):
            self._marks[place] = self._cuda.event()
            self._events.append(self._marks[place])
        self._scratch = {}
        for side in (_IMAGE, _TEXT) if self._sides else (_IMAGE,):
            buffer = self._lane.scratch(0, side)
            self._scratch[side] = buffer.address, buffer.size
            self._held.append(buffer)

    def _enqueue(self) -> None:
        """Everything of a pass, in the recorded order: the same for the warm-up and for the capture."""
        call, kinds = self._cuda.call, self._cuda.api.cudaMemcpyKind
        main, streams = self._lane.main, {_IMAGE: self._lane.main, _TEXT: self._lane.side}
        size = self._source.size
        call("cudaMemcpyAsync", self._arena.address, self._source.address, size, kinds.cudaMemcpyHostToDevice, main.raw)
        if -1 in self._marks:
            call("cudaEventRecord", self._marks[-1], main.raw)
        for place, step in enumerate(self._steps):
            stream = streams[step.side]
            if step.wait is not None:
                call("cudaStreamWaitEvent", stream.raw, self._marks[step.wait], 0)
            step.engine.enqueue(step.context, step.addresses, self._scratch[step.side], stream)
            if place in self._marks:
                call("cudaEventRecord", self._marks[place], stream.raw)
        if self._last_side is not None:
            call("cudaStreamWaitEvent", main.raw, self._marks[self._last_side], 0)
        for value, offset in self._out.items():
            where, to = self._places[value], self._sink.address + offset
            call("cudaMemcpyAsync", to, where.address, where.nbytes, kinds.cudaMemcpyDeviceToHost, main.raw)

    def fill(self, value: int, array: NDArray[Any]) -> None:
        """Copies a host array into the pinned block."""
        self.filled(value)[...] = array

    def filled(self, value: int) -> NDArray[Any]:
        """The array's place in the pinned block."""
        self._lane.check()
        where = self._places[value]
        return self._source.array(self._in[value], where.shape, where.dtype)

    def launch(self) -> None:
        """Launches the graph and waits for it."""
        self._lane.check()
        with self._lane.lock, self._cuda.current():
            self._cuda.launch(self._graph, self._lane.main)
            self._cuda.synchronize(self._lane.main)

    def read(self, value: int) -> NDArray[Any]:
        """A copy of a value out of the pinned block."""
        self._lane.check()
        where = self._places[value]
        return self._sink.array(self._out[value], where.shape, where.dtype).copy()

    def close(self) -> None:
        """Frees the graph and its memory, after the stream's work is done; again does nothing."""
        if not self._open:
            return
        self._open = False
        with self._lane.lock, self._cuda.current(closing=True):
            self._cuda.quietly("cudaStreamSynchronize", self._lane.main.raw)
            self._cuda.quietly("cudaStreamSynchronize", self._lane.side.raw)
            for made in (self._graph, *self._events):
                self._cuda.destroy(made)
            self._steps.clear()
            self._held.clear()
            for pinned in self._pinned:
                pinned.close()


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
