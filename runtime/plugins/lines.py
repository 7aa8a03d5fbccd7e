"""Crops in, better crops and readings out, whatever the product: `Lines`, and `wrap` for any recogniser."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from numpy.typing import NDArray

from runtime.options import Options
from runtime.plugins.colour import Colour, from_rgb, to_rgb
from runtime.restorer import Restorer
from textsr.errors import InputError, TextSRError

logger = logging.getLogger(__name__)

Crop = NDArray[Any]
Reading = TypeVar("Reading")
Recognise = Callable[[Sequence[Crop]], Sequence[Reading]]
"""A product's recogniser: one reading for each crop, in order."""
Score = Callable[[Reading], float]
"""How sure a recogniser is of a reading, 0..1."""
Keep = Literal["restored", "better"]


@dataclass(frozen=True)
class Counts:
    """What became of a product's crops so far.

    ``lines`` were seen; ``well_read`` of them were read with ``below`` or more and not shown to us; ``restored`` were
    handed on restored; ``kept_first`` of these kept the reading of the crop as it came, which was the surer one;
    ``failed`` went on as they came because of an error. ``causes``: lines that were not restored, by
    `runtime.Result.cause`. ``readings``: crops that the product's recogniser was given, those read twice counted twice.
    """

    lines: int = 0
    well_read: int = 0
    restored: int = 0
    kept_first: int = 0
    failed: int = 0
    readings: int = 0
    causes: Mapping[str, int] = field(default_factory=dict)


