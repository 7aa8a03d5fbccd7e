"""Who may call a `Restorer` now: a bounded number of calls at once, none after its end or in a forked process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.deadline import Deadline
from textsr.errors import BusyError, EngineError, InputError


class Turns:
    """Lets at most ``running`` calls in at once while ``waiting`` more wait; None bounds neither.

    This is the one queue of a restorer: within a call nothing waits, batches follow each other.
    """

    def __init__(self, running: int | None = None, waiting: int | None = None) -> None:
        """Raises InputError when a bound is too small, or there is one on waiting alone."""
        if running is not None and running < 1:
            raise InputError(f"running must be at least 1, not {running}")
        if waiting is not None and (waiting < 0 or running is None):
            raise InputError(f"waiting ({waiting}) must be at least 0 and needs a bound on running calls")
        self._most_running, self._most_waiting = running, waiting
        self._process = os.getpid()
        self._turn = threading.Condition()
        self._inside: list[int] = []  # threads of the calls that run
        self._waiting = 0
        self._closed = False
        self._count = 0

    @property
    def running(self) -> int:
        """Calls that run."""
        return len(self._inside)

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return self._waiting

    def check(self) -> None:
        """Raises EngineError after `close` and in a forked process."""
        if self._process != os.getpid():
            raise EngineError("the restorer is used after a fork: open one in the process that uses it")
        if self._closed:
            raise EngineError("the restorer is closed: open another")

    def number(self) -> int:
        """The number of a new call, from 1. Raises what `check` raises."""
        self.check()
        with self._turn:
            self._count += 1
            return self._count

    @contextmanager
    def turn(self, deadline: Deadline) -> Iterator[bool]:
        """A turn: True once it is there, False where the deadline passed before.

        :raises BusyError: too many are waiting already.
        :raises EngineError: see `check`.
        """
        self.check()
        with self._turn:
            here = self._enter(deadline)
        try:
            yield here
        finally:
            if here:
                with self._turn:
                    self._inside.remove(threading.get_ident())
                    self._turn.notify_all()

    def _enter(self, deadline: Deadline) -> bool:
        if self._full() and self._most_waiting is not None and self._waiting >= self._most_waiting:
            raise BusyError(
                f"{len(self._inside)} calls are running and {self._waiting} waiting, as many as this restorer lets in: "
                "try again later"
            )
        self._waiting += 1
        try:
            while self._full() and not self._closed:
                if not self._turn.wait(deadline.left()) and deadline.left() == 0:
                    return False
        finally:
            self._waiting -= 1
        self.check()
        self._inside.append(threading.get_ident())
        return True

    def _full(self) -> bool:
        return self._most_running is not None and len(self._inside) >= self._most_running

    def close(self) -> bool:
        """No new turns; waits for the calls that run. False where that was done before, or in a forked process.

        :raises EngineError: called from within a call, whose end it would wait for.
        """
        if self._process != os.getpid():
            return False
        with self._turn:
            if threading.get_ident() in self._inside:
                raise EngineError("close() within a call of the restorer")
            first, self._closed = not self._closed, True
            self._turn.notify_all()
            while self._inside:
                self._turn.wait()
        return first
