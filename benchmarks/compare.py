"""A method against another one, line by line, with bootstrap intervals of the paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.scoring import Score
from train.metrics import Interval, accuracy, bootstrap

FIGURES = ("acc", "ned", "psnr", "st_lpips")
BASE = "bicubic"


@dataclass(frozen=True)
class Comparison:
    """``method`` less ``base``: means and 95% intervals of the paired differences of each figure."""

    method: str
    base: str
    differences: dict[str, Interval]
    kept_right: Interval | None  # share of the lines that the base has right and the method too
    base_right: int  # lines that the base has right
    gained: int
    lost: int
    own_acc: float | None  # of what the method itself read

    def text(self) -> str:
        """For the terminal."""
        kept = "-" if self.kept_right is None else f"{self.kept_right.format(1, 100)}%"
        own = (
            ""
            if self.own_acc is None or self.base != BASE
            else f"; its own reading of the input is right in {100 * self.own_acc:.1f}%"
        )
        return (
            f"{self.method} - {self.base}: ACC {signed(self.differences['acc'], 1, 100)} percentage points "
            f"(paired, 95%), {self.gained} lines gained, {self.lost} lost; of the {self.base_right} lines that "
            f"{self.base} has right {kept} stay right{own}"
        )


def signed(interval: Interval, digits: int, scale: float = 1.0) -> str:
    """``+mean [low, high]`` of a difference, each with its sign."""
    mean, low, high = (f"{scale * value:+.{digits}f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def compare(scores: Sequence[Score], name: str, base: str = BASE) -> Comparison:
    """``name`` against ``base``, over lines that both have."""
    others = {score.index: score for score in scores if score.method == base}
    own = [score for score in scores if score.method == name and score.index in others]
    pairs = {
        figure: np.array([(getattr(others[score.index], figure), getattr(score, figure)) for score in own]).reshape(
            -1, 2
        )
        for figure in FIGURES
    }
    acc = pairs["acc"]
    right = acc[:, 0] == 1
    texts = [accuracy(score.own_text, score.truth) for score in own if score.own_text is not None]
    return Comparison(
        name,
        base,
        {figure: bootstrap(values[:, 1] - values[:, 0]) for figure, values in pairs.items()},
        bootstrap(acc[right, 1]) if right.any() else None,
        int(right.sum()),
        int((acc[:, 1] > acc[:, 0]).sum()),
        int((acc[:, 1] < acc[:, 0]).sum()),
        float(np.mean(texts)) if texts else None,
    )


def ranking(scores: Sequence[Score], name: str) -> list[int]:
    """Places of the lines from best to worst for ``name``: by NED gained on bicubic, then by ST-LPIPS gained."""
    by_method = {method: [s for s in scores if s.method == method] for method in (BASE, name)}
    gains = [
        (own.ned - base.ned, np.nan_to_num(base.st_lpips - own.st_lpips))
        for base, own in zip(by_method[BASE], by_method[name], strict=True)
    ]
    return sorted(range(len(gains)), key=lambda place: gains[place], reverse=True)
