"""A restorer that paints what it was given, and crops that it can be told from; for the plug-ins' tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.options import Gate, Options
from runtime.plugins import Lines
from runtime.restorer import Restorer
from runtime.result import Result
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_bundle
from textsr.errors import EngineError

ALL = Options(steps=1, gate=Gate.off())
"""One step, and every crop is restored."""


class SpyRestorer(Restorer):
    """The real restorer over a stub executor; keeps the crops it is given, fails or paints nothing when told to."""

    def __init__(self) -> None:
        super().__init__(stub_bundle(), StubExecutor(), KnowingReader())
        self.seen: list[NDArray[np.uint8]] = []
        self.fails = False
        self.blank = False

    def __call__(self, images: Sequence[NDArray[np.uint8]], *rest: Any, **options: Any) -> list[Result]:
        self.seen += list(images)
        if self.fails:
            raise EngineError("the graph failed")
        found = super().__call__(images, *rest, **options)
        return [replace(one, image=np.full_like(one.image, 255)) for one in found] if self.blank else found


def spied(**options: Any) -> tuple[SpyRestorer, Lines]:
    """A spy and lines that go through it."""
    spy = SpyRestorer()
    return spy, Lines(spy, **{"options": ALL, **options})


def page(texts: Sequence[str] = ("Hello 42", "Grand Hotel")) -> NDArray[np.uint8]:
    """A page (h, w, 3) uint8 with drawn lines that a detector finds."""
    image = np.full((40 + 70 * len(texts), 340, 3), (236, 232, 220), dtype=np.uint8)
    for number, text in enumerate(texts):
        line = draw_line(text, 36, 260)
        image[30 + 70 * number : 66 + 70 * number, 30:290] = line
    return image
