"""Progress of a build as a bar, and the interrupt key as a way out of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from tqdm import tqdm

from runtime.engines.library import Library


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0
    inside: float = 0.0

    @property
    def share(self) -> float:
        return min(1.0, (self.done + self.inside) / max(1, self.steps))


class Progress:
    """Shares of nested phases added up to one number from 0 to 1. Phases may come from several threads."""

    def __init__(self, bar: tqdm[Any] | None = None) -> None:
        self.share = 0.0
        self.interrupted = False
        self._bar = bar
        self._phases: dict[str, _Phase] = {}
        self._lock = threading.Lock()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of ``steps`` steps begins, inside ``parent`` or by itself."""
        with self._lock:
            self._phases[name] = _Phase(parent, steps)

    def step(self, name: str, step: int) -> bool:
        """Step ``step`` of a phase is done; False asks the library to stop."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is not None:
                phase.done, phase.inside = step + 1, 0.0
                self._rise(phase)
        return not self.interrupted

    def finish(self, name: str) -> None:
        """A phase has ended, whether or not all of its steps were told."""
        with self._lock:
            phase = self._phases.pop(name, None)
            if phase is not None:
                phase.done, phase.inside = max(1, phase.steps), 0.0
                self._rise(phase)

    def _rise(self, phase: _Phase) -> None:
        """Pass a phase's share up to the outermost, which is what is shown; it never falls."""
        while phase.parent is not None:
            above = self._phases.get(phase.parent)
            if above is None:
                return
            above.inside = min(phase.share, 1.0)
            phase = above
        if phase.share > self.share:
            if self._bar is not None:
                self._bar.update(phase.share - self.share)
            self.share = phase.share


def monitor(library: Library, progress: Progress) -> Any:
    """The library's ``IProgressMonitor`` for ``progress``."""
    kind = library.module.IProgressMonitor

    class Monitor(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            kind.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()


@contextmanager
def interruptible(progress: Progress) -> Iterator[None]:
    """While the library works, the interrupt key asks it to stop; then KeyboardInterrupt is raised here.

    Python would raise it in whichever of our callbacks runs next, and the library drops what those raise.
    Outside the main thread, which alone gets signals, and under a handler of somebody else's, nothing is changed.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        progress.interrupted = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if progress.interrupted:
        raise KeyboardInterrupt
