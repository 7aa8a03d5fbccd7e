"""Pages in, restored pages out: lines are found, cut out straight, restored together, and put back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.deadline import Deadline
from runtime.options import Gate, Options, Split
from runtime.pages.detector import Detector, RapidOCRDetector
from runtime.pages.geometry import cut_out, grown, sides, usable
from runtime.pages.options import PageOptions
from runtime.pages.order import reading_order
from runtime.pages.placing import Placing, placed
from runtime.pages.rereading import heard, read_after, read_before
from runtime.pages.result import PageLine, PageResult
from runtime.restorer import GATE, SPLIT, Restorer
from runtime.result import Result, enlarged
from textsr.errors import InputError
from textsr.loop import TextSampler

logger = logging.getLogger(__name__)

NO_TEXT, MIXED = "no_text", "mixed"
"""Causes (`PageResult.cause`) why no line was restored, beside those of `runtime.gate`."""


@dataclass(frozen=True)
class _Found:
    """A line on its way: its box and, with the margin, the corners (4, 2) of ``crop`` (h, w, 3)."""

    box: NDArray[np.float32]
    corners: NDArray[np.float32]
    crop: NDArray[np.uint8]


class Pages:
    """Restores the lines of pages and photos. Keeps nothing between calls; safe from any thread."""

    def __init__(self, restorer: Restorer, detector: Detector | None = None) -> None:
        """``restorer``: restores the lines, and stays the caller's to close; ``detector``: finds them, None takes
        RapidOCR's (extra [ocr]).

        :raises InputError: that is not installed.
        """
        self.restorer = restorer
        self.detector = detector if detector is not None else RapidOCRDetector()

    def __call__(
        self,
        image: NDArray[np.uint8],
        options: PageOptions | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
        text_sampler: TextSampler = "fixed",
        batch_size: int = 8,
        split: Split = SPLIT,
        gate: Gate = GATE,
        deadline_ms: float | None = None,
        guarded: bool = True,
        strength: float | None = None,
        paint: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> PageResult:
        """Restores one page.

        All its lines go to the `Restorer` in one call, whose gate and guard decide as for single lines: what is sharp
        already, or cannot be trusted, stays as the enlarged page shows it. A line that fails stops no other.

        :param image: RGB array (h, w, 3) uint8. It is not changed.
        :param options: of the page; ``seed``, ``steps``, ``text_sampler``, ``batch_size``, ``split``, ``gate``,
            ``guarded``, ``strength``, ``paint`` and ``cancelled`` are those of `runtime.Restorer.__call__`.
        :param deadline_ms: milliseconds from now, finding the lines included. Lines not restored by then are only
            enlarged, what is not read by then stays unread; enlarging the page and putting lines into it come on top.
        :raises InputError: the image or an option cannot be used.
        :raises EngineError: the detector or a graph failed; the restorer is closed, or used in a forked process.
        :raises BusyError: the restorer runs as many calls as it may.
        :raises Cancelled: ``cancelled`` said so.
        """
        deadline, how = Deadline(deadline_ms), options or PageOptions()
        _check(image)
        self.restorer.check(
            Options(seed, steps, text_sampler, batch_size, 1.0, split, gate, deadline_ms, guarded, strength, paint)
        )
        scale, remark = how.scale_for(*image.shape[:2])
        found = _lines(image, self.detector.detect(image), how)
        detected, left = deadline.passed(), deadline.left()
        results = self.restorer(
            [line.crop for line in found], seed=seed, steps=steps, text_sampler=text_sampler, batch_size=batch_size,
            scale=scale, split=split, gate=gate, guarded=guarded, strength=strength, paint=paint, cancelled=cancelled,
            deadline_ms=None if left is None else max(1000 * left, 1e-3),
        )  # fmt: skip
        restored = deadline.passed()
        lines = self._told(found, results, Options(split=split), deadline if how.read else Deadline(0.0))
        read = deadline.passed()
        picture = _picture(image, found, results, scale, how)
        cause, reason = _outcome(results)
        timings = {
            "detect": detected, "restore": restored - detected, "read": read - restored,
            "place": deadline.passed() - read,
        }  # fmt: skip
        return PageResult(picture, scale, lines, "; ".join(part for part in (reason, remark) if part), cause, timings)

    def _told(
        self, found: Sequence[_Found], results: Sequence[Result], options: Options, deadline: Deadline
    ) -> tuple[PageLine, ...]:
        """The lines with what they say, as far as there is time to read them."""
        reader, preset = self.restorer.reader, self.restorer.preset
        after = heard(results)
        if reader is not None and deadline.left() != 0:
            results = read_before(results, [line.crop for line in found], reader, options, preset)
        if reader is not None and deadline.left() != 0:
            after = read_after(results, after, reader, preset)
        return tuple(
            PageLine(_along(line.box, result), line.corners, result, text, sure, placed=result.applied)
            for line, result, (text, sure) in zip(found, results, after, strict=True)
        )


def _check(image: NDArray[np.uint8]) -> None:
    """Raises InputError where ``image`` is no page."""
    if not isinstance(image, np.ndarray):
        raise InputError(f"a page must be an RGB array (h, w, 3) of type uint8, not {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape) < 1:
        raise InputError(f"a page is an RGB image (h, w, 3) of type uint8, not {image.shape} of {image.dtype}")


def _lines(image: NDArray[np.uint8], boxes: Sequence[NDArray[np.float32]], how: PageOptions) -> list[_Found]:
    """The lines in reading order, cut out."""
    quads = []
    for box in boxes:
        quad = np.asarray(box, dtype=np.float64)
        if not usable(quad):
            logger.warning("the detector gave a box that is no quadrilateral, it is left out: %s", quad.tolist())
        elif min(sides(quad)) >= how.min_line_height and _on(quad, image):
            quads.append(quad)
    found = []
    for place in reading_order(quads):
        corners = grown(quads[place], how.margin * min(sides(quads[place])))
        found.append(_Found(quads[place].astype(np.float32), corners.astype(np.float32), cut_out(image, corners)))
    return found


def _on(quad: NDArray[np.float64], image: NDArray[np.uint8]) -> bool:
    """Whether any of a box may be on the page."""
    height, width = image.shape[:2]
    return bool((quad.max(axis=0) > 0).all() and (quad.min(axis=0) < (width, height)).all())


def _along(box: NDArray[np.float32], result: Result) -> NDArray[np.float32]:
    """The box's corners from the line's top left in reading direction, of a tall one as it was laid down."""
    first = 1 if result.stacked or result.turned == 90 else 3 if result.turned == 270 else 0
    return np.roll(box, -first, axis=0)


def _picture(
    image: NDArray[np.uint8], found: Sequence[_Found], results: Sequence[Result], scale: float, how: PageOptions
) -> NDArray[np.uint8]:
    """The page enlarged, with the lines that were restored."""
    page = enlarged(image, scale)
    placings = [
        Placing(result.image, line.crop, line.corners, how.feather * min(line.crop.shape[:2]))
        for line, result in zip(found, results, strict=True)
        if result.applied
    ]
    if not placings:
        return page
    return placed(page, placings, page.shape[1] / image.shape[1], page.shape[0] / image.shape[0])


def _outcome(results: Sequence[Result]) -> tuple[str, str]:
    """A page's cause and reason."""
    if not results:
        return NO_TEXT, "no text was found: the page is only enlarged"
    causes = Counter(result.cause for result in results if not result.applied)
    kept, count = causes.total(), len(results)
    if not kept:
        return "", ""
    told = ", ".join(f"{cause} {number}" for cause, number in causes.most_common())
    if kept < count:
        return "", f"{kept} of {count} lines are only enlarged: {told}"
    return (next(iter(causes)) if len(causes) == 1 else MIXED), f"all {count} lines are only enlarged: {told}"
