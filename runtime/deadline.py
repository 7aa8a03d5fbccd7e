"""Until when a call has to be done, and whether anybody still waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from textsr.errors import TextSRError

Clock = Callable[[], float]


class DeadlinePassed(TextSRError):
    """The call's time is over: what is not done is returned as it came."""


class Cancelled(TextSRError):
    """Nobody waits for the call any more: it ended with nothing done."""


@dataclass(frozen=True)
class Deadline:
    """``milliseconds`` from ``start`` on ``clock``; None: there is no end. ``cancelled`` says that nobody waits."""

    milliseconds: float | None = None
    clock: Clock = time.perf_counter
    start: float = field(default=-1.0)
    cancelled: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        if self.start < 0:
            object.__setattr__(self, "start", self.clock())

    def passed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.start

    def left(self) -> float | None:
        """Seconds that are left, at least 0; None without an end."""
        if self.milliseconds is None:
            return None
        return max(0.0, self.start + self.milliseconds / 1000 - self.clock())

    def check(self) -> None:
        """Raises Cancelled when nobody waits, DeadlinePassed when no time is left."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("the call was cancelled")
        if self.left() == 0:
            raise DeadlinePassed(f"not done within {self.milliseconds:g} ms")
