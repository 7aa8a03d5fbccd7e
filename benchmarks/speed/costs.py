"""Parameters and GFLOP of a row: what is at work in it, the recogniser left out in every system."""

from __future__ import annotations

from functools import cache

from benchmarks.speed.plan import OURS, Case
from textsr import describe
from textsr.config import preset
from textsr.describe import DIFFTSR, DIFFTSR_PARAMETERS, Cost


@cache
def _cost(name: str) -> Cost:
    return describe.measure(preset(name))


def gflop(case: Case) -> float | None:
    """GFLOP of a line of all steps; None for DiffTSR at a size that is only for tests."""
    sampled = case.text_sampler == "categorical"
    if case.system == OURS:
        cost = _cost(case.preset)
        return sum(
            value * cost.calls(graph, case.steps, sampled)
            for graph, value in cost.gflop.items()
            if not graph.startswith("recognizer")
        )
    if "(" in case.system:
        return None
    each = DIFFTSR["UNet a step"] + DIFFTSR["MoM a step"] + DIFFTSR["TDM a step"] * sampled
    return each * case.steps + DIFFTSR["encode"] + DIFFTSR["decode"]


def parameters(case: Case) -> int | None:
    """Parameters at work: the text diffusion's only where it runs; None as `gflop`."""
    idle = {"transocr", "OCR"} | (set() if case.text_sampler == "categorical" else {"tdm", "TDM"})
    if case.system == OURS:
        return sum(value for name, value in _cost(case.preset).parameters.items() if name not in idle)
    if "(" in case.system:
        return None
    return sum(value for name, value in DIFFTSR_PARAMETERS.items() if name not in idle)
