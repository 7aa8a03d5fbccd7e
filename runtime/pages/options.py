"""How a page is restored, and how large it may become."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import floor, isfinite, sqrt

from runtime.options import LARGEST_SCALE
from textsr.config import SCALE
from textsr.errors import InputError

MAX_PIXELS = 1 << 26
"""Pixels of the largest page that is made (67 million, 201 MB as RGB); none larger is read."""


@dataclass(frozen=True)
class PageOptions:
    """Options of one page; lengths are in heights of the line at hand.

    ``scale``: size of the result relative to the page; None takes 4, or the largest at which the result has no more
    than ``max_pixels``, and `runtime.pages.PageResult.reason` says so. ``margin``: how far beyond its box a line is
    cut out. ``feather``: over how much of that, from the edge inwards, the restored line fades into the page.
    ``min_line_height``: pixels; lower boxes are taken for no lines. ``read``: whether the lines that the gate left
    alone are read too, and the restored ones again, where the guard did not; a searchable page needs it.
    """

    scale: float | None = None
    max_pixels: int = MAX_PIXELS
    margin: float = 0.1
    feather: float = 0.1
    min_line_height: float = 4.0
    read: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not (isfinite(value) and value >= 0):
                raise InputError(f"page: {field.name} must be a number from 0, not {value}")
        if self.scale is not None and not 0 < self.scale <= LARGEST_SCALE:
            raise InputError(f"page: scale must be above 0 and at most {LARGEST_SCALE:g}, not {self.scale}")
        if not self.margin <= 1 or not self.feather <= 0.5:
            raise InputError(f"page: margin must be from 0 to 1 and feather from 0 to 0.5, not {self}")

    def scale_for(self, height: int, width: int) -> tuple[float, str]:
        """The scale for a page of ``height`` x ``width`` pixels, and a sentence where it is not the usual one.

        :raises InputError: the result would have more than ``max_pixels``, at the scale asked for or at 1.
        """
        pixels = height * width
        if pixels * (self.scale or 1.0) ** 2 > self.max_pixels:
            asked = f"{self.scale or 1:g} times {width} x {height} pixels"
            raise InputError(f"{asked} are more than the {self.max_pixels} that a page may have: ask for a lower scale")
        if self.scale is not None:
            return self.scale, ""
        if pixels * SCALE**2 <= self.max_pixels:
            return float(SCALE), ""
        scale = max(1.0, floor(100 * sqrt(self.max_pixels / pixels)) / 100)
        return scale, f"enlarged {scale:g} times instead of {SCALE}: a page has at most {self.max_pixels} pixels"
