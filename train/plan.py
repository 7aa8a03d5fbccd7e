"""A training run in parts within a budget of minutes, over as many calls as it takes: what is kept in ``plan.json``."""

from __future__ import annotations

import json
import logging
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from textsr.errors import InputError
from train.harness import replacing

log = logging.getLogger(__name__)

PLAN = "plan.json"
SHARES = {"lines": 1.5, "ceiling": 0.5, "autoencoder": 4.0, "diffusion": 12.0, "distil": 5.0, "diagnose": 2.0}
"""The parts in order, with their minutes of 25. What one leaves goes to the later ones that train."""


class CallOver(Exception):
    """The time of this call is over, or it was asked to stop: what there is must be saved."""


def commit(folder: Path | None = None) -> str:
    """The commit of the code, with "+" where files differ from it; "unknown" outside a repository."""
    root = folder or Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=root, capture_output=True, text=True, check=True, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        log.info("no commit can be told: %s", error)
        return "unknown"
    return done.stdout.strip()


@dataclass
class Plan:
    """Where a run stands. Seconds of all calls count against ``minutes``; ``given`` are the minutes that a part got
    when it began, which stay, since its learning rate falls over them."""

    preset: str
    minutes: float
    seed: int
    commit: str = "unknown"
    calls: int = 0
    spent: float = 0.0  # seconds, of calls before this one
    given: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # that each part has taken
    done: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    weights: str = ""  # the newest usable checkpoint, below the run's folder
    steps: int | None = None  # the default number of steps, once chosen
    finished: bool = False

    @classmethod
    def open(cls, folder: Path, fresh: Plan) -> Plan:
        """The plan in ``folder``, or ``fresh`` where there is none. Raises InputError where it is another one's."""
        path = folder / PLAN
        if not path.exists():
            return fresh
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} cannot be read: {error}; give another --out") from error
        if (found.preset, found.seed) != (fresh.preset, fresh.seed):
            raise InputError(
                f"{folder} holds a run of preset {found.preset} and seed {found.seed}: give these, or another --out"
            )
        found.minutes = fresh.minutes
        if fresh.commit not in (found.commit, "unknown"):
            found.notes.append(f"call {found.calls + 1} ran at commit {fresh.commit}")
        return found

    def save(self, folder: Path) -> None:
        """Writes the plan, complete or as it was before."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / PLAN) as path:
            path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")

    def next(self) -> str | None:
        """The first part that is not done."""
        return next((name for name in SHARES if name not in self.done), None)

    def share(self, part: str, left: float) -> float:
        """Minutes for ``part``, which begins now with ``left`` minutes of the whole: its share; diffusion and
        distillation get besides what the parts before them left, and none is given more than there is."""
        scale = self.minutes / sum(SHARES.values())
        names = list(SHARES)
        later = scale * sum(SHARES[name] for name in names[names.index(part) + 1 :])
        own = scale * SHARES[part]
        wanted = left - later if part in ("diffusion", "distil") else min(own, left - later)
        return max(0.0, min(left, wanted))


@dataclass
class Clock:
    """Time of this call: ``ends`` once its minutes are over or `stop` was called."""

    minutes: float  # of this call
    before: float = 0.0  # seconds of the calls before
    stopped: bool = False
    start: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Of this call so far."""
        return time.monotonic() - self.start

    def stop(self) -> None:
        """Asks for an end at the next batch."""
        self.stopped = True

    def ends(self) -> bool:
        """Whether this call should come to its end."""
        return self.stopped or self.seconds() >= 60 * self.minutes

    def left(self, minutes: float) -> float:
        """Minutes left of a whole budget of ``minutes``."""
        return minutes - (self.before + self.seconds()) / 60

    def check(self) -> None:
        """Raises CallOver where the call should end."""
        if self.ends():
            raise CallOver
