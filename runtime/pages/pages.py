"""Pages in, restored pages out: lines are found, cut out straight, restored together, and put back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.options import Gate, Split
from runtime.pages.detector import Detector, RapidOCRDetector
from runtime.pages.options import PageOptions
from runtime.pages.result import PageResult
from runtime.restorer import GATE, SPLIT, Restorer
from textsr.loop import TextSampler


class Pages:
    """Restores the lines of pages and photos. Keeps nothing between calls; safe from any thread."""

    def __init__(self, restorer: Restorer, detector: Detector | None = None) -> None:
        """``detector``: finds the lines; None takes RapidOCR's (extra [ocr]). Raises InputError when that is missing."""
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
    ) -> PageResult:
        """Restores one page.

        All its lines go to the `Restorer` in one call, whose gate and guard decide as for single lines: what is sharp
        already, or cannot be trusted, stays as the enlarged page shows it. A line that fails stops no other.

        :param image: RGB array (h, w, 3) uint8. It is not changed.
        :param options: size, margins and feathering; the others are those of `runtime.Restorer.__call__`.
        :param deadline_ms: milliseconds from now, finding the lines included; placing what is done comes on top.
        :raises InputError: the image or an option cannot be used.
        :raises EngineError: the detector or a graph failed; the restorer is closed, or used in a forked process.
        :raises BusyError: the restorer runs as many calls as it may.
        """
        raise NotImplementedError
