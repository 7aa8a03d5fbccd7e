"""Recording a pass of the loop, capturing it, and passing through it again with new arrays. Torch-free."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from textsr.errors import EngineError, TextSRError
from textsr.loop import Executor, Handle, LoopKey
from textsr.program import Call, Get, Program, Put, Run

logger = logging.getLogger(__name__)

CAPTURED, EAGER = ":graph", ":eager"
"""What a pass adds to its executor's name: it was launched as one captured graph, or its graphs ran one by one."""


@dataclass(eq=False)
class Value:
    """A handle within a pass: its number in the program, and what the executor keeps, where graphs run one by one."""

    number: int
    kept: Handle = None


class Captured(Protocol):
    """A program made ready on a device."""

    def fill(self, value: int, array: NDArray[Any]) -> None:
        """Lays a copy of a host array ready."""

    def filled(self, value: int) -> NDArray[Any]:
        """What was laid ready."""

    def launch(self) -> None:
        """Runs everything and waits."""

    def read(self, value: int) -> NDArray[Any]:
        """A copy of a value that the program brings to the host."""

    def close(self) -> None:
        """Frees what it holds; again does nothing."""


class Recording:
    """An executor that runs graphs one by one and writes the calls down."""

    def __init__(self, executor: Executor) -> None:
        self.name = executor.name + EAGER
        self._executor = executor
        self._calls: list[Call] = []
        self._count = 0

    def _new(self, kept: Handle) -> Value:
        self._count += 1
        return Value(self._count - 1, kept)

    def put(self, array: NDArray[Any]) -> Value:
        """See `textsr.loop.Executor`."""
        value = self._new(self._executor.put(array))
        if isinstance(array, np.ndarray):
            self._calls.append(Put(value.number, array.shape, array.dtype.str))
        else:  # an array on the device: nothing to lay ready
            self._calls.append(Put(value.number, (), ""))
        return value

    def run(self, graph: str, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """See `textsr.loop.Executor`."""
        found = self._executor.run(graph, {name: value.kept for name, value in inputs.items()})
        outputs = {name: self._new(kept) for name, kept in found.items()}
        self._calls.append(Run(graph, _numbers(inputs), _numbers(outputs)))
        return outputs

    def get(self, handle: Value) -> NDArray[Any]:
        """See `textsr.loop.Executor`."""
        self._calls.append(Get(handle.number))
        return self._executor.get(handle.kept)

    def program(self) -> Program:
        """The calls until now."""
        return Program(tuple(self._calls))


def _numbers(values: Mapping[str, Value]) -> tuple[tuple[str, int], ...]:
    return tuple((name, value.number) for name, value in values.items())


class Replay:
    """An executor that fills a captured program and launches it at the first ``get``.

    Calls that differ from the recorded ones are no error: what was called so far is run on ``executor`` one by one,
    ``warn`` is told why, the rest follows there, and ``name`` says so.
    """

    def __init__(self, program: Program, captured: Captured, executor: Executor, warn: Callable[[str], None]) -> None:
        self.name = executor.name + CAPTURED
        self._calls = program.calls
        self._captured, self._executor, self._warn = captured, executor, warn
        self._place = 0
        self._launched = False
        self._handles: dict[int, Handle] | None = None  # of what ran one by one, by number
        self._fresh = len(program.calls) << 8  # numbers that the program does not have

    def _expected(self) -> Call | None:
        follows = self._handles is None and self._place < len(self._calls)
        return self._calls[self._place] if follows else None

    def put(self, array: NDArray[Any]) -> Value:
        """See `textsr.loop.Executor`."""
        call = self._expected()
        known = isinstance(call, Put) and isinstance(array, np.ndarray)
        if known and (array.shape, array.dtype.str) == (call.shape, call.dtype):  # type: ignore[union-attr]
            self._captured.fill(call.value, array)  # type: ignore[union-attr]
            self._place += 1
            return Value(call.value)  # type: ignore[union-attr]
        handles = self._unwound(f"put of {type(array).__name__} {getattr(array, 'shape', '')}")
        return self._kept(handles, self._executor.put(array))

    def run(self, graph: str, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """See `textsr.loop.Executor`."""
        call = self._expected()
        if isinstance(call, Run) and (graph, _numbers(inputs)) == (call.graph, call.inputs):
            self._place += 1
            return {name: Value(number) for name, number in call.outputs}
        handles = self._unwound(f"run of {graph}")
        found = self._executor.run(graph, {name: _taken(handles, value) for name, value in inputs.items()})
        return {name: self._kept(handles, kept) for name, kept in found.items()}

    def get(self, handle: Value) -> NDArray[Any]:
        """See `textsr.loop.Executor`."""
        call = self._expected()
        if isinstance(call, Get) and call.value == handle.number:
            if not self._launched:
                self._captured.launch()
                self._launched = True
            self._place += 1
            return self._captured.read(handle.number)
        return self._executor.get(_taken(self._unwound(f"get of value {handle.number}"), handle))

    def _kept(self, handles: dict[int, Handle], kept: Handle) -> Value:
        self._fresh += 1
        handles[self._fresh] = kept
        return Value(self._fresh)

    def _unwound(self, call: str) -> dict[int, Handle]:
        """Handles by number, after everything called until now was run one by one."""
        if self._handles is None:
            self._warn(f"call {self._place}, {call}, is not the one that was captured")
            self.name = self._executor.name + EAGER
            self._handles = {}
            for done in self._calls[: self._place]:
                if isinstance(done, Put):
                    self._handles[done.value] = self._executor.put(self._captured.filled(done.value))
                elif isinstance(done, Run):
                    found = self._executor.run(done.graph, {name: self._handles[at] for name, at in done.inputs})
                    self._handles |= {at: found[name] for name, at in done.outputs}
        return self._handles


def _taken(handles: Mapping[int, Handle], value: Value) -> Handle:
    if value.number not in handles:
        raise EngineError("a handle of another pass of the loop: handles live as long as the pass that made them")
    return handles[value.number]


class _Plain:
    """An executor under the name that says that its graphs run one by one."""

    def __init__(self, executor: Executor) -> None:
        self.name = executor.name + EAGER
        self.put, self.run, self.get = executor.put, executor.run, executor.get


class Looper:
    """Passes of one executor on one stream, one at a time: the first of a key is recorded, later ones are replayed.

    The recorded pass also warms up. What cannot be captured, and what is observed, runs one by one: that is logged
    once a key and cause, and stands in the name. The ``limit`` keys used last stay captured.
    """

    def __init__(self, executor: Executor, capture: Callable[[Program], Captured], limit: int = 8) -> None:
        self._executor, self._capture, self._limit = executor, capture, limit
        self._programs: dict[LoopKey, Program] = {}
        self._captured: dict[LoopKey, Captured] = {}
        self._refused: set[LoopKey] = set()
        self._said: set[tuple[LoopKey, str]] = set()

    def _say(self, key: LoopKey, reason: str) -> None:
        if (key, reason) not in self._said:
            self._said.add((key, reason))
            logger.warning("%s: the graphs of %s run one by one: %s", self._executor.name, key, reason)

    @contextmanager
    def loop(self, key: LoopKey) -> Iterator[Executor]:
        """An executor for one pass of the loop; nothing it gave is of use afterwards but host arrays."""
        if key.observed:
            self._say(key, "an observer looks at every value")
        if key.observed or key in self._refused:
            yield _Plain(self._executor)
        elif key not in self._programs:
            recording = Recording(self._executor)
            yield recording
            self._recorded(key, recording.program())
        else:
            captured = self._ready(key)
            if captured is None:
                yield _Plain(self._executor)
            else:
                yield Replay(self._programs[key], captured, self._executor, lambda reason: self._say(key, reason))

    def _recorded(self, key: LoopKey, program: Program) -> None:
        reason = program.refusal()
        if reason:
            self._refused.add(key)
            self._say(key, reason)
        else:
            self._programs[key] = program

    def _ready(self, key: LoopKey) -> Captured | None:
        """The captured program of a recorded key, made now where there is none; None where that fails."""
        found = self._captured.pop(key, None)
        if found is None:
            while len(self._captured) >= self._limit:
                self._captured.pop(next(iter(self._captured))).close()
            try:
                found = self._capture(self._programs[key])
            except TextSRError as error:
                self._refused.add(key)
                self._say(key, f"capturing failed ({error})")
                return None
        self._captured[key] = found  # the last used stands last
        return found

    def close(self) -> None:
        """Frees the captured programs; again does nothing."""
        for captured in self._captured.values():
            captured.close()
        self._captured.clear()
