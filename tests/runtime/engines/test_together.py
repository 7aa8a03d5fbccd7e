"""Several processes and threads at one cache, and processes that die: with real builds of a small graph."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runtime.bundle import Bundle
from runtime.engines import EngineCache, prepare
from tests.runtime.engines.helpers import QuickBuilder, needs_rtx, planned
from textsr.errors import EngineError

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import os, sys, time
from pathlib import Path
from runtime.engines import EngineCache, Settings, Target, open_library, plan, prepare
import runtime.engines.preparing as preparing
from tests.runtime.engines.helpers import RTX, QuickBuilder, small_bundle

place, how = Path(sys.argv[1]), sys.argv[2]
library = RTX
if how == "real":
    library = open_library("tensorrt-rtx")
else:
    preparing.build_engine = builder = QuickBuilder()
    if how == "slow":
        builder.before = lambda: (print("building", flush=True), time.sleep(60))
    if how == "writing":
        os.fsync = lambda descriptor: (print("building", flush=True), time.sleep(60))
wanted = plan(small_bundle(place / "bundle"), Settings(), Target(library, None), cache=EngineCache(place / "cache"))
print("ready", flush=True)
sys.stdin.readline()
found = prepare(wanted)["small"]
print("built" if found.built else "found", found.key, len(found.read()), flush=True)
"""


def start(place: Path, how: str) -> subprocess.Popen[str]:
    """A process that waits at its plan for a line on its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(place), how],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@needs_rtx
def test_two_processes_that_build_at_once_end_with_one_engine(tmp_path: Path, bundle: Bundle) -> None:
    both = [start(tmp_path, "real") for _ in range(2)]
    for process in both:
        go(process)
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    words = [out.split() for out, _ in told]
    assert sorted(word[0] for word in words) == ["built", "found"]
    assert words[0][1:] == words[1][1:]
    assert len(list((tmp_path / "cache").glob("*.engine"))) == 1


@pytest.mark.parametrize("how", ["slow", "writing"])
def test_a_killed_build_leaves_nothing_and_blocks_nobody(
    how: str, tmp_path: Path, bundle: Bundle, cache: EngineCache, quick: QuickBuilder
) -> None:
    process = start(tmp_path, how)
    go(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wanted, one = planned(bundle, cache)
    assert (one.state, cache.entries(), cache.strangers()) == ("missing", {}, ())
    begun = time.monotonic()
    assert prepare(wanted)["small"].built
    assert time.monotonic() - begun < 2, "the dead process's lock is gone"
    names = sorted(path.name for path in cache.folder.iterdir())
    assert names == [".lock", "engines.json", f"tiny-small-fp32-{one.key[:16]}.engine"]


def test_who_holds_the_lock_for_too_long_is_named(
    tmp_path: Path, bundle: Bundle, quick: QuickBuilder, caplog: pytest.LogCaptureFixture
) -> None:
    process = start(tmp_path, "slow")
    try:
        go(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        with pytest.raises(EngineError, match=rf"is locked by process {process.pid} for more than 0\.3 s"):
            prepare(planned(bundle, EngineCache(tmp_path / "cache", patience=0.3))[0])
    finally:
        process.kill()
        process.communicate()
    assert f"waiting for process {process.pid}" in caplog.text


def test_threads_build_once(bundle: Bundle, cache: EngineCache, quick: QuickBuilder) -> None:
    quick.before = lambda: time.sleep(0.05)
    wanted, _ = planned(bundle, cache)
    found = []
    threads = [threading.Thread(target=lambda: found.append(prepare(wanted)["small"])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert quick.built == ["small"]
    assert sorted(one.built for one in found) == [False] * 5 + [True]
    assert len({one.read() for one in found}) == 1


def test_writers_of_different_things_lose_nothing(cache: EngineCache) -> None:
    def write(number: int) -> None:
        with cache.lock() as writer:
            writer.write("kernels", f"k{number}", {"number": str(number)}, b"x" * number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.size for entry in cache.entries().values()) == list(range(1, 9))
    assert len(json.loads((cache.folder / "engines.json").read_text())["entries"]) == 8
