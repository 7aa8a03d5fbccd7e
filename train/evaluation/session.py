"""One run of ``python -m train.evaluate``: what it opens, what it says of itself, and its results as text and data."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime import Restorer
from textsr.errors import InputError
from train.data import Dataset, open_data, records
from train.evaluation.judge import DEFAULT, Judge, TransOCRJudge, open_judge
from train.evaluation.lines import Setting, Source, prepare
from train.evaluation.report import Content
from train.evaluation.scores import BASE, Evaluation, Meter, Outcome, Restored
from train.evaluation.summary import ALL, compare, headings, rows, table
from train.metrics import NORMALISATION, Interval

PACKAGES = ("torchmetrics", "RapidFuzz", "stlpips-pytorch", "torch", "onnxruntime", "onnxruntime-gpu")
"""Whose versions the figures depend on."""

NAMED = 5
"""Records left out that the notes name; ``evaluation.json`` names them all."""


@dataclass(frozen=True)
class Session:
    """What an evaluation needs, opened."""

    given: argparse.Namespace  # the command's options
    restorer: Restorer
    meter: Meter
    judge: Judge | TransOCRJudge | None
    data: Dataset

    @classmethod
    def open(cls, given: argparse.Namespace) -> Session:
        """Opens bundle, data, judge and networks. Raises TextSRError subclasses where one is missing."""
        import torch

        if given.threads:
            torch.set_num_threads(given.threads)
        restorer = Restorer.open(given.bundle, given.device, executor=given.executor, threads=given.threads)
        data = open_data(given.data, preset=restorer.preset, split=given.split)
        if not len(data) or (given.lines is not None and given.lines < 1):
            raise InputError(f"{data.source}: no line to evaluate ({data.report.summary()}; --lines {given.lines})")
        judge = open_judge(given.judge, given.threads or 1) if {"acc", "ned"} & set(given.metrics) else None
        return cls(given, restorer, Meter.open(given.metrics, judge), judge, data)

    def run(self, settings: Sequence[Setting], pictures: Path) -> Content:
        """Restores and measures the data under ``settings``, keeping pictures in the folder ``pictures``."""
        evaluation = Evaluation(self._restore, self.meter, pictures, self.given.batch_size)
        done: list[Setting] = []
        empty: list[Setting] = []
        for setting in settings:
            count = self.lines(setting)
            found = evaluation.run(setting, prepare(self._records(count), setting, self.given.seed), count)
            (done if found else empty).append(setting)
        if not done:
            raise InputError(f"{self.data.source}: no line fits --scales {self.given.scales}")
        outcome, metrics = evaluation.outcome, self.given.metrics
        notes = self.notes(done, outcome)
        if empty:
            notes.append(
                f"no line for {', '.join(setting.name for setting in empty)}: the real pairs are of another scale"
            )
        reasons = [f"{s.name} ({s.setting}: {s.note})" for s in outcome.scores if s.note]
        if reasons:
            notes.append(f"NOT RESTORED, measured as enlarged: {len(reasons)}: {'; '.join(reasons[:5])}")
        return Content(
            title=f"{Path(self.given.bundle).name} on {self.data.source}",
            notes=notes,
            metrics=metrics,
            names=self.names(),
            settings=done,
            rows=rows(outcome, metrics),
            comparisons=[compare(outcome.scores, setting.name, metrics) for setting in done],
            outcome=outcome,
        )

    def lines(self, setting: Setting) -> int:
        """How many lines of the data a setting takes at most."""
        limits = [len(self.data), self.given.lines, self.given.sweep_lines if setting.is_sweep else None]
        return min(limit for limit in limits if limit is not None)

    def _records(self, count: int) -> Iterator[Source]:
        return islice(records(self.data), count)

    def _restore(self, images: Sequence[NDArray[np.uint8]], scale: int) -> Sequence[Restored]:
        given = self.given
        return self.restorer(images, seed=given.seed, steps=given.steps, batch_size=given.batch_size, scale=scale)

    def names(self) -> dict[str, str]:
        """What each metric is called, with the network that it stands on."""
        perceptual = self.meter.perceptual.name if self.meter.perceptual else None
        return headings(perceptual, self.meter.features.name if self.meter.features else None)

    def notes(self, settings: Sequence[Setting], outcome: Outcome) -> list[str]:
        """What a reader must know to judge or repeat the figures; the first three lead the report."""
        given, bundle = self.given, self.restorer.bundle
        steps = ", ".join(str(count) for count in sorted(outcome.steps))
        weights = next((digest for name, digest in bundle.files.items() if name.endswith(".safetensors")), "")
        found = [
            f"bundle {given.bundle}, preset {bundle.preset.name}, weights SHA-256 {weights[:16]}, {steps} steps, seed "
            f"{given.seed}, {self.restorer.executor.name}",
            self._data(settings),
        ]
        if self.judge is None:
            found.append("ACC and NED were not asked for")
        else:
            apart = ", never used in training or restoring" if given.judge == DEFAULT else ""
            found.append(f"ACC, NED: judge {self.judge.name}{apart}; {NORMALISATION}")
        found += self._measures()
        found.append(
            "means with 95% bootstrap intervals over lines (2,000 draws); differences are paired by line; a Frechet "
            "distance has no interval, lines drawn twice would bias it"
        )
        found += _settings_notes(settings)
        return [*found, f"versions: {_versions()}"]

    def _data(self, settings: Sequence[Setting]) -> str:
        report = self.data.report
        parts = [f"data: split {self.given.split}", *(line.strip() for line in report.summary().splitlines())]
        if report.drops:
            parts.append(f"left out among others: {', '.join(drop.name for drop in report.drops[:NAMED])}")
        return "; ".join([*parts, *(f"{setting.name}: the first {self.lines(setting)}" for setting in settings)])

    def _measures(self) -> list[str]:
        found = []
        if {"psnr", "ssim"} & set(self.given.metrics):
            found.append(
                "PSNR (at most 100 dB) and SSIM (Gaussian window of 11, sigma 1.5) on RGB over the line's own columns"
            )
        if self.meter.perceptual is not None:
            which = self.meter.perceptual.name
            lacking = "; it is NOT LPIPS, whose weights are not here" if which == "ST-LPIPS" else ""
            found.append(f"perceptual distance: {which} (AlexNet){lacking}")
        if self.meter.features is not None:
            found.append(self.meter.features.detail)
            fewest = min(self.lines(Setting("", 4)), len(self.data))
            if fewest <= self.meter.features.size:
                found.append(
                    f"the Frechet distance has {self.meter.features.size} features and at most {fewest} lines: it is "
                    "biased upwards; compare it between methods on the same lines only"
                )
        return found

    def text(self, content: Content) -> str:
        """For the terminal, Markdown."""
        parts = [*(f"- {note}" for note in content.notes), "", table(content.rows, content.metrics, content.names), ""]
        return "\n".join([*parts, *(f"- {item.text(content.names)}" for item in content.comparisons)])

    def json(self, content: Content) -> dict[str, Any]:
        """For ``evaluation.json``; a figure that there is not is null."""
        summary: dict[str, Any] = {}
        for row in content.rows:
            place = summary.setdefault(row.setting, {}).setdefault(row.group, {})
            place[row.method] = {"lines": row.lines, **{name: _numbers(item) for name, item in row.figures.items()}}
        comparisons = [
            {**asdict(item), "differences": {name: _numbers(gap) for name, gap in item.differences.items()}}
            for item in content.comparisons
        ]
        return {
            "notes": content.notes, "names": content.names, "base": BASE, "whole": ALL, "summary": summary,
            "comparisons": comparisons, "lines": [asdict(score) for score in content.outcome.scores],
            "left_out": [asdict(drop) for drop in self.data.report.drops],
        }  # fmt: skip


def _settings_notes(settings: Sequence[Setting]) -> list[str]:
    found = []
    if any(not setting.is_sweep for setting in settings):
        found.append(
            "x4 and x2: lines of high resolution are degraded from the seed by the three sources of training in turns, "
            "at three severities; real pairs are taken as they are, HR resized to the scale exactly"
        )
    if any(setting.is_sweep for setting in settings):
        found.append(
            "down and up: HR reduced by the factor and enlarged again, bicubic both, each factor from HR itself; "
            "restored at its size. The network's input has a quarter of HR's rows: it holds no more than factor 4"
        )
    return found


def _versions() -> str:
    """Of the packages that are installed: a GPU's ONNX Runtime goes by another name."""
    found = []
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def _numbers(interval: Interval) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in asdict(interval).items()}
