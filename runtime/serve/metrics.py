"""Counts and timings for Prometheus, fed by the restorer's events and the service's own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from runtime.events import Event
from runtime.pages import PageResult

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """One service's figures, in a registry of their own."""

    def __init__(
        self, queue_length: Callable[[], float], page_queue_length: Callable[[], float], ready: Callable[[], float]
    ) -> None:
        self.registry = made = CollectorRegistry()
        self.requests = Counter("textsr_requests", "Requests answered.", ("route", "method", "status"), registry=made)
        self.request_seconds = Histogram(
            "textsr_request_seconds", "From a request to its answer.", ("route",), registry=made, buckets=SECONDS
        )
        self.lines = Counter(
            "textsr_lines", "Lines done, by cause: applied, or why not (Result.cause).", ("cause",), registry=made
        )
        self.stage_seconds = Histogram(
            "textsr_stage_seconds", "Time a batch spent in a stage.", ("stage",), registry=made, buckets=SECONDS
        )
        self.pieces = Counter("textsr_pieces", "Pieces of lines that the network restored.", registry=made)
        self.failures = Counter("textsr_failed_calls", "Calls of the restorer that failed.", registry=made)
        self.batch = Histogram("textsr_batch_lines", "Pictures in a batch.", registry=made, buckets=BATCHES)
        self.wait = Histogram(
            "textsr_queue_seconds", "How long the first of a batch waited.", registry=made, buckets=SECONDS
        )
        self.pages = Counter(
            "textsr_pages", "Pages done, by cause: applied, or why no line was (PageResult.cause).", ("cause",),
            registry=made,
        )  # fmt: skip
        self.page_seconds = Histogram(
            "textsr_page_seconds", "Time a page spent in a stage.", ("stage",), registry=made, buckets=SECONDS
        )
        self.page_wait = Histogram(
            "textsr_page_queue_seconds", "How long a page waited.", registry=made, buckets=SECONDS
        )
        Gauge("textsr_page_queue_length", "Pages that wait.", registry=made).set_function(page_queue_length)
        Gauge("textsr_queue_length", "Pictures that wait.", registry=made).set_function(queue_length)
        Gauge("textsr_ready", "1 when the service can restore.", registry=made).set_function(ready)

    def on_event(self, event: Event) -> None:
        """Takes what a `Restorer` tells."""
        if event.kind in ("read", "restore", "proofread", "guard"):
            self.stage_seconds.labels(event.kind).observe(event.seconds)
            if event.kind == "restore":
                self.pieces.inc(event.pieces)
        elif event.kind == "call":
            self.stage_seconds.labels("call").observe(event.seconds)
            if event.applied:
                self.lines.labels("applied").inc(event.applied)
            for cause, count in event.causes.items():
                if cause:
                    self.lines.labels(cause).inc(count)
        elif event.kind == "failed":
            self.failures.inc()

    def on_batch(self, jobs: int, waited: float) -> None:
        """Takes what the `Batcher` of lines tells."""
        self.batch.observe(jobs)
        self.wait.observe(waited)

    def on_page(self, _: int, waited: float) -> None:
        """Takes what the `Batcher` of pages tells."""
        self.page_wait.observe(waited)

    def page_done(self, result: PageResult) -> None:
        """Counts a page; its lines were counted by the restorer's events."""
        self.pages.labels("applied" if result.applied else result.cause).inc()
        for stage, seconds in result.timings.items():
            self.page_seconds.labels(stage).observe(seconds)

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)
