"""Calls of one restorer from many threads, its end, forks, and what it touches outside."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime import BusyError, EngineError, Event, InputError, Restorer, Result
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_bundle, stub_restorer

ROOT = Path(__file__).resolve().parents[2]


def work(thread: int, call: int, lines: int = 3) -> tuple[list[NDArray[np.uint8]], int]:
    """A thread's call: one to so many lines of several shapes, and a seed."""
    count = 1 + (thread + call) % lines
    images = [draw_line(f"{thread}-{call}", 20 + 4 * place, 60 + 40 * place) for place in range(count)]
    return images, thread * 100 + call


def all_at_once(restorer: Restorer, threads: int, calls: int, lines: int = 3) -> dict[tuple[int, int], list[Result]]:
    """The results of each thread's calls, all threads starting together."""
    together = threading.Barrier(threads)

    def run(thread: int) -> dict[tuple[int, int], list[Result]]:
        together.wait()
        found = {}
        for call in range(calls):
            images, seed = work(thread, call, lines)
            found[thread, call] = restorer(images, seed=seed, steps=1)
        return found

    with ThreadPoolExecutor(threads) as pool:
        return {key: results for part in pool.map(run, range(threads)) for key, results in part.items()}


def check_equal(restorer: Restorer, found: dict[tuple[int, int], list[Result]], lines: int = 3) -> None:
    for (thread, call), results in found.items():
        images, seed = work(thread, call, lines)
        for one, other in zip(results, restorer(images, seed=seed, steps=1), strict=True):
            assert (one.image == other.image).all()
            assert (one.text, one.tokens, one.cause) == (other.text, other.tokens, other.cause)


def test_threads_get_what_serial_calls_get() -> None:
    restorer = stub_restorer(KnowingReader())
    found = all_at_once(restorer, 8, 5)
    assert len(found) == 40
    check_equal(restorer, found)


@pytest.mark.slow
def test_eight_threads_of_fifty_calls_with_real_graphs(tiny_bundle: Path) -> None:
    with Restorer.open(tiny_bundle, device="cpu", threads=1) as restorer:
        found = all_at_once(restorer, 8, 50, lines=1)
        assert len(found) == 400
        check_equal(restorer, found, lines=1)


class Held(StubExecutor):
    """Waits in the encoder until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go = threading.Semaphore(0), threading.Event()

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if graph == "vqgan_encoder":
            self.inside.release()
            assert self.go.wait(60)
        return super().run(graph, inputs)


def call(restorer: Restorer, **options: Any) -> list[Result]:
    return restorer([draw_line(width=90)], steps=1, **options)


def test_a_bounded_queue_refuses_what_is_too_much() -> None:
    executor, events = Held(), list[Event]()
    restorer = Restorer(stub_bundle(), executor, None, on_event=events.append, running=1, waiting=1)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(call, restorer)
        executor.inside.acquire()
        late = call_when_waiting(restorer, pool)
        with pytest.raises(BusyError, match="1 calls are running and 1 waiting"):
            call(restorer)
        executor.go.set()
        assert first.result(30)[0].applied
        assert late.result(30)[0].applied
    assert [event.kind for event in events].count("refused") == 1
    assert call(restorer)[0].applied


def call_when_waiting(restorer: Restorer, pool: ThreadPoolExecutor) -> Any:
    """A further call; returns once it waits for its turn."""
    future = pool.submit(call, restorer)
    pause = threading.Event()
    while restorer._turns.waiting == 0:
        assert not future.done()
        pause.wait(0.005)
    return future


def test_a_deadline_passes_while_waiting_too() -> None:
    executor = Held()
    restorer = Restorer(stub_bundle(), executor, None, running=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(call, restorer)
        executor.inside.acquire()
        late = call(restorer, deadline_ms=20)[0]
        executor.go.set()
        assert first.result(30)[0].applied
    assert (late.applied, late.cause) == (False, "deadline")
    assert late.image.shape == (96, 360, 3)


def test_bounds_out_of_range() -> None:
    for running, waiting in ((0, None), (None, 1), (1, -1)):
        with pytest.raises(InputError):
            Restorer(stub_bundle(), StubExecutor(), None, running=running, waiting=waiting)


def test_nothing_is_restored_after_the_end() -> None:
    closed: list[int] = []

    class Closing(StubExecutor):
        def close(self) -> None:
            closed.append(1)

    with Restorer(stub_bundle(), Closing(), None) as restorer:
        assert call(restorer)[0].applied
    with pytest.raises(EngineError, match="closed"):
        call(restorer)
    restorer.close()
    assert closed == [1]


def test_the_end_waits_for_calls_under_way() -> None:
    executor = Held()
    restorer = Restorer(stub_bundle(), executor, None, running=1)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(call, restorer)
        executor.inside.acquire()
        waiting = call_when_waiting(restorer, pool)
        ending = pool.submit(restorer.close)
        with pytest.raises(EngineError, match="closed"):
            waiting.result(30)
        assert not ending.done()
        executor.go.set()
        assert first.result(30)[0].applied
        ending.result(30)


def test_an_end_within_a_call_is_refused() -> None:
    raised: list[Exception] = []

    def close(event: Event) -> None:
        if event.kind == "restore":
            try:
                restorer.close()
            except EngineError as error:
                raised.append(error)

    restorer = Restorer(stub_bundle(), StubExecutor(), None, on_event=close)
    assert call(restorer)[0].applied
    assert len(raised) == 1
    assert call(restorer)[0].applied


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_so() -> None:
    restorer = stub_restorer()
    child = os.fork()
    if child == 0:
        try:
            call(restorer)
        except EngineError as error:
            restorer.close()
            os._exit(7 if "fork" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert call(restorer)[0].applied


def test_calls_leave_no_trace() -> None:
    restorer = stub_restorer(KnowingReader())
    before = {name: value for name, value in vars(restorer).items() if name != "executor"}
    call(restorer)
    after = {name: value for name, value in vars(restorer).items() if name != "executor"}
    assert before == after


WATCHED = """
import sys
touched = []
def watch(event, arguments):
    if event.startswith(("socket.", "ftplib.", "urllib.")) and event != "socket.__new__":
        touched.append((event, str(arguments)))
    elif event == "open" and any(letter in str(arguments[1] or "") for letter in "wax+"):
        touched.append((event, str(arguments)))
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.truncate", "subprocess.Popen"):
        touched.append((event, str(arguments)))
import numpy as np
from runtime import Restorer
from tests.runtime.helpers import draw_line
sys.addaudithook(watch)
with Restorer.open(sys.argv[1], device="cpu", threads=1) as restorer:
    results = restorer([draw_line(), draw_line("long " * 12, 24, 600)], steps=1)
assert all(result.applied for result in results), results
assert not touched, touched
"""


def test_nothing_outside_is_touched(tiny_bundle: Path, tmp_path: Path) -> None:
    """No network, no file written: every attempt is seen by Python's audit, in a folder that cannot be written to."""
    folder = tmp_path / "cwd"
    folder.mkdir(mode=0o555)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)  # as in a process of one's own
    command = [sys.executable, "-B", "-c", WATCHED, str(tiny_bundle)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())


def test_a_sequence_of_pictures_need_not_be_a_list() -> None:
    images: Sequence[NDArray[np.uint8]] = (draw_line(), draw_line("x"))
    assert len(stub_restorer()(images, steps=1)) == 2
