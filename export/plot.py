"""Errors by step and graph as a picture. Needs matplotlib, which comes with the extra [train]."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from export.report import Measured, ParityReport
from export.trajectory_report import TrajectoryReport
from textsr.errors import InputError
from textsr.images import atomic

FORMATS = ("png", "svg", "pdf")
FLOOR = 1e-9
"""Errors below are drawn there: a logarithmic axis has no zero."""
CEILING = 1e3
"""Errors above, and those that are not finite, are drawn there."""


def plot_errors(report: ParityReport | TrajectoryReport, path: Path) -> None:
    """One panel for each text sampler: the largest relative error of each graph by step; solid on the reference's
    inputs, dashed on the candidate's own latents.

    :raises InputError: matplotlib is not installed, the suffix is unknown, or the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(f"{path}: a plot is a file that ends in {', '.join(FORMATS)}")
    try:
        figure_of = import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise InputError("--plot needs matplotlib: install it, or the extra [train]") from error
    parity = report.parity if isinstance(report, TrajectoryReport) else report
    drift = report.drift if isinstance(report, TrajectoryReport) else ()
    samplers = list(dict.fromkeys(entry.where for entry in parity.steps if entry.step >= 0))
    figure = figure_of(figsize=(6 * len(samplers), 4.5), layout="constrained")
    panels = figure.subplots(1, len(samplers), sharey=True, squeeze=False)[0]
    for panel, sampler in zip(panels, samplers, strict=True):
        _draw(panel, sampler, parity.steps, drift)
        panel.axhline(parity.bound, color="black", linewidth=0.8, linestyle=":", label=f"bound {parity.bound:g}")
        panel.set(title=f"{sampler} text", xlabel="step", yscale="log")
        panel.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel("relative error")
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(f"{parity.candidate} against {parity.reference}")
    with atomic(path) as stream:
        figure.savefig(stream, format=kind, dpi=120)


def _draw(panel: Any, sampler: str, alone: Sequence[Measured], drift: Sequence[Measured]) -> None:
    graphs = list(dict.fromkeys(entry.graph for entry in alone if entry.where == sampler and entry.step >= 0))
    for number, graph in enumerate(graphs):
        for entries, style, label in ((alone, "o-", graph), (drift, "x--", "")):
            largest: dict[int, float] = {}
            for entry in entries:
                if (entry.where, entry.graph) == (sampler, graph):
                    largest[entry.step] = max(largest.get(entry.step, 0.0), entry.error)
            values = [min(max(error, FLOOR), CEILING) for error in largest.values()]
            panel.plot(list(largest), values, style, color=f"C{number}", label=label or None, markersize=4)
