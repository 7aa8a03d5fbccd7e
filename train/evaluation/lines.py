"""The lines of an evaluation: what is degraded, what is real, and the settings that each is restored under."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from textsr.config import SCALE
from textsr.fit import resample_uint8
from train.evaluation.degradation import SEVERITIES, degrade_line, down_up, line_seed, turn

SCALES = (4, 2)
FACTORS = (2, 4, 8, 16)
"""Of the sweep of the paper's Figure 6."""
SMALLEST = 32
"""Pixels, either way, that a high-resolution line has at least: perceptual distances need them."""


class Source(Protocol):
    """A record as `train.data` gives it; see `train.data.Line`."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """The line in high resolution, (128, 512, 3) uint8 RGB; ``width`` of its columns show the line."""

    @property
    def text(self) -> str:
        """What the line says."""

    @property
    def width(self) -> int:
        """Columns of ``image``."""

    @property
    def name(self) -> str:
        """Unique in its source."""

    @property
    def kind(self) -> str:
        """Kind of text or of source."""

    @property
    def lr_crop(self) -> NDArray[np.uint8] | None:
        """The real low-resolution crop (h, w, 3), where there is one."""

    @property
    def hr_crop(self) -> NDArray[np.uint8] | None:
        """The high-resolution crop of a real pair at its own size."""

    @property
    def scale(self) -> int | None:
        """4 or 2 where there is a real pair."""


@dataclass(frozen=True)
class Setting:
    """One way of lowering lines: to a half or a quarter, or down by ``factor`` and up again."""

    name: str
    scale: int  # of the result against the picture that is restored
    factor: int | None = None

    @property
    def is_sweep(self) -> bool:
        """Whether it belongs to the robustness sweep."""
        return self.factor is not None


@dataclass(frozen=True)
class EvalLine:
    """A line under a setting: ``hr`` (scale h, scale w, 3) and ``lr`` (h, w, 3), both uint8 RGB."""

    index: int
    name: str
    text: str
    group: str  # severity where the line was degraded here, else the kind of source
    hr: NDArray[np.uint8]
    lr: NDArray[np.uint8]


def settings(scales: Sequence[int] = SCALES, factors: Sequence[int] = FACTORS) -> list[Setting]:
    """Super-resolution by ``scales``, then the sweep down and up by ``factors``."""
    found = [Setting(f"x{scale}", scale) for scale in scales]
    return [*found, *(Setting(f"down-up {factor}", 1, factor) for factor in factors)]


def prepare(records: Iterable[Source], setting: Setting, seed: int) -> Iterator[EvalLine]:
    """The lines of ``records`` under ``setting``; a real pair of another scale, or one too small, is left out.

    What a record becomes depends on ``seed``, its place and itself alone.
    """
    for index, record in enumerate(records):
        hr = frame(record)
        if setting.factor is not None:
            lr, group = down_up(hr, setting.factor), setting.name
        elif record.lr_crop is not None and record.hr_crop is not None:
            if record.scale != setting.scale:
                continue
            lr, group = record.lr_crop, record.kind or "pairs"
            hr = resized(record.hr_crop, lr.shape[0] * setting.scale, lr.shape[1] * setting.scale)
        else:
            group, source = turn(index)
            lr = degrade_line(hr, source, SEVERITIES[group], line_seed(seed, index), setting.scale)
        if min(hr.shape[:2]) >= SMALLEST:
            yield EvalLine(index, record.name or str(index), record.text, group, hr, lr)


def frame(record: Source) -> NDArray[np.uint8]:
    """The line itself in high resolution: without its padding, as wide as a multiple of 4."""
    columns = min(record.image.shape[1], -(-record.width // SCALE) * SCALE)
    missing = -columns % SCALE
    hr = np.asarray(record.image)[:, :columns]
    return np.ascontiguousarray(np.pad(hr, ((0, 0), (0, missing), (0, 0)), mode="edge"))


def resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """``image`` at another size, filtered where it shrinks; itself where it has that size."""
    if image.shape[:2] == (height, width):
        return image
    return resample_uint8(image, height, width, lambda part: np.clip(np.rint(part), 0, 255).astype(np.uint8))
