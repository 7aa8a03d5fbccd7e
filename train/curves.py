"""What a run tells of itself: means of figures, curves as a picture, events for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from textsr.errors import InputError

ROW_STEPS = 20
"""Steps that a row of the curves sums up."""

CURVE_ROWS = 60
"""Rows of a part's curves that go into the metadata of weights."""

COLUMNS = 4
"""Panels beside each other in the picture of curves."""


def thinned(curves: list[dict[str, float]]) -> list[dict[str, float]]:
    """At most `CURVE_ROWS` rows, evenly spread, to four digits."""
    every = max(1, -(-len(curves) // CURVE_ROWS))
    return [{name: float(f"{value:.4g}") for name, value in row.items()} for row in curves[::every]]


class Averages:
    """Means of figures since they were last taken, each over the steps that measured it."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def __bool__(self) -> bool:
        """Whether anything was added."""
        return bool(self._sums)

    def add(self, figures: dict[str, float]) -> None:
        """The figures of one step."""
        for name, value in figures.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value, count + 1

    def take(self) -> dict[str, float]:
        """The means; the next ones start from nothing."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means


class Board:
    """Events for TensorBoard below ``folder``; without a folder it does nothing."""

    def __init__(self, folder: Path | None, step: int = 0) -> None:
        """``step``: where the run stands; events of an earlier run after it are hidden.

        Raises InputError where the package tensorboard is not installed.
        """
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(f"{error}: pip install '.[train]', or give --no-tensorboard") from error
        self._writer = SummaryWriter(str(folder), purge_step=step or None)

    def figures(self, figures: dict[str, float], step: int) -> None:
        """One point of every curve."""
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def picture(self, path: Path, step: int) -> None:
        """A picture of samples, where there is one."""
        if self._writer is not None and path.is_file():
            with Image.open(path) as picture:
                self._writer.add_image("samples", np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            self._writer.close()


def plot_curves(curves: list[dict[str, float]], path: Path) -> None:
    """One panel a figure, over training seconds."""
    from matplotlib.figure import Figure

    names = sorted({k for row in curves for k in row} - {"step", "seconds"})
    if not names:
        return
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(16, 3 * rows))
    # Margins as they are: to fit them to the labels takes as long as to draw the panels.
    margin = 0.1 / rows
    figure.subplots_adjust(left=0.04, right=0.99, bottom=margin, top=1 - margin, wspace=0.25, hspace=0.3)
    for place, name in enumerate(names, 1):
        axis = figure.add_subplot(rows, COLUMNS, place)
        points = [(row["seconds"], row[name]) for row in curves if name in row]
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 20 else None)
        axis.set_title(name)
        axis.locator_params(nbins=4)
    figure.savefig(path, dpi=60)
