"""Dynamic batching: what requests hand in is done together where it can be, and goes back to its request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from textsr.errors import BusyError, EngineError

logger = logging.getLogger(__name__)

Job = TypeVar("Job")
Done = TypeVar("Done")
Run = Callable[[Sequence[Job]], Sequence[Done]]
"""Does jobs of one key together, in a thread: one outcome a job, in order."""
OnBatch = Callable[[int, float], None]
"""Told of each batch: how many jobs, and how long (seconds) the first of them waited."""


class Stopping(EngineError):
    """The batcher takes nothing more: it is finishing what it accepted."""


@dataclass(eq=False)
class _Waiting(Generic[Job, Done]):
    key: Hashable
    job: Job
    future: asyncio.Future[Done]
    since: float = field(default_factory=time.monotonic)


class Batcher(Generic[Job, Done]):
    """A bounded queue and the tasks that empty it. Lives in one event loop; only ``run`` is called in threads.

    Jobs are done in the order in which they came, together with later ones of the same key. Every accepted job is
    answered exactly once, unless it is withdrawn before it is begun.
    """

    def __init__(
        self,
        run: Run[Job, Done],
        *,
        max_batch: int = 8,
        max_wait: float = 0.01,
        capacity: int = 128,
        workers: int = 1,
        on_batch: OnBatch | None = None,
    ) -> None:
        self._run, self._on_batch = run, on_batch
        self._max_batch, self._max_wait, self._capacity = max_batch, max_wait, capacity
        self._queue: deque[_Waiting[Job, Done]] = deque()
        self._changed = asyncio.Condition()
        self._under_way = 0
        self._stopping = False
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="restore")
        self._tasks = [asyncio.create_task(self._work()) for _ in range(workers)]

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._queue)

    @property
    def stopping(self) -> bool:
        """Whether nothing more is accepted."""
        return self._stopping

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is under way."""
        return not self._queue and not self._under_way

    async def submit(self, jobs: Sequence[tuple[Hashable, Job]]) -> list[asyncio.Future[Done]]:
        """Accepts all of them, each with its key, or none; futures in order.

        :raises Stopping: `stop` was called. :raises BusyError: the queue has no room for all of them.
        """
        async with self._changed:
            if self._stopping:
                raise Stopping("the service is stopping")
            if len(self._queue) + len(jobs) > self._capacity:
                raise BusyError(f"{len(self._queue)} pictures wait already, there is room for {self._capacity}")
            loop = asyncio.get_running_loop()
            made = [_Waiting[Job, Done](key, job, loop.create_future()) for key, job in jobs]
            self._queue.extend(made)
            self._changed.notify_all()
            return [waiting.future for waiting in made]

    def withdraw(self, futures: Sequence[asyncio.Future[Done]]) -> None:
        """Cancels those that nobody waits for any more; what is not begun is not done."""
        for future in futures:
            future.cancel()
        self._queue = deque(waiting for waiting in self._queue if not waiting.future.cancelled())

    async def stop(self) -> None:
        """Accepts nothing more; returns when all that was accepted is done. Again waits for the same."""
        async with self._changed:
            self._stopping = True
            self._changed.notify_all()
        await asyncio.gather(*self._tasks)
        self._pool.shutdown()

    async def _work(self) -> None:
        """One of the tasks: takes batch after batch until there is nothing left to come."""
        while batch := await self._take():
            try:
                await self._do(batch)
            finally:
                self._under_way -= len(batch)

    async def _take(self) -> list[_Waiting[Job, Done]]:
        """The next batch, taken off the queue; none once stopping and empty."""
        async with self._changed:
            while True:
                await self._changed.wait_for(lambda: bool(self._queue) or self._stopping)
                if not self._queue:
                    return []
                first = self._queue[0]
                left = first.since + self._max_wait - time.monotonic()
                if self._stopping or left <= 0 or self._alike(first.key) >= self._max_batch:
                    break
                try:
                    await asyncio.wait_for(self._changed.wait(), left)
                except TimeoutError:
                    continue
            batch = [waiting for waiting in self._queue if waiting.key == first.key][: self._max_batch]
            chosen = {id(waiting) for waiting in batch}
            self._queue = deque(waiting for waiting in self._queue if id(waiting) not in chosen)
            self._under_way += len(batch)
            return batch

    def _alike(self, key: Hashable) -> int:
        return sum(waiting.key == key for waiting in self._queue)

    async def _do(self, batch: Sequence[_Waiting[Job, Done]]) -> None:
        """Runs a batch; where that fails its jobs are tried one by one, so that a failure is its job's alone."""
        if self._on_batch is not None:
            self._on_batch(len(batch), time.monotonic() - batch[0].since)
        loop = asyncio.get_running_loop()
        try:
            jobs = [waiting.job for waiting in batch]
            found = await loop.run_in_executor(self._pool, self._run, jobs)
            if len(found) != len(batch):
                raise EngineError(f"{len(found)} outcomes of {len(batch)} jobs")
        except Exception as error:
            if len(batch) > 1:
                logger.warning("a batch of %d failed (%s): one by one", len(batch), type(error).__name__)
                for waiting in batch:
                    if not waiting.future.done():
                        await self._do([waiting])
            elif not batch[0].future.done():
                batch[0].future.set_exception(error)
            return
        for waiting, outcome in zip(batch, found, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(outcome)
