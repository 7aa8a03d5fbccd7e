"""Start-up and memory of a row, in a process of its own: ``python -m benchmarks.speed.apart JSON`` prints them as JSON.

Both are of one line batch with one step: more steps take no more memory.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from benchmarks.speed.plan import OURS, Case
from textsr.errors import TextSRError

logger = logging.getLogger(__name__)

LONGEST = 900
"""Seconds that such a process may take."""
RESIDENT, DEVICE = "largest resident set of the process", "device memory in use once a batch is done"


def key(case: Case) -> tuple[object, ...]:
    """Rows with the same key need the same memory: number of steps aside, all that counts.

    DiffTSR has its text networks in memory whether they run or not.
    """
    return (*case.runner, case.batch, case.text_sampler if case.system == OURS else "")


def measure(case: Case, sources: Mapping[str, Any]) -> dict[str, Any]:
    """What `main` prints for the row, from a process of its own; ``reason`` alone where that failed.

    :param sources: the fields of `benchmarks.speed.systems.Sources`.
    """
    asked = json.dumps({"case": asdict(case), "sources": dict(sources)})
    command = [sys.executable, "-m", "benchmarks.speed.apart", asked]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return {"reason": f"took longer than {LONGEST} s"}
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
        logger.warning("%s: %s", case.label, said[-1])
        return {"reason": said[-1]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def with_build(case: Case, sources: Mapping[str, Any], measured: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """`measure` where opening builds engines: the second process finds them built, so the difference is the building.

    About 0 where an engine cache had them already (TEXTSR_CACHE names another).
    """
    first = measured(case, sources)
    if "reason" in first:
        return first
    second = measured(case, sources)
    if "reason" in second:
        return second
    return {**second, "build_seconds": max(0.0, first["open_seconds"] - second["open_seconds"])}


def main(arguments: Sequence[str] | None = None) -> int:
    """Opens the row's system and restores one batch. 1 with a message where it cannot."""
    asked = json.loads((sys.argv[1:] if arguments is None else list(arguments))[0])
    case = replace(Case(**asked["case"]), steps=1, timed_steps=1)
    begin = time.perf_counter()
    try:
        found = once(case, asked["sources"], begin)
    except TextSRError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def once(case: Case, sources: Mapping[str, Any], begin: float) -> dict[str, Any]:
    """Start-up in seconds from ``begin``, imports included: until opened, and until the first batch of one step."""
    from benchmarks.speed.lines import noise  # imported here: what the system needs counts as its start-up
    from benchmarks.speed.systems import Sources, open_system

    system = open_system(case, Sources(**sources))
    opened = time.perf_counter() - begin
    system.warm(case, noise(case.batch))
    first = time.perf_counter() - begin
    size, how = peak(case.device)
    return {
        "open_seconds": opened, "first_batch_seconds": first, "build_seconds": None, "peak_bytes": size, "peak_is": how,
    }  # fmt: skip


def peak(device: str) -> tuple[int, str]:
    """Bytes, and what they are of. On a GPU all that is in use there, so nothing else should run on it."""
    if device == "cpu":
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size * (1 if sys.platform == "darwin" else 1024), RESIDENT
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return total - free, DEVICE


if __name__ == "__main__":
    raise SystemExit(main())
