"""The queue: every accepted job is answered exactly once, in its place, whatever comes together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.serve.batching import Batcher, Stopping
from textsr.errors import BusyError

JOBS = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=5)
"""A request: keys of its jobs, and whether each fails."""


class Bad(Exception):
    """What a job that fails raises."""


class Recorder:
    """Does jobs (key, number, fails) by giving back their numbers."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.batches: list[list[tuple[int, int, bool]]] = []

    def __call__(self, jobs: Sequence[tuple[int, int, bool]]) -> list[int]:
        self.batches.append(list(jobs))
        if any(fails for _, _, fails in jobs):
            raise Bad
        self.done += [number for _, number, _ in jobs]
        return [number for _, number, _ in jobs]


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(JOBS, st.integers(0, 2)), min_size=1, max_size=8),
    max_batch=st.integers(1, 4),
    capacity=st.integers(1, 12),
    workers=st.integers(1, 2),
    wait=st.sampled_from([0.0, 0.001]),
    stop_after=st.integers(0, 8),
)
def test_every_accepted_job_is_answered_once_in_order(
    requests: list[tuple[list[tuple[int, bool]], int]],
    max_batch: int,
    capacity: int,
    workers: int,
    wait: float,
    stop_after: int,
) -> None:
    recorder = Recorder()

    async def scenario() -> None:
        batcher: Batcher[tuple[int, int, bool], int] = Batcher(
            recorder, max_batch=max_batch, max_wait=wait, capacity=capacity, workers=workers
        )
        accepted: list[tuple[int, bool, asyncio.Future[int]]] = []
        number, stopping = 0, None
        for count, (jobs, pauses) in enumerate(requests):
            if count == stop_after:
                stopping = asyncio.create_task(batcher.stop())
                await asyncio.sleep(0)
            numbers = range(number, number + len(jobs))
            number += len(jobs)
            try:
                futures = await batcher.submit(
                    [(key, (key, place, fails)) for (key, fails), place in zip(jobs, numbers, strict=True)]
                )
            except Stopping:
                assert stopping is not None
                continue
            except BusyError:
                assert len(batcher) + len(jobs) > capacity
                continue
            assert stopping is None
            accepted += [(n, fails, f) for n, (_, fails), f in zip(numbers, jobs, futures, strict=True)]
            for _ in range(pauses):
                await asyncio.sleep(0.0005)
        await batcher.stop()
        assert len(batcher) == 0
        assert batcher.idle
        for place, fails, future in accepted:
            assert future.done()
            if fails:
                assert isinstance(future.exception(), Bad)
            else:
                assert future.result() == place
        assert sorted(recorder.done) == [place for place, fails, _ in accepted if not fails]

    asyncio.run(scenario())
    assert all(len(batch) <= max_batch for batch in recorder.batches)
    assert all(len({key for key, _, _ in batch}) == 1 for batch in recorder.batches)


class Held:
    """Does jobs only when let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, jobs: Sequence[int]) -> list[int]:
        self.batches.append(list(jobs))
        assert self.let.wait(20)
        return [-job for job in jobs]


def test_jobs_of_different_requests_are_done_together() -> None:
    held = Held()
    sizes: list[int] = []

    async def scenario() -> list[int]:
        batcher: Batcher[int, int] = Batcher(held, max_batch=4, max_wait=0, on_batch=lambda jobs, _: sizes.append(jobs))
        futures = await batcher.submit([("a", 1)])
        while not held.batches:
            await asyncio.sleep(0.001)
        for job in (2, 3, 4):
            futures += await batcher.submit([("a", job)])
        held.let.set()
        found = await asyncio.gather(*futures)
        await batcher.stop()
        return list(found)

    assert asyncio.run(scenario()) == [-1, -2, -3, -4]
    assert held.batches == [[1], [2, 3, 4]]
    assert sizes == [1, 3]


def test_the_first_waits_for_others_no_longer_than_told() -> None:
    """Nothing else comes: with an hour's patience it is the full batch that starts the work."""
    held = Held()
    held.let.set()

    async def scenario() -> None:
        batcher: Batcher[int, int] = Batcher(held, max_batch=2, max_wait=3600)
        first = await batcher.submit([("a", 1)])
        await asyncio.sleep(0.05)
        assert not held.batches
        second = await batcher.submit([("a", 2)])
        assert await asyncio.gather(*first, *second) == [-1, -2]
        last = await batcher.submit([("b", 3)])
        await batcher.stop()  # does not wait for company
        assert last[0].result() == -3

    asyncio.run(scenario())
    assert held.batches == [[1, 2], [3]]


def test_what_is_withdrawn_is_not_done_and_makes_room() -> None:
    held = Held()

    async def scenario() -> None:
        batcher: Batcher[int, int] = Batcher(held, max_batch=1, max_wait=0, capacity=2)
        running = await batcher.submit([("a", 1)])
        while not held.batches:
            await asyncio.sleep(0.001)
        waiting = await batcher.submit([("a", 2), ("a", 3)])
        with pytest.raises(BusyError, match="2 pictures wait"):
            await batcher.submit([("a", 4)])
        batcher.withdraw(waiting)
        kept = await batcher.submit([("a", 5)])
        batcher.withdraw(running)  # under way: its outcome is dropped, the others' are not
        held.let.set()
        assert await kept[0] == -5
        await batcher.stop()
        assert all(future.cancelled() for future in [*running, *waiting])

    asyncio.run(scenario())
    assert held.batches == [[1], [5]]
