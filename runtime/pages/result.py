"""What a caller gets for a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runtime.result import Result


@dataclass(frozen=True)
class PageLine:
    """A line of a page; coordinates are x and y in the input's pixels, whose centres lie at halves.

    ``box`` (4, 2) float32: the line's corners, clockwise from its top left in reading direction: the first side runs
    along the text. ``corners`` (4, 2) float32: where the corners of ``result.image`` lie, clockwise from that
    picture's top left; with the margin, so perhaps beyond the page. ``result``: of the line cut out and made straight.
    ``after`` and ``after_confidence`` (0..1): what the recogniser reads in the restored line; None where none was, or
    nobody reads. ``placed``: whether the restored line is in the page's picture; else that shows the input, enlarged.
    """

    box: NDArray[np.float32]
    corners: NDArray[np.float32]
    result: Result
    after: str | None = None
    after_confidence: float = 0.0
    placed: bool = False

    @property
    def text(self) -> str:
        """What the page says here: read in the restored line where that was placed, else in the input."""
        return self.after if self.placed and self.after is not None else self.result.text

    @property
    def confidence(self) -> float:
        """Of `text`: mean of its characters, 0..1."""
        return self.after_confidence if self.placed and self.after is not None else self.result.confidence


@dataclass(frozen=True)
class PageResult:
    """One page's outcome.

    ``image``: RGB uint8, ``scale`` times the input's size, enlarged bicubically but for the lines that were placed.
    ``lines``: all that were found, in reading order. ``cause``: empty where a line was placed, else no_text (none was
    found), the `runtime.Result.cause` that all lines share, or mixed. ``reason``: a sentence on that and on a scale
    that is not the usual one; empty where there is nothing to say. ``timings``: seconds of detecting, restoring (all
    that the restorer does), reading again and placing.
    """

    image: NDArray[np.uint8]
    scale: float
    lines: tuple[PageLine, ...] = ()
    reason: str = ""
    cause: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def applied(self) -> bool:
        """Whether any line was placed."""
        return any(line.placed for line in self.lines)

    @property
    def text(self) -> str:
        """What the page says, a line for each line that says something."""
        return "\n".join(line.text for line in self.lines if line.text)
