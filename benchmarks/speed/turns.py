"""The run itself: systems take turns, round after round, so that what else a machine does hits all of them alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.speed.plan import OURS, Case
from benchmarks.speed.record import Measured, Record
from benchmarks.speed.systems import Opener, System
from textsr.errors import TextSRError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Amount:
    """How much a turn measures: ``lines`` in all rounds together at most, over ``rounds`` turns."""

    rounds: int
    lines: int

    def calls(self, case: Case) -> int:
        """Calls of a turn. DiffTSR, and `paper` on a CPU, take so long that one has to do."""
        if case.system != OURS or (case.device == "cpu" and case.preset == "paper"):
            return 1
        return max(1, self.lines // (self.rounds * case.batch))


def run(
    record: Record,
    open_once: Opener,
    peak: Callable[[], dict[str, float]],
    lines: Sequence[NDArray[np.uint8]],
    amount: Amount,
    save: Callable[[], None],
) -> None:
    """Measures what the record does not have yet, saving after each turn.

    The rate of matrix products is measured anew whenever another system begins.
    A row whose system cannot be opened or fails stays without figures and with the reason; the others go on.
    """
    cases = [case for case in record.cases if not case.reason]
    warmed: set[str] = set()
    last: tuple[str, ...] = ()
    bar = tqdm(total=len(cases) * amount.rounds, desc="latency", unit="turn")
    for place in range(amount.rounds):
        for case in cases:
            bar.set_postfix_str(case.label)
            found = record.of(case)
            if len(found.turns) <= place and not found.reason:
                if case.runner != last:
                    record.peaks.append(peak())
                    last = case.runner
                _turn(found, case, open_once, lines, amount, warmed)
                save()
            bar.update()
    bar.close()


def _turn(
    found: Measured,
    case: Case,
    open_once: Opener,
    lines: Sequence[NDArray[np.uint8]],
    amount: Amount,
    warmed: set[str],
) -> None:
    done = len(found.samples)
    try:
        system = open_once(case)
        batches = [batch(lines, case.batch, done + call) for call in range(amount.calls(case))]
        if case.label not in warmed:
            system.warm(case, batches[0])
            warmed.add(case.label)
        found.turns.append([system(case, each) for each in batches])
        found.runs_on = runs_on(system, case)
    except TextSRError as error:
        found.reason = str(error)
    except torch.OutOfMemoryError as error:
        found.reason = f"out of memory: {_first_line(error)}"
    except RuntimeError as error:  # what torch raises for CUDA's errors
        found.reason = f"{type(error).__name__}: {_first_line(error)}"
    if found.reason:
        found.turns.clear()
        logger.warning("%s: %s", case.label, found.reason)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no reason given")


def runs_on(system: System, case: Case) -> str:
    """The executor's own name where it has one: that says what really ran."""
    return str(getattr(system, "name", f"torch:{case.device}"))


def batch(lines: Sequence[NDArray[np.uint8]], size: int, number: int) -> list[NDArray[np.uint8]]:
    """Batch ``number`` of the lines, which begin anew when they are used up."""
    return [lines[(number * size + place) % len(lines)] for place in range(size)]