class Lines:
    """Restores the crops of an OCR product, and decides which of its readings count. Safe from any thread.

    No line is ever lost to it: where restoring does not help, fails or comes too late, the crop goes on as it came.
    An error is logged and counted, see `counts`; only what the product itself raises comes through.

    Whether a product reads more with it depends on its recogniser and on the bundle: benchmarks/results/ocr.md has
    RapidOCR's figures. Where restoring every line costs more than it gives, a restorer with a guard is safer.
    """

    def __init__(
        self,
        restorer: Restorer,
        options: Options | None = None,
        *,
        below: float | None = None,
        keep: Keep = "restored",
    ) -> None:
        """What to restore, and what to keep.

        By default every crop that the gate lets through is restored, and read once, restored.

        :param restorer: what restores; it stays the caller's to close.
        :param options: of the restorer: gate, deadline_ms (of all crops of one page), steps, strength, paint,
            split, scale, seed.
        :param below: the product first reads the crops as they came, and only those are restored that it read with
            less confidence (0..1). Costs a second reading of these lines, and spares all others the restoration.
        :param keep: "better" keeps the surer of both readings of a line. Without ``below`` each line is read twice. A
            recogniser can be surer of something wrong: confidence is its own word, no independent witness.
        :raises InputError: an option is out of range.
        """
        if below is not None and not 0 <= below <= 1:
            raise InputError(f"below must be from 0 to 1, not {below}")
        if keep not in ("restored", "better"):
            raise InputError(f"keep {keep!r}: choose restored or better")
        self.restorer = restorer
        self.options = options or Options()
        restorer.check(self.options)
        self.below = below
        self.keep = keep
        self._lock = threading.Lock()
        self._counted: Counter[str] = Counter()
        self._causes: Counter[str] = Counter()

    @property
    def counts(self) -> Counts:
        """What became of the crops so far."""
        with self._lock:
            return Counts(**self._counted, causes=dict(self._causes))

    def restore(self, crops: Sequence[Crop], colour: Colour = "rgb") -> list[Crop]:
        """The crops, those that could be restored at ``options.scale`` times their size with the channels they had,
        the others being the same objects. Raises nothing that the restorer raises: see the class.

        :param crops: (h, w, 3) or grey (h, w) or (h, w, 1) uint8 of any sizes.
        :param colour: order of the channels of coloured ones, "rgb" or "bgr".
        """
        self._count(lines=len(crops))
        return self._restored(crops, colour)

    def read(
        self,
        crops: Sequence[Crop],
        recognise: Recognise[Reading],
        score: Score[Reading] | None = None,
        colour: Colour = "rgb",
    ) -> list[Reading]:
        """One reading for each crop, in order, by the product's recogniser.

        :param crops: as for `restore`.
        :param recognise: the recogniser: one reading for each crop it is given, in order; what it raises on crops as
            they came is raised.
        :param colour: order of the channels of coloured crops, "rgb" or "bgr".
        :param score: the recogniser's confidence in a reading; needed for ``below`` and ``keep="better"``.
        :raises InputError: that is missing, or the recogniser gave more or fewer readings than it was given crops.
        """
        if len(crops) == 0:
            return list(recognise(crops))
        twice = self.below is not None or self.keep == "better"
        if twice and score is None:
            raise InputError("below and keep='better' need a score: a function from a reading to its confidence")
        self._count(lines=len(crops))
        return self._twice(crops, recognise, score, colour) if twice and score else self._once(crops, recognise, colour)

    def _once(self, crops: Sequence[Crop], recognise: Recognise[Reading], colour: Colour) -> list[Reading]:
        shown = self._restored(crops, colour)
        changed = [place for place, crop in enumerate(shown) if crop is not crops[place]]
        try:
            return self._recognised(recognise, shown)
        except Exception as error:
            if not changed:
                raise  # the product's own crops: the product's own error
            self._failed(changed, "reading the restored lines", error)
            return self._recognised(recognise, crops)

    def _twice(
        self, crops: Sequence[Crop], recognise: Recognise[Reading], score: Score[Reading], colour: Colour
    ) -> list[Reading]:
        found = self._recognised(recognise, crops)
        chosen = [place for place, reading in enumerate(found) if self.below is None or score(reading) < self.below]
        self._count(well_read=len(crops) - len(chosen))
        shown = dict(zip(chosen, self._restored([crops[place] for place in chosen], colour), strict=True))
        changed = [place for place, crop in shown.items() if crop is not crops[place]]
        if not changed:
            return found
        try:
            again = self._recognised(recognise, [shown[place] for place in changed])
        except Exception as error:
            self._failed(changed, "reading the restored lines", error)
            return found
        for place, reading in zip(changed, again, strict=True):
            if self.keep == "restored" or score(reading) > score(found[place]):
                found[place] = reading
            else:
                self._count(kept_first=1)
        return found

    def _recognised(self, recognise: Recognise[Reading], crops: Sequence[Crop]) -> list[Reading]:
        self._count(readings=len(crops))
        found = list(recognise(crops))
        if len(found) != len(crops):
            raise InputError(f"the recogniser gave {len(found)} readings for {len(crops)} crops")
        return found

    def _restored(self, crops: Sequence[Crop], colour: Colour) -> list[Crop]:
        if not crops:
            return []
        how = self.options
        try:
            results = self.restorer(
                [to_rgb(crop, colour) for crop in crops], seed=how.seed, steps=how.steps, strength=how.strength,
                paint=how.paint, text_sampler=how.text_sampler, batch_size=how.batch_size, scale=how.scale,
                split=how.split, gate=how.gate, deadline_ms=how.deadline_ms, guarded=how.guarded,
            )  # fmt: skip
        except Exception as error:  # whatever went wrong, the product's lines go on
            self._failed(range(len(crops)), "restoring", error, restored=False)
            return list(crops)
        causes = Counter(result.cause for result in results if not result.applied)
        with self._lock:
            self._causes.update(causes)
        self._count(restored=len(crops) - causes.total())
        return [
            from_rgb(result.image, crop, colour) if result.applied else crop
            for crop, result in zip(crops, results, strict=True)
        ]

    def _count(self, **more: int) -> None:
        with self._lock:
            self._counted.update(more)

    def _failed(self, places: Sequence[int], what: str, error: Exception, *, restored: bool = True) -> None:
        """Counts lines as failed; those that were counted as restored are so no longer."""
        self._count(failed=len(places), restored=-len(places) if restored else 0)
        trace = None if isinstance(error, TextSRError) else error
        logger.warning("%s failed, %d lines go on as they came: %s", what, len(places), error, exc_info=trace)


def wrap(
    recognise: Recognise[Reading], lines: Lines, *, score: Score[Reading] | None = None, colour: Colour = "rgb"
) -> Callable[[Sequence[Crop]], list[Reading]]:
    """``recognise`` with restoration before it: any function from crops (h, w, 3) or (h, w) uint8 to readings.

    :param lines: what restores, and decides which readings count.
    :param score: from a reading to its confidence, for ``Lines(below=...)`` and ``Lines(keep="better")``.
    :param colour: order of the channels of coloured crops, "rgb" or "bgr".
    :raises InputError: the score is missing.
    """
    if score is None and (lines.below is not None or lines.keep == "better"):
        raise InputError("below and keep='better' need a score: a function from a reading to its confidence")
    return lambda crops: lines.read(crops, recognise, score, colour)
