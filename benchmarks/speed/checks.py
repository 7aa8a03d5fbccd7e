"""The speeds that the project asks of itself, and whether a run reached them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.plan import EAGER, FP16, FP32
from benchmarks.speed.record import find

PAPER_TIMES, ORT_TIMES, OF_PEAK = 25.0, 1.5, 2.5
"""On a CPU: DiffTSR / paper, both eager; torch eager / ONNX Runtime; seconds / (FLOP / rate of matrix products)."""
GPU_LINE, GPU_BATCH, GPU_TIMES = 0.040, 0.020, 100.0
"""On an H100: seconds a line of paper in fp16 at batch 1 and 16, and how many times as fast as DiffTSR as released."""


@dataclass(frozen=True)
class Bar:
    """A bar: ``found`` (None: not measured) is to be at least, or where ``most`` at most, ``asked``."""

    name: str
    asked: float
    found: float | None
    unit: str
    most: bool = False
    extrapolated: bool = False

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        if self.found is None:
            return None
        return self.found <= self.asked if self.most else self.found >= self.asked

    def __str__(self) -> str:
        sign = "at most" if self.most else "at least"
        if self.found is None:
            return f"not measured: {self.name} ({sign} {self.asked:g} {self.unit})"
        note = ", extrapolated" if self.extrapolated else ""
        said = "met" if self.met else "MISSED"
        return f"{said}: {self.name}: {self.found:.3g} {self.unit} ({sign} {self.asked:g}{note})"


def bars(data: Mapping[str, Any]) -> list[Bar]:
    """Those of the device that the results are of."""
    rows = data["rows"]
    return list(_gpu(rows) if data["device"]["kind"] == "cuda" else _cpu(rows, data["matrix_products"]["gflops"]))


def _cpu(rows: Sequence[Mapping[str, Any]], rates: Mapping[str, float]) -> Iterator[Bar]:
    line = {"batch": 1, "steps": 18, "text_sampler": "fixed", "precision": FP32}
    paper = find(rows, preset="paper", executor=EAGER, **line)
    released = find(rows, preset="difftsr", executor=EAGER, text_sampler="fixed")
    stretched = bool((released and released["extrapolated"]) or (paper and paper["extrapolated"]))
    times = paper["times_difftsr"] if paper else None
    yield Bar("paper against DiffTSR, both torch eager fp32", PAPER_TIMES, times, "times", extrapolated=stretched)
    ort, eager = (find(rows, preset="compact", executor=name, **line) for name in ("onnxruntime", EAGER))
    faster = eager["seconds_per_line"] / ort["seconds_per_line"] if ort and eager else None
    yield Bar("compact, ONNX Runtime against torch eager", ORT_TIMES, faster, "times")
    rate = rates.get(FP32)
    ideal = ort["gflop_per_line"] / rate if ort and rate else None
    over = ort["seconds_per_line"] / ideal if ort and ideal else None
    yield Bar("a compact line against its FLOP at the rate of matrix products", OF_PEAK, over, "times", most=True)


def _gpu(rows: Sequence[Mapping[str, Any]]) -> Iterator[Bar]:
    line = {"preset": "paper", "steps": 18, "text_sampler": "fixed", "precision": FP16}
    for batch, asked in ((1, GPU_LINE), (16, GPU_BATCH)):
        found = [row for row in rows if row["seconds_per_line"] and _is(row, batch=batch, **line)]
        best = min((row["seconds_per_line"] for row in found), default=None)
        seconds = None if best is None else best * 1000
        yield Bar(f"paper in fp16, batch {batch}, the fastest executor", asked * 1000, seconds, "ms a line", most=True)
        if batch == 1:
            times = max((row["times_difftsr"] or 0.0 for row in found), default=0.0) or None
            released = find(rows, preset="difftsr", executor=EAGER, text_sampler="fixed")
            stretched = bool(released and released["extrapolated"])
            yield Bar("paper in fp16 against DiffTSR as released", GPU_TIMES, times, "times", extrapolated=stretched)


def _is(row: Mapping[str, Any], **wanted: object) -> bool:
    return all(row[name] == value for name, value in wanted.items())
