"""One page's way through the service, on the side of the threads: bytes in, what the answer says out."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.options import Options
from runtime.pages import PageOptions, PageResult, Pages
from runtime.serve.work import as_png, time_left
from textsr.errors import InputError
from textsr.images import decode_image


@dataclass(frozen=True)
class PageJob:
    """A page to restore: the bytes of its file, the options of the call and of the page. ``show_input``: the input
    comes back as it was decoded; ``until``: when (``time.monotonic``) the caller's deadline is over."""

    data: bytes
    options: Options
    page: PageOptions
    show_input: bool = False
    until: float | None = None


@dataclass(frozen=True)
class PageOutcome:
    """What became of a `PageJob`: without a result ``error`` says why it could not be used."""

    result: PageResult | None = None
    png: bytes = b""
    shown: bytes | None = None
    error: str = ""


def run_page(pages: Pages, job: PageJob) -> PageOutcome:
    """Does one page.

    :raises TextSRError: the restorer or the detector failed.
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
        )  # fmt: skip
    except InputError as error:
        return PageOutcome(error=f"{str(error)[:1].upper()}{str(error)[1:]}.")
    return PageOutcome(result, as_png(result.image), as_png(image) if job.show_input else None)
