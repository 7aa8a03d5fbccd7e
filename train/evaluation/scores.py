"""Restores the lines of an evaluation, judges and measures them beside their bicubic enlargement."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from train.evaluation.degradation import enlarge
from train.evaluation.frechet import Features, Vector, open_features
from train.evaluation.judge import Reader
from train.evaluation.lines import EvalLine, Setting
from train.metrics import PerceptualMetric, accuracy, ned, psnr, ssim

log = logging.getLogger(__name__)

METRICS = ("acc", "ned", "psnr", "ssim", "lpips", "fid")
BASE, OURS, TRUTH = "bicubic", "restored", "HR"
METHODS = (BASE, OURS, TRUTH)


class Restored(Protocol):
    """One line's outcome, as `runtime.Restorer` gives it."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """``scale`` times the input's size."""

    @property
    def text(self) -> str:
        """What the product read in the input."""

    @property
    def confidence(self) -> float:
        """0..1."""

    @property
    def applied(self) -> bool:
        """False where ``image`` is only enlarged."""

    @property
    def reason(self) -> str:
        """Why it was not restored."""

    @property
    def steps(self) -> int:
        """Of the diffusion."""


Restore = Callable[[Sequence[NDArray[np.uint8]], int], Sequence[Restored]]
"""From pictures (h, w, 3) uint8 and a scale to as many outcomes, in order."""


@dataclass(frozen=True)
class Score:
    """One line under one setting and method; figures that were not asked for are absent."""

    setting: str
    index: int
    name: str
    group: str
    method: str
    truth: str
    reading: str | None  # the judge's
    own_text: str | None  # what the product itself read in the input
    own_confidence: float | None
    note: str  # why a line was not restored
    figures: Mapping[str, float]


@dataclass
class Meter:
    """What measures pictures: the figures asked for, with the networks that they need."""

    metrics: Sequence[str]
    judge: Reader | None = None
    perceptual: PerceptualMetric | None = None
    features: Features | None = None

    @classmethod
    def open(cls, metrics: Sequence[str], judge: Reader | None) -> Meter:
        """Loads the networks. Raises InputError where weights are missing."""
        perceptual = PerceptualMetric("auto") if "lpips" in metrics else None
        return cls(metrics, judge, perceptual, open_features() if "fid" in metrics else None)

    def read(self, image: NDArray[np.uint8]) -> str | None:
        """What the judge reads; None where neither ACC nor NED is asked for."""
        return None if self.judge is None else self.judge(image)

    def figures(
        self, image: NDArray[np.uint8], hr: NDArray[np.uint8], reading: str | None, truth: str
    ) -> dict[str, float]:
        """The figures of one picture against its line in high resolution; of that line itself ACC and NED alone."""
        found: dict[str, float] = {}
        if image is not hr:
            found |= {name: measure(image, hr) for name, measure in self._against_hr().items()}
        if reading is not None:
            texts = {"acc": accuracy, "ned": ned}
            found |= {name: compare(reading, truth) for name, compare in texts.items() if name in self.metrics}
        return found

    def _against_hr(self) -> dict[str, Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]]:
        measures: dict[str, Callable[[NDArray[np.uint8], NDArray[np.uint8]], float]] = {"psnr": psnr, "ssim": ssim}
        if self.perceptual is not None:
            measures["lpips"] = self.perceptual
        return {name: measure for name, measure in measures.items() if name in self.metrics}


@dataclass
class Outcome:
    """All scores, the features that a Frechet distance needs, and where the pictures are kept."""

    pictures: Path
    scores: list[Score] = field(default_factory=list)
    steps: set[int] = field(default_factory=set)
    features: dict[tuple[str, str], list[Vector]] = field(default_factory=lambda: defaultdict(list))

    def picture(self, setting: str, index: int, method: str) -> Path:
        """Where the picture of a line is kept while the report is made."""
        return self.pictures / f"{setting.replace(' ', '-')}-{index:06}-{method}.png"


class Evaluation:
    """Restores and measures, a setting at a time; a line of high resolution is read once for all settings."""

    def __init__(self, restore: Restore, meter: Meter, pictures: Path, batch: int = 8) -> None:
        """``pictures``: an empty folder for the pictures of every line, read again by the report."""
        self._restore, self._meter, self._batch = restore, meter, batch
        self._seen: dict[tuple[int, tuple[int, ...]], tuple[str | None, Vector | None]] = {}
        self.outcome = Outcome(pictures)

    def run(self, setting: Setting, lines: Iterable[EvalLine], count: int) -> int:
        """Adds ``lines`` to the outcome; returns how many there were. ``count``: how many are expected."""
        done = 0
        with tqdm(total=count, desc=setting.name, unit="line") as bar:
            for batch in _batches(lines, self._batch):
                results = self._restore([line.lr for line in batch], setting.scale)
                for line, result in zip(batch, results, strict=True):
                    self._line(setting, line, result)
                done += len(batch)
                bar.update(len(batch))
        return done

    def _line(self, setting: Setting, line: EvalLine, result: Restored) -> None:
        if not result.applied:
            log.warning("%s, line %s was not restored: %s", setting.name, line.name, result.reason)
        else:
            self.outcome.steps.add(result.steps)
        images = {BASE: enlarge(line.lr, setting.scale), OURS: result.image, TRUTH: line.hr}
        for method, image in images.items():
            reading, features = self._truth(line) if method == TRUTH else self._see(image)
            figures = self._meter.figures(image, line.hr, reading, line.text)
            ours = result if method == OURS else None
            self.outcome.scores.append(_score(setting, line, method, ours, reading, figures))
            if features is not None:
                self.outcome.features[setting.name, method].append(features)
            Image.fromarray(image).save(self.outcome.picture(setting.name, line.index, method), compress_level=1)

    def _see(self, image: NDArray[np.uint8]) -> tuple[str | None, Vector | None]:
        """What the judge reads, and the features of the Frechet distance; None where they are not asked for."""
        return self._meter.read(image), None if self._meter.features is None else self._meter.features(image)

    def _truth(self, line: EvalLine) -> tuple[str | None, Vector | None]:
        key = line.index, line.hr.shape
        if key not in self._seen:
            self._seen[key] = self._see(line.hr)
        return self._seen[key]


def _score(
    setting: Setting,
    line: EvalLine,
    method: str,
    ours: Restored | None,
    reading: str | None,
    figures: Mapping[str, float],
) -> Score:
    """``ours``: the outcome, where ``method`` is the restoration."""
    return Score(
        setting=setting.name,
        index=line.index,
        name=line.name,
        group=line.group,
        method=method,
        truth=line.text,
        reading=reading,
        own_text=ours.text if ours else None,
        own_confidence=ours.confidence if ours else None,
        note=ours.reason if ours and not ours.applied else "",
        figures=figures,
    )


def _batches(lines: Iterable[EvalLine], size: int) -> Iterator[list[EvalLine]]:
    rest = iter(lines)
    while batch := list(islice(rest, size)):
        yield batch
