"""One picture's way through the restorer, on the side of the threads: bytes in, what the answer says out."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.lines import read_any
from runtime.options import Options
from runtime.restorer import Restorer
from runtime.result import Result
from textsr.errors import InputError
from textsr.images import decode_image
from textsr.linetext import LineText
from textsr.reading import LineReading

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A picture to restore: the bytes of its file, what the caller says it reads, the options of the call. ``reread``:
    the recogniser reads the result too; ``show_input``: the input comes back as it was decoded; ``until``: when
    (``time.monotonic``) the caller's deadline is over."""

    data: bytes
    text: LineText | None
    options: Options
    reread: bool = False
    show_input: bool = False
    until: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a `Job`: ``error`` says why it could not be used; without a result it was not decoded."""

    result: Result | None = None
    png: bytes = b""
    shown: bytes | None = None
    after: LineReading | None = None
    error: str = ""


def as_png(image: NDArray[np.uint8]) -> bytes:
    """RGB (h, w, 3) uint8 as the bytes of a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", compress_level=3)
    return stream.getvalue()


def time_left(until: float | None) -> float | None:
    """Milliseconds, above 0, until a deadline on ``time.monotonic``; None without one."""
    return None if until is None else max(1e-3, (until - time.monotonic()) * 1000)


def run(restorer: Restorer, jobs: Sequence[Job], batch_size: int) -> list[Outcome]:
    """Does jobs of equal options together. One that cannot be decoded fails alone.

    :raises TextSRError: the restorer failed on all of them.
    """
    outcomes = [Outcome() for _ in jobs]
    images: dict[int, NDArray[np.uint8]] = {}
    for place, job in enumerate(jobs):
        try:
            images[place] = decode_image(job.data)
        except InputError as error:
            outcomes[place] = Outcome(error=f"The picture {error}.")
    if not images:
        return outcomes
    how = jobs[0].options
    results = restorer(
        list(images.values()), [jobs[place].text for place in images], seed=how.seed, steps=how.steps,
        text_sampler=how.text_sampler, batch_size=batch_size, scale=how.scale, split=how.split, gate=how.gate,
        deadline_ms=time_left(jobs[0].until), guarded=how.guarded, strength=how.strength, paint=how.paint,
    )  # fmt: skip
    again = {
        place: result.image
        for place, result in zip(images, results, strict=True)
        if jobs[place].reread and result.applied and restorer.reader is not None
    }
    readings = dict(zip(again, read_any(restorer.reader, list(again.values()), restorer.preset), strict=True))
    for (place, image), result in zip(images.items(), results, strict=True):
        if result.cause == "input":
            outcomes[place] = Outcome(result, error=result.reason)
        else:
            shown = as_png(image) if jobs[place].show_input else None
            outcomes[place] = Outcome(result, as_png(result.image), shown, readings.get(place))
    return outcomes


def warm_up(restorer: Restorer) -> None:
    """Restores a made-up line in one step, so that the first caller does not wait for what is made on first use."""
    ramp = np.tile(np.linspace(255, 128, 96).astype(np.uint8)[None, :, None], (24, 1, 3))
    options = Options()
    gate = replace(options.gate, enabled=False)
    restorer([ramp], steps=1, gate=gate, guarded=False)
