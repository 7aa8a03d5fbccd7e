"""The service without HTTP: opens the restorer, batches, answers, and ends in order."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

from runtime.options import Options
from runtime.plain import plain
from runtime.restorer import Restorer
from runtime.serve.batching import Batcher, Stopping
from runtime.serve.metrics import Metrics
from runtime.serve.parse import Item
from runtime.serve.problems import Problem, failed, stopping
from runtime.serve.schema import Choices
from runtime.serve.settings import Settings
from runtime.serve.work import Job, Outcome, run, warm_up
from textsr.errors import BusyError, InputError, TextSRError

logger = logging.getLogger(__name__)

OpenRestorer = Callable[[], Restorer]


class Service:
    """One restorer for all requests. ``failure`` is what kept it from opening; ``on_failure`` is told."""

    def __init__(self, open_restorer: OpenRestorer, settings: Settings) -> None:
        self.settings = settings
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] | None = None
        self.stopping = False
        self.restorer: Restorer | None = None
        self._open_restorer = open_restorer
        self._batcher: Batcher[Job, Outcome] | None = None
        self._opening: asyncio.Task[None] | None = None
        self.metrics = Metrics(lambda: len(self._batcher or ()), lambda: float(self.ready))

    @property
    def ready(self) -> bool:
        """Whether it can restore."""
        return self.restorer is not None and not self.stopping

    async def start(self) -> None:
        """Begins to open the restorer; returns at once."""
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        try:
            restorer = await asyncio.to_thread(self._open_restorer)
            await asyncio.to_thread(warm_up, restorer)
        except Exception as error:
            self.failure = error
            logger.error("the restorer cannot be opened: %s", error, exc_info=not isinstance(error, TextSRError))
            if self.on_failure is not None:
                self.on_failure()
            return
        restorer.on_event = self.metrics.on_event
        settings = self.settings
        self._batcher = Batcher(
            lambda jobs: run(restorer, jobs, settings.max_batch), max_batch=settings.max_batch,
            max_wait=settings.max_wait, capacity=settings.limits.queue, workers=settings.workers,
            on_batch=self.metrics.on_batch,
        )  # fmt: skip
        self.restorer = restorer
        logger.info("ready: %s, %s", restorer.preset.name, restorer.executor.name)

    async def stop(self) -> None:
        """Takes nothing more and returns when all that was accepted is done."""
        self.stopping = True
        if self._opening is not None:
            await self._opening
        if self._batcher is not None:
            await self._batcher.stop()

    async def close(self) -> None:
        """`stop`, then frees the restorer."""
        await self.stop()
        if self.restorer is not None:
            await asyncio.to_thread(self.restorer.close)

    async def restore(
        self, items: Sequence[Item], choices: Choices, gone: Callable[[], Any]
    ) -> list[Outcome | Problem]:
        """What became of each item, in order. ``gone()`` is awaited beside the work: when it returns first, the caller
        has left, what waits of his is withdrawn and CancelledError raised.

        :raises Problem: nothing of the request is accepted.
        """
        restorer, batcher = self._must()
        options = self._options(choices, restorer)
        found: list[Outcome | Problem] = [item.problem or failed() for item in items]
        places = [place for place, item in enumerate(items) if item.problem is None]
        until = None if choices.deadline_ms is None else time.monotonic() + choices.deadline_ms / 1000
        jobs = [
            Job(items[place].data, items[place].text, options, choices.reread, choices.show_input, until)
            for place in places
        ]
        key: Hashable = (options, until)  # a deadline is one request's own
        try:
            futures = await batcher.submit([(key, job) for job in jobs])
        except Stopping as error:
            raise stopping(self.settings.retry_after) from error
        except BusyError as error:
            wait = {"Retry-After": str(self.settings.retry_after)}
            raise Problem(429, "busy", f"{str(error)[:1].upper()}{str(error)[1:]}: try again later.", wait) from error
        for place, outcome in zip(places, await self._wait(futures, batcher, gone), strict=True):
            found[place] = outcome
        return found

    def _must(self) -> tuple[Restorer, Batcher[Job, Outcome]]:
        if self.stopping:
            raise stopping(self.settings.retry_after)
        if self.restorer is None or self._batcher is None:
            wait = {"Retry-After": str(self.settings.retry_after)}
            raise Problem(503, "not-ready", "The service is not ready yet.", wait)
        return self.restorer, self._batcher

    def _options(self, choices: Choices, restorer: Restorer) -> Options:
        steps = restorer.preset.default_steps if choices.steps is None else choices.steps
        options = Options(
            choices.seed, steps, choices.text_sampler, self.settings.max_batch, choices.scale, guarded=choices.guarded
        )
        try:
            restorer.check(options)
        except InputError as error:
            raise Problem(422, "invalid", str(error)) from error
        return options

    async def _wait(
        self, futures: Sequence[asyncio.Future[Outcome]], batcher: Batcher[Job, Outcome], gone: Callable[[], Any]
    ) -> list[Outcome | Problem]:
        leaving = asyncio.ensure_future(gone())
        answers = asyncio.gather(*futures, return_exceptions=True)
        try:
            await asyncio.wait((answers, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not answers.done():
                raise asyncio.CancelledError("the caller has left")
            return [self._told(answer) for answer in answers.result()]
        finally:
            leaving.cancel()
            if not answers.done():
                batcher.withdraw(futures)

    def _told(self, answer: Outcome | BaseException) -> Outcome | Problem:
        if isinstance(answer, BaseException):
            logger.error("a picture failed", exc_info=answer)
            return failed()
        if answer.error:
            if answer.result is None:  # the restorer, which counts what it is given, never saw it
                self.metrics.lines.labels("input").inc()
            return Problem(422, "unusable", answer.error)
        return answer


def record(item: Item, found: Outcome | Problem) -> dict[str, Any]:
    """One entry of the answer's ``results``."""
    if isinstance(found, Problem):
        return {"name": item.name, "cause": "input" if found.status < 500 else "failed", "error": found.body()}
    assert found.result is not None
    result = found.result
    after = found.after and {"text": found.after.text, "confidences": found.after.confidences}
    told = replace(result, image=result.image[:0])
    names = (
        "applied", "cause", "reason", "text", "confidence", "confidences", "centres", "pieces", "turned", "stacked",
        "timings", "executor", "reader", "seed", "steps", "evidence",
    )  # fmt: skip
    return {
        "name": item.name,
        "image": base64.b64encode(found.png).decode(),
        "width": result.image.shape[1],
        "height": result.image.shape[0],
        "after": plain(after),
        "input": None if found.shown is None else base64.b64encode(found.shown).decode(),
        **{name: plain(getattr(told, name)) for name in names},
    }
