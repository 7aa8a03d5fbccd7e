"""A product, a judge and lines for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.evaluation.degradation import enlarge
from train.evaluation.lines import EvalLine
from train.evaluation.scores import METHODS, OURS, Outcome, Score


@dataclass(frozen=True)
class Record:
    """A line as train.data gives it."""

    image: NDArray[np.uint8]
    text: str
    width: int
    name: str = "record"
    kind: str = "words"
    lr_crop: NDArray[np.uint8] | None = None
    hr_crop: NDArray[np.uint8] | None = None
    scale: int | None = None


@dataclass(frozen=True)
class Restoration:
    """What a product returns."""

    image: NDArray[np.uint8]
    text: str = "read"
    confidence: float = 0.5
    applied: bool = True
    reason: str = ""
    steps: int = 3


def brightness_judge(image: NDArray[np.uint8]) -> str:
    """Reads the tens of the first pixel's brightness."""
    return str(int(image[0, 0, 0]) // 10)


def brighter(images: Sequence[NDArray[np.uint8]], scale: int) -> list[Restoration]:
    """Enlarges, and adds 10 to every pixel: `brightness_judge` reads the next number."""
    return [Restoration(enlarge(image, scale) + np.uint8(10), text="7") for image in images]


def flat_line(index: int, value: int, text: str, group: str = "mild") -> EvalLine:
    """A line of one brightness at a quarter of its size."""
    hr, lr = np.full((128, 160, 3), value, np.uint8), np.full((32, 40, 3), value, np.uint8)
    return EvalLine(index, f"line {index}", text, group, hr, lr)


def record(seed: int, width: int = 300) -> Record:
    """A line of bars, padded to 512 columns by its last one."""
    rng = np.random.default_rng(seed)
    image = np.kron(rng.integers(0, 256, (8, 64, 3)), np.ones((16, 8, 1))).astype(np.uint8)
    image[:, width:] = image[:, width - 1 : width]
    return Record(image, f"text {seed}", width, f"record-{seed}")


def scored(
    outcome: Outcome, setting: str, index: int, figures: dict[str, tuple[float, float]], group: str = "g"
) -> None:
    """Adds a line with figures before and after, and its high resolution, read right."""
    for place, method in enumerate(METHODS):
        own = {name: pair[place] for name, pair in figures.items()} if place < 2 else {"acc": 1.0, "ned": 1.0}
        text = "right" if method == OURS else None
        outcome.scores.append(
            Score(setting, index, f"line {index}", group, method, "right", "reading", text, 0.9, "", own)
        )
