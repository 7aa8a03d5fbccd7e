"""What the service works with: the restorer and its two queues, opened together and ended together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from runtime.pages import Pages
from runtime.restorer import Restorer
from runtime.serve.batching import Batcher
from runtime.serve.metrics import Metrics
from runtime.serve.pagework import PageJob, PageOutcome, run_page
from runtime.serve.settings import Settings
from runtime.serve.work import Job, Outcome, run, warm_up
from textsr.errors import InputError

logger = logging.getLogger(__name__)

OpenRestorer = Callable[[], Restorer]
OpenPages = Callable[[Restorer], Pages]
"""Raises InputError where what finds the lines of a page is not installed."""


@dataclass(frozen=True)
class Opened:
    """A restorer with the queue of lines and that of pages, which is None where nothing finds their lines.

    A page keeps a worker for seconds, so pages have places and workers of their own: pages that wait take no line's
    place, and a line never waits for a page to be done. Both call the same restorer; its executor takes their batches
    side by side, or in turns where it does one at a time.
    """

    restorer: Restorer
    lines: Batcher[Job, Outcome]
    pages: Batcher[PageJob, PageOutcome] | None

    async def stop(self) -> None:
        """Accepts nothing more and returns when all that was accepted is done."""
        await asyncio.gather(self.lines.stop(), *([self.pages.stop()] if self.pages is not None else []))

    async def close(self) -> None:
        """`stop`, then frees the restorer."""
        await self.stop()
        await asyncio.to_thread(self.restorer.close)


async def open_all(
    open_restorer: OpenRestorer, open_pages: OpenPages, settings: Settings, metrics: Metrics
) -> Opened:  # fmt: skip
    """Opens everything, in a thread, and restores a made-up line. Raises whatever the openers do."""
    restorer = await asyncio.to_thread(open_restorer)
    pages = await asyncio.to_thread(_find_pages, open_pages, restorer)
    await asyncio.to_thread(warm_up, restorer)
    restorer.on_event = metrics.on_event
    lines: Batcher[Job, Outcome] = Batcher(
        lambda jobs: run(restorer, jobs, settings.max_batch), max_batch=settings.max_batch,
        max_wait=settings.max_wait, capacity=settings.limits.queue, workers=settings.workers,
        on_batch=metrics.on_batch,
    )  # fmt: skip
    return Opened(restorer, lines, None if pages is None else _queue(pages, settings, metrics))


def _find_pages(open_pages: OpenPages, restorer: Restorer) -> Pages | None:
    try:
        return open_pages(restorer)
    except InputError as error:
        logger.warning("lines only, no pages: %s", error)
        return None


def _queue(pages: Pages, settings: Settings, metrics: Metrics) -> Batcher[PageJob, PageOutcome]:
    return Batcher(
        lambda jobs: [run_page(pages, job) for job in jobs], max_batch=1, max_wait=0.0, capacity=settings.limits.pages,
        workers=settings.page_workers, on_batch=metrics.on_page,
    )  # fmt: skip
