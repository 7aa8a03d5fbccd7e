"""The service without HTTP: opens the restorer, batches, answers, and ends in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from runtime.options import Options
from runtime.pages import PageOptions, Pages
from runtime.restorer import Restorer
from runtime.serve.batching import Batcher, Stopping
from runtime.serve.metrics import Metrics
from runtime.serve.opening import Opened, OpenPages, OpenRestorer, open_all
from runtime.serve.pagework import PageJob, PageOutcome
from runtime.serve.parse import Item
from runtime.serve.problems import Problem, failed, stopping
from runtime.serve.schema import Choices, Common, PageChoices
from runtime.serve.settings import Settings
from runtime.serve.work import Job, Outcome
from textsr.config import SCALE
from textsr.errors import BusyError, InputError, TextSRError

logger = logging.getLogger(__name__)

Work = TypeVar("Work")
Done = TypeVar("Done")


class Service:
    """One restorer for all requests. ``failure`` is what kept it from opening; ``on_failure`` is told."""

    def __init__(self, open_restorer: OpenRestorer, settings: Settings, open_pages: OpenPages = Pages) -> None:
        self.settings = settings
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] | None = None
        self.stopping = False
        self.opened: Opened | None = None
        self._open_restorer, self._open_pages = open_restorer, open_pages
        self._opening: asyncio.Task[None] | None = None
        self.metrics = Metrics(
            lambda: len(self.opened.lines) if self.opened else 0,
            lambda: len(self.opened.pages or ()) if self.opened else 0,
            lambda: float(self.ready),
        )

    @property
    def ready(self) -> bool:
        """Whether it can restore."""
        return self.opened is not None and not self.stopping

    async def start(self) -> None:
        """Begins to open the restorer; returns at once."""
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        try:
            opened = await open_all(self._open_restorer, self._open_pages, self.settings, self.metrics)
        except Exception as error:
            self.failure = error
            logger.error("the restorer cannot be opened: %s", error, exc_info=not isinstance(error, TextSRError))
            if self.on_failure is not None:
                self.on_failure()
            return
        self.opened = opened
        restorer = opened.restorer
        logger.info("ready: %s, %s", restorer.preset.name, restorer.executor.name)

    async def stop(self) -> None:
        """Takes nothing more and returns when all that was accepted is done."""
        self.stopping = True
        if self._opening is not None:
            await self._opening
        if self.opened is not None:
            await self.opened.stop()

    async def close(self) -> None:
        """`stop`, then frees the restorer."""
        await self.stop()
        if self.opened is not None:
            await self.opened.close()

    async def restore(
        self, items: Sequence[Item], choices: Choices, gone: Callable[[], Any]
    ) -> list[Outcome | Problem]:
        """What became of each item, in order. ``gone()`` is awaited beside the work: when it returns first, the caller
        has left, what waits of his is withdrawn and CancelledError raised.

        :raises Problem: nothing of the request is accepted.
        """
        opened = self._must()
        options = self._options(choices, choices.scale, opened.restorer)
        found: list[Outcome | Problem] = [item.problem or failed() for item in items]
        places = [place for place, item in enumerate(items) if item.problem is None]
        until = _until(choices)
        jobs = [
            Job(items[place].data, items[place].text, options, choices.reread, choices.show_input, until)
            for place in places
        ]
        key: Hashable = (options, until)  # a deadline is one request's own
        answers = await self._done(opened.lines, [(key, job) for job in jobs], gone)
        for place, answer in zip(places, answers, strict=True):
            found[place] = self._told(answer)
        return found

    async def restore_page(self, item: Item, choices: PageChoices, gone: Callable[[], Any]) -> PageOutcome:
        """What became of a page, which has a result. ``gone`` as for `restore`.

        :raises Problem: it is not accepted, cannot be used, or failed.
        """
        opened = self._must()
        if opened.pages is None:
            raise Problem(501, "no-pages", "This service takes lines only: pages need its extra [ocr].")
        if item.problem is not None:
            raise item.problem
        options = self._options(choices, SCALE, opened.restorer)
        page = PageOptions(choices.scale, self.settings.limits.page_answer)
        job = PageJob(item.data, options, page, choices.show_input, _until(choices))
        try:
            answer = (await self._done(opened.pages, [(None, job)], gone))[0]
        except asyncio.CancelledError:
            job.left.set()  # one that is under way ends at its next step
            raise
        if isinstance(answer, BaseException):
            logger.error("a page failed", exc_info=answer)
            raise failed()
        if answer.result is None:
            self.metrics.pages.labels("input").inc()
            raise Problem(422, "unusable", answer.error)
        self.metrics.page_done(answer.result)
        return answer

    def _must(self) -> Opened:
        if self.stopping:
            raise stopping(self.settings.retry_after)
        if self.opened is None:
            wait = {"Retry-After": str(self.settings.retry_after)}
            raise Problem(503, "not-ready", "The service is not ready yet.", wait)
        return self.opened

    def _options(self, choices: Common, scale: float, restorer: Restorer) -> Options:
        steps = restorer.preset.default_steps if choices.steps is None else choices.steps
        options = Options(
            choices.seed,
            steps,
            choices.text_sampler,
            self.settings.max_batch,
            scale,
            guarded=choices.guarded,
            strength=choices.strength,
            paint=choices.paint,
        )
        try:
            restorer.check(options)
        except InputError as error:
            raise Problem(422, "invalid", str(error)) from error
        return options

    async def _done(
        self, queue: Batcher[Work, Done], jobs: Sequence[tuple[Hashable, Work]], gone: Callable[[], Any]
    ) -> list[Done | BaseException]:
        """What came of the jobs, in order. Raises Problem where the queue does not accept them."""
        try:
            futures = await queue.submit(jobs)
        except Stopping as error:
            raise stopping(self.settings.retry_after) from error
        except BusyError as error:
            wait = {"Retry-After": str(self.settings.retry_after)}
            raise Problem(429, "busy", f"{str(error)[:1].upper()}{str(error)[1:]}: try again later.", wait) from error
        leaving = asyncio.ensure_future(gone())
        answers = asyncio.gather(*futures, return_exceptions=True)
        try:
            await asyncio.wait((answers, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answers.done():
                raise asyncio.CancelledError("the caller has left")
            return answers.result()
        finally:
            leaving.cancel()
            if not answers.done():
                queue.withdraw(futures)

    def _told(self, answer: Outcome | BaseException) -> Outcome | Problem:
        if isinstance(answer, BaseException):
            logger.error("a picture failed", exc_info=answer)
            return failed()
        if answer.error:
            if answer.result is None:  # the restorer, which counts what it is given, never saw it
                self.metrics.lines.labels("input").inc()
            return Problem(422, "unusable", answer.error)
        return answer


def _until(choices: Common) -> float | None:
    """When, on ``time.monotonic``, the caller's time is over."""
    return None if choices.deadline_ms is None else time.monotonic() + choices.deadline_ms / 1000
