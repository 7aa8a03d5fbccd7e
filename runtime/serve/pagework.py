"""One page's way through the service, on the side of the threads: bytes in, what the answer says out."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from runtime.options import Options
from runtime.pages import PageOptions, PageResult, Pages
from runtime.serve.work import as_png, time_left
from textsr.errors import InputError
from textsr.images import decode_image


@dataclass(frozen=True)
class PageJob:
    """A page to restore: the bytes of its file, the options of the call and of the page. ``show_input``: the input
    comes back as it was decoded; ``until``: when (``time.monotonic``) the caller's deadline is over; ``left`` is set
    once the caller has left."""

    data: bytes
    options: Options
    page: PageOptions
    show_input: bool = False
    until: float | None = None
    left: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class PageOutcome:
    """What became of a `PageJob`: without a result ``error`` says why it could not be used."""

    result: PageResult | None = None
    png: bytes = b""
    shown: bytes | None = None
    error: str = ""


def run_page(pages: Pages, job: PageJob) -> PageOutcome:
    """Does one page.

    :raises TextSRError: the restorer or the detector failed, or the caller has left.
    """
    try:
        image = decode_image(job.data)
    except InputError as error:
        return PageOutcome(error=f"The picture {error}.")
    how = job.options
    try:
        result = pages(
            image, job.page, seed=how.seed, steps=how.steps, text_sampler=how.text_sampler, batch_size=how.batch_size,
            split=how.split, gate=how.gate, deadline_ms=time_left(job.until), guarded=how.guarded,
            strength=how.strength,
            paint=how.paint,
            cancelled=job.left.is_set,
        )  # fmt: skip
    except InputError as error:
        return PageOutcome(error=f"{str(error)[:1].upper()}{str(error)[1:]}.")
    return PageOutcome(result, as_png(result.image), as_png(image) if job.show_input else None)
