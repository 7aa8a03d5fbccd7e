"""What a run has measured so far, and the JSON made of it; written after every turn, so a run can be taken up again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import costs
from benchmarks.speed.clock import Sample, mean_parts, quantiles
from benchmarks.speed.plan import CAPTURED, DIFFTSR, EAGER, FP32, Case
from textsr.errors import InputError

FORMAT = 1
RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass
class Measured:
    """A row's turns: the samples of each, and what was found in a process of its own."""

    turns: list[list[Sample]] = field(default_factory=list)
    apart: dict[str, Any] = field(default_factory=dict)
    runs_on: str = ""
    reason: str = ""

    @property
    def samples(self) -> list[Sample]:
        """Of all turns."""
        return [sample for turn in self.turns for sample in turn]


@dataclass
class Record:
    """A run: how it was asked for (``about``: command, commit, versions, device, conditions) and what it found.

    ``peaks`` are the rates of matrix products by type, measured between the systems.
    """

    about: dict[str, Any]
    cases: Sequence[Case]
    measured: dict[str, Measured] = field(default_factory=dict)
    peaks: list[dict[str, float]] = field(default_factory=list)

    def of(self, case: Case) -> Measured:
        """The measurements of a row, made where there are none."""
        return self.measured.setdefault(case.label, Measured())

    def peak(self) -> dict[str, float]:
        """GFLOP/s by type, the median."""
        names = self.peaks[0] if self.peaks else ()
        return {name: float(np.median([rates[name] for rates in self.peaks])) for name in names}

    def data(self) -> dict[str, Any]:
        """The whole as JSON takes it."""
        medians = {case.label: _median(self.of(case)) for case in self.cases}
        released = _first(self.cases, medians, EAGER, FP32)
        equal = _first(self.cases, medians, CAPTURED, None)
        rows = [self._row(case, released, equal) for case in self.cases]
        rates = {"gflops": self.peak(), "raw": self.peaks}
        return {"format": FORMAT, **self.about, "matrix_products": rates, "rows": rows}

    def _row(self, case: Case, released: float | None, equal: float | None) -> dict[str, Any]:
        found, own = self.of(case), asdict(case)
        seconds = [sample.seconds for sample in found.samples]
        row: dict[str, Any] = {"label": case.label, **own, "extrapolated": case.extrapolated}
        row |= {"reason": case.reason or found.reason, "runs_on": found.runs_on, "samples": len(seconds)}
        row |= {"parameters": costs.parameters(case), "gflop_per_line": costs.gflop(case)}
        row |= dict.fromkeys(("seconds_per_line", "p50", "p90", "p99", "lines_per_second", "share_of_matrix_products"))
        row |= {"times_difftsr": None, "times_difftsr_equal": None}
        if seconds:
            spread = quantiles(seconds)
            median, rate = spread["p50"], self.peak().get(case.precision)
            row |= {"seconds_per_line": median, **spread, "lines_per_second": 1 / median}
            if rate and row["gflop_per_line"] is not None:
                row["share_of_matrix_products"] = row["gflop_per_line"] / median / rate
            row["times_difftsr"] = None if released is None else released / median
            row["times_difftsr_equal"] = None if equal is None else equal / median
        row |= {"parts": mean_parts([sample.parts for sample in found.samples]), "apart": found.apart}
        row["raw"] = [[asdict(sample) for sample in turn] for turn in found.turns]
        return row

    def save(self, path: Path) -> None:
        """Writes the JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".part")
        draft.write_text(json.dumps(self.data(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(draft, path)

    def resume(self, path: Path) -> None:
        """Takes over what a run of the same rows on the same device has measured.

        :raises InputError: the file is none of ours, or of another device, commit or choice of rows.
        """
        data = read(path)
        for name in ("device", "commit"):
            if data.get(name) != self.about.get(name):
                raise InputError(
                    f"{path}: is of {name} {data.get(name)!r}, not {self.about.get(name)!r}: leave out --resume"
                )
        rows = {row["label"]: row for row in data["rows"]}
        if set(rows) != {case.label for case in self.cases}:
            raise InputError(f"{path}: has other rows than this run: leave out --resume")
        for case in self.cases:
            row = rows[case.label]
            turns = [[Sample(**sample) for sample in turn] for turn in row["raw"]]
            self.measured[case.label] = Measured(turns, row["apart"], row["runs_on"])
        self.peaks = data["matrix_products"]["raw"]


def read(path: Path) -> dict[str, Any]:
    """A results file. Raises InputError where it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read as results of benchmarks.latency ({error})") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT or "rows" not in data:
        raise InputError(f"{path}: is no results file of format {FORMAT}; measure anew")
    return data


def all_results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Every results file of a folder by name; none where there is no such folder."""
    return [read(path) for path in sorted(folder.glob("latency-*.json"))]


def find(rows: Sequence[Mapping[str, Any]], **wanted: object) -> Mapping[str, Any] | None:
    """The first measured row whose fields are as wanted."""
    for row in rows:
        if row["seconds_per_line"] is not None and all(row[name] == value for name, value in wanted.items()):
            return row
    return None


def _median(measured: Measured) -> float | None:
    seconds = [sample.seconds for sample in measured.samples]
    return float(np.median(seconds)) if seconds else None


def _first(
    cases: Sequence[Case], medians: Mapping[str, float | None], executor: str, precision: str | None
) -> float | None:
    """Seconds of DiffTSR's row with fixed text, which is what others are so many times as fast as."""
    for case in cases:
        asked = case.executor == executor and precision in (None, case.precision) and case.batch == 1
        if case.system.startswith(DIFFTSR) and asked and case.text_sampler == "fixed" and medians[case.label]:
            return medians[case.label]
    return None
