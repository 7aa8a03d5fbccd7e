"""A comparison of two sides from beginning to end: reference first, then the candidate on what was kept of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from polygraphy import comparator
from polygraphy.logger import G_LOGGER
from tqdm import tqdm

from export.report import BOUNDS, Bounds, Measured, ParityReport, finite, psnr
from export.trajectory import Beside, Comparison, Pass, Worst, in_order, record, record_reading
from export.trajectory_lines import NOT_INSTALLED, Lines, ReadLine, read_both
from export.trajectory_report import Captured, TrajectoryReport
from export.trajectory_sides import Side, check_alike
from runtime.recognizer import LineReader
from textsr.errors import InputError
from textsr.loop import TextSampler, restore
from textsr.program import TEXT_BRANCH

SAMPLERS: tuple[TextSampler, ...] = ("fixed", "categorical")
_STATISTICS = ("max", "mean", "median", "quantile")


def compare(
    a: Side,
    b: Side,
    lines: Lines,
    *,
    steps: int | None = None,
    samplers: Sequence[TextSampler] = SAMPLERS,
    reader: LineReader | None = None,
) -> TrajectoryReport:
    """Compares candidate ``b`` with reference ``a`` on the same lines, noise and uniforms.

    :param steps: of the loop, all of the preset's by default.
    :param samplers: categorical is left out where either side has no graphs for it.
    :param reader: reads the final images of both sides; None where none is installed.
    :raises InputError: the text sampler asked for needs graphs that are not there.
    :raises BundleError: the sides are models of different kinds.
    :raises EngineError: a graph cannot be loaded or run.
    """
    check_alike(a, b)
    graphs = [name for name in sorted(a.graphs) if name in b.graphs]
    bounds = bounds_of(a, b)
    if not set(graphs) >= TEXT_BRANCH:
        samplers = [sampler for sampler in samplers if sampler == "fixed"]
    if not samplers:
        raise InputError(f"{a.spec} and {b.spec} have no graphs for the categorical text sampler: use fixed")
    with tqdm(desc="parity", unit="run", disable=None) as bar:
        comparison = Comparison(bar)
        passes = [record(a.executor, a.preset, lines.batch, a.codebook, one, steps, bar) for one in samplers]
        calls = [call for one in passes for call in one.fed()]
        bar.total = len(calls) * 3 + sum(len(one.calls) for one in passes if one.sampler != "fixed")
        if {"recognizer_encoder", "recognizer_step"} <= set(graphs) and a.preset.transocr and a.symbols:
            calls += record_reading(a.executor, a.preset.transocr, a.symbols, passes[0].output)
        placed: list[tuple[int, list[Measured]]] = []
        for name in graphs:
            placed += comparison.again(b.executor, calls, name)
        forced = {one.sampler: _beside(comparison, b, lines, one, force_tokens=True) for one in passes}
        free: dict[str, Beside] = {  # fixed text draws no tokens that could be forced
            one.sampler: forced[one.sampler]
            if one.sampler == "fixed"
            else _beside(comparison, b, lines, one, force_tokens=False)
            for one in passes
        }
        captured = _captured(b, lines, passes, free)
    texts: list[ReadLine] = []
    for one in passes if reader else ():
        assert reader is not None
        texts += read_both(reader, one.sampler, lines, one.output.image, forced[one.sampler].output.image)
    names = (a.executor.name, b.executor.name)
    parity = ParityReport(*names, bounds.error, bounds.psnr, (), in_order(placed), comparison.flips)
    return TrajectoryReport(
        a=str(a.spec),
        b=str(b.spec),
        bounds=bounds,
        lines=lines.told,
        steps=max(call.step for call in calls) + 1,
        reader=NOT_INSTALLED if reader is None else reader.name,
        parity=replace(parity, free={name: one.told for name, one in free.items()}),
        drift=tuple(entry for one in forced.values() for entry in one.errors),
        forced={name: one.told for name, one in forced.items()},
        texts=tuple(texts),
        captured=captured,
        statistics={name: statistics(worst) for name, worst in comparison.worst.items()},
    )


def bounds_of(a: Side, b: Side) -> Bounds:
    """float32's bounds where both sides compute in it, on weights stored in the same precision."""
    same = a.stored == b.stored and a.spec.precision == b.spec.precision == "fp32"
    return BOUNDS["fp32" if same else "fp16"]


def _beside(comparison: Comparison, side: Side, lines: Lines, one: Pass, *, force_tokens: bool) -> Beside:
    return comparison.beside(side.executor, side.preset, lines.batch, one, force_tokens=force_tokens)


def _captured(side: Side, lines: Lines, passes: Sequence[Pass], free: Mapping[str, Beside]) -> dict[str, Captured]:
    """Where the executor captures passes of the loop: the second of two, which is launched as one graph."""
    found: dict[str, Captured] = {}
    for one in passes:
        if not _captures(side, lines, one):
            continue
        for _ in range(2):
            output = restore(side.executor, side.preset, lines.batch, steps=one.steps, text_sampler=one.sampler)
        found[one.sampler] = Captured(output.executor, psnr(free[one.sampler].output.image, output.image))
    return found


def _captures(side: Side, lines: Lines, one: Pass) -> bool:
    """Whether the executor records passes, which their names then tell (`textsr.replay`); a short one shows it."""
    if not hasattr(side.executor, "loop"):
        return False
    probe = restore(side.executor, side.preset, lines.batch, steps=1, text_sampler=one.sampler)
    return probe.executor != side.executor.name


def statistics(worst: Worst) -> dict[str, Any]:
    """polygraphy's statistics of absolute and relative differences (its 99% quantile with them), and where."""
    simple = getattr(comparator, "SimpleCompareFunc", None) or comparator.CompareFunc.simple
    both = (worst.expected, worst.found)
    sides = [comparator.IterationResult({"output": np.ascontiguousarray(value)}) for value in both]
    measured = {"where": worst.measured.where, "step": worst.measured.step}
    if worst.expected.shape != worst.found.shape:
        return {**measured, "shapes": [list(value.shape) for value in both]}
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL), np.errstate(all="ignore"):
        result = simple(check_error_stat="quantile")(*sides)["output"]
    names = [f"{statistic}_{kind}" for kind in ("absdiff", "reldiff") for statistic in _STATISTICS]
    found: dict[str, Any] = finite({name: getattr(result, name, None) for name in names})
    return measured | found
