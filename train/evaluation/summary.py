"""Means, intervals and comparisons of an evaluation, as data and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from train.evaluation.frechet import frechet_distance
from train.evaluation.scores import BASE, METHODS, OURS, TRUTH, Outcome, Score
from train.metrics import Interval, accuracy, bootstrap

LEVEL = 0.95
ALL = "all"
READABLE = "HR read right"
"""The group of lines whose high resolution the judge reads right: what restoring can be asked for at most."""


@dataclass(frozen=True)
class Figure:
    """How a figure is called and written."""

    heading: str
    digits: int
    scale: float = 1.0
    higher_is_better: bool = True

    def write(self, interval: Interval) -> str:
        """``mean [low, high]``; the mean alone where there is no interval; a dash where there is nothing."""
        if np.isnan(interval.mean):
            return "-"
        if np.isnan(interval.low):
            return f"{interval.mean * self.scale:.{self.digits}f}"
        return interval.format(self.digits, self.scale)


FIGURES: Mapping[str, Figure] = {
    "psnr": Figure("PSNR dB", 2),
    "ssim": Figure("SSIM", 3),
    "lpips": Figure("LPIPS", 3, higher_is_better=False),
    "fid": Figure("FID", 3, higher_is_better=False),
    "acc": Figure("ACC %", 1, 100.0),
    "ned": Figure("NED", 3),
}


@dataclass(frozen=True)
class Row:
    """A group of lines under a setting and method: the figures' means with their intervals."""

    setting: str
    group: str
    method: str
    lines: int
    figures: Mapping[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """Restored against bicubic under a setting, line by line."""

    setting: str
    lines: int
    differences: Mapping[str, Interval]  # restored minus bicubic, paired
    base_right: int | None  # lines whose enlargement the judge reads right
    kept: float | None  # share of those that it reads right when restored
    gained: int | None
    lost: int | None
    own_acc: float | None  # of what the product itself read in the input

    def text(self, names: Mapping[str, str]) -> str:
        """A sentence or two; ``names``: what each metric is called."""
        parts = [f"{names[name]} {signed(FIGURES[name], item)}" for name, item in self.differences.items()]
        text = f"{self.setting}: {OURS} - {BASE}, paired by line, {LEVEL:.0%} interval: {'; '.join(parts)}"
        if self.base_right is not None:
            kept = "-" if self.kept is None else f"{100 * self.kept:.1f}%"
            text += (
                f". {self.gained} lines gained, {self.lost} lost; of the {self.base_right} that {BASE} has right "
                f"{kept} stay right"
            )
        if self.own_acc is not None:
            text += f"; the product's own reading of the input is right in {100 * self.own_acc:.1f}%"
        return text


def signed(figure: Figure, interval: Interval) -> str:
    """``+mean [low, high]``."""
    mean, low, high = (f"{v * figure.scale:+.{figure.digits}f}" for v in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def rows(outcome: Outcome, metrics: Sequence[str]) -> list[Row]:
    """A row for every setting, group and method; groups only where there are several, then all together."""
    found = []
    for setting in dict.fromkeys(score.setting for score in outcome.scores):
        scores = [score for score in outcome.scores if score.setting == setting]
        groups = _groups(scores)
        for group, places in groups.items():
            for method in METHODS:
                chosen = [s for s in scores if s.method == method and s.index in places]
                figures = {name: _mean(chosen, name) for name in metrics if name != "fid"}
                if "fid" in metrics and group == ALL and method != TRUTH:
                    distance = frechet_distance(*(np.array(outcome.features[setting, m]) for m in (TRUTH, method)))
                    figures["fid"] = Interval(distance, float("nan"), float("nan"))
                found.append(Row(setting, group, method, len(chosen), figures))
    return found


def _groups(scores: Sequence[Score]) -> dict[str, set[int]]:
    """Indices of the lines of each group of a setting: severities or kinds, readable lines, all of them."""
    ours = [score for score in scores if score.method == OURS]
    names = list(dict.fromkeys(score.group for score in ours))
    groups = {name: {s.index for s in ours if s.group == name} for name in names} if len(names) > 1 else {}
    readable = {s.index for s in scores if s.method == TRUTH and s.figures.get("acc") == 1}
    if 0 < len(readable) < len(ours):
        groups[READABLE] = readable
    return groups | {ALL: {score.index for score in ours}}


def _mean(scores: Sequence[Score], name: str) -> Interval:
    values = [score.figures[name] for score in scores if name in score.figures]
    return bootstrap(values, LEVEL)


def compare(scores: Sequence[Score], setting: str, metrics: Sequence[str]) -> Comparison:
    """Restored against bicubic under ``setting``."""
    base = {score.index: score for score in scores if score.setting == setting and score.method == BASE}
    ours = [score for score in scores if score.setting == setting and score.method == OURS]
    names = [name for name in metrics if ours and name in ours[0].figures]
    pairs = {name: np.array([(base[s.index].figures[name], s.figures[name]) for s in ours]) for name in names}
    differences = {name: bootstrap(pair[:, 1] - pair[:, 0], LEVEL) for name, pair in pairs.items()}
    texts = [accuracy(score.own_text, score.truth) for score in ours if score.own_text is not None]
    right, kept, gained, lost = None, None, None, None
    if "acc" in pairs:
        before, after = pairs["acc"].T
        right, gained, lost = int(before.sum()), int((after > before).sum()), int((after < before).sum())
        kept = float(after[before == 1].mean()) if right else None
    return Comparison(
        setting, len(ours), differences, right, kept, gained, lost, float(np.mean(texts)) if texts else None
    )


def ranking(scores: Sequence[Score], setting: str) -> list[int]:
    """Indices of a setting's lines from best to worst: by what restoring gains in NED, then LPIPS, then PSNR."""
    by = {method: {s.index: s for s in scores if s.setting == setting and s.method == method} for method in METHODS}

    def gain(index: int) -> tuple[float, ...]:
        before, after = by[BASE][index].figures, by[OURS][index].figures
        signs = {"ned": 1, "lpips": -1, "psnr": 1}
        return tuple(sign * (after[name] - before[name]) for name, sign in signs.items() if name in after)

    return sorted(by[OURS], key=gain, reverse=True)


def headings(perceptual: str | None, frechet: str | None) -> dict[str, str]:
    """What each figure is called in tables, with the name of the network that it stands on."""
    names = {name: figure.heading for name, figure in FIGURES.items()}
    return names | {"lpips": perceptual or names["lpips"], "fid": frechet or names["fid"]}


def table(found: Sequence[Row], metrics: Sequence[str], names: Mapping[str, str]) -> str:
    """Markdown: the rows, with means and intervals."""
    lines = ["| setting | lines | n | method | " + " | ".join(names[name] for name in metrics) + " |"]
    lines.append("|---" * (4 + len(metrics)) + "|")
    for row in found:
        cells = [FIGURES[name].write(row.figures[name]) if name in row.figures else "-" for name in metrics]
        lines.append(f"| {row.setting} | {row.group} | {row.lines} | {row.method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
