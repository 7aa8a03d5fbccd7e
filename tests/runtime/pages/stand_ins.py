"""Stand-ins for the tests of pages: a detector that knows, and a restorer whose results are made by a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from runtime.recognizer import LineReader
from runtime.restorer import Restorer
from runtime.result import Result, enlarged
from tests.runtime.helpers import StubExecutor, stub_bundle

Picture = NDArray[np.uint8]
Paint = Callable[[Picture], Picture]
PAPER, INK = (236, 232, 220), (30, 30, 80)


class KnownBoxes:
    """Finds what it was told."""

    def __init__(self, *boxes: Any) -> None:
        self.boxes = [np.asarray(box, dtype=np.float32) for box in boxes]

    def detect(self, image: Picture) -> list[NDArray[np.float32]]:
        return self.boxes


class PaintingRestorer(Restorer):
    """Every crop comes back enlarged and painted, by default unchanged; ``seen`` are the crops of each call."""

    def __init__(
        self,
        paint: Paint = lambda image: image,
        *,
        applied: bool = True,
        reader: LineReader | None = None,
        **result: Any,
    ) -> None:
        super().__init__(stub_bundle(), StubExecutor(), reader)
        self.paint, self.applied, self.result = paint, applied, result
        self.seen: list[list[Picture]] = []

    def __call__(self, images: Sequence[Picture], texts: Any = None, *, scale: float = 4, **how: Any) -> list[Result]:
        self.seen.append(list(images))
        return [
            Result(self.paint(enlarged(image, scale)), applied=self.applied, **self.result) for image in images
        ]  # fmt: skip


def upright(left: float, top: float, width: float, height: float) -> NDArray[np.float32]:
    """A box's corners."""
    right, bottom = left + width, top + height
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float32)


def turned(box: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """A box turned clockwise, as seen, about its middle."""
    angle, middle = np.deg2rad(degrees), box.mean(axis=0)
    matrix = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return np.asarray((box - middle) @ matrix + middle, dtype=np.float32)


def draw_page(width: int = 240, height: int = 160, shade: float = 40.0) -> Picture:
    """A page with three lines, darker towards the right by ``shade``."""
    picture = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(picture)
    for number, text in enumerate(("Grand Hotel 42", "Bus stop north", "Closed on Monday")):
        pen.text((20, 20 + 45 * number), text, font=ImageFont.load_default(18), fill=INK)
    dark = np.linspace(0, shade, width)[None, :, None]
    return np.clip(np.asarray(picture) - dark, 0, 255).astype(np.uint8)
