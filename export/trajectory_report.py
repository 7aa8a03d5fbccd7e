"""What a comparison of two executors found: errors by graph and step, images, texts; and what moved first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from export.report import Bounds, FreeRun, Measured, ParityReport, finite
from export.trajectory_lines import ReadLine

LISTED = 5
"""Errors out of bounds that a table of failure lists, in the order of running."""


@dataclass(frozen=True)
class Captured:
    """A pass of the candidate as it is without an observer, captured where its ``name`` says so: PSNR in dB of its
    image against that of the same loop run graph by graph."""

    name: str
    psnr: float


@dataclass(frozen=True)
class TrajectoryReport:
    """``parity``: each graph on the reference's inputs, and the loops left to themselves (`export.report`).

    ``drift`` has the errors of the candidate's own loop, on its own latents, the reference's tokens forced;
    ``forced`` tells of these loops by text sampler; their ``tokens`` count all that were drawn otherwise and replaced.
    ``reader`` names the recogniser, or says why there was none. ``statistics``: polygraphy's, of the run of each
    output with the largest error, by "graph.output".
    """

    a: str
    b: str
    bounds: Bounds
    lines: Mapping[str, Any]
    steps: int
    reader: str
    parity: ParityReport
    drift: tuple[Measured, ...] = ()
    forced: Mapping[str, FreeRun] = field(default_factory=dict)
    texts: tuple[ReadLine, ...] = ()
    captured: Mapping[str, Captured] = field(default_factory=dict)
    statistics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def failures(self) -> list[str]:
        """What is out of bounds: graphs in the order of running, then images, then texts."""
        found = self.parity.failures()
        for sampler, run in self.forced.items():
            if self.bounds.own is not None and not run.psnr >= self.bounds.own:
                found.append(
                    f"final image ({sampler} text, codes its own): {run.psnr:.1f} dB, {self.bounds.own:g} needed"
                )
        for sampler, one in self.captured.items():
            if not one.psnr >= self.bounds.psnr:
                found.append(
                    f"{one.name}, {sampler} text: {one.psnr:.1f} dB from the same loop run graph by graph, "
                    f"{self.bounds.psnr:g} needed"
                )
        if self.bounds.same_text:
            found += [
                f"line {text.line} ({text.where} text) reads {text.candidate!r}, not {text.reference!r}"
                for text in self.texts
                if text.distance
            ]
        return found

    def moved(self) -> list[Measured]:
        """Errors beyond the bound in the order of running: on the reference's inputs, or where there are none, those
        of the candidate's own loop."""
        for entries in (self.parity.steps, self.drift):
            found = [entry for entry in entries if not entry.error <= self.bounds.error]
            if found:
                return found
        return []

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; infinite errors are None."""
        found: dict[str, Any] = finite(asdict(self))
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrajectoryReport:
        """The inverse of `to_json`."""
        made: dict[str, Any] = {
            "bounds": Bounds(**data["bounds"]),
            "parity": ParityReport.from_json(data["parity"]),
            "drift": tuple(map(Measured.from_json, data["drift"])),
            "forced": {name: FreeRun.from_json(entry) for name, entry in data["forced"].items()},
            "texts": tuple(ReadLine(**entry) for entry in data["texts"]),
            "captured": {name: Captured(**entry) for name, entry in data["captured"].items()},
        }
        return cls(**{**data, **made})

    def table(self) -> str:
        """Errors by graph and by step, the loops, and the texts."""
        lines = [
            f"reference {self.a} ({self.parity.reference})",
            f"candidate {self.b} ({self.parity.candidate})",
            f"{len(self.lines.get('texts', ()))} lines, {self.steps} steps; bound {self.bounds.error:g}",
            "",
            *self._graphs(),
            "",
            *self._steps(),
            "",
            *(f"flips of {name}: {flips.flipped} of {flips.total}" for name, flips in self.parity.flips.items()),
        ]
        lines += [f"{sampler} text, tokens forced: {run}" for sampler, run in self.forced.items()]
        for sampler, run in self.parity.free.items():
            if run != self.forced[sampler]:  # fixed text has no tokens to force
                lines.append(f"{sampler} text, left to itself: {run}")
        lines += [f"{sampler} text, {one.name}: {one.psnr:.1f} dB" for sampler, one in self.captured.items()]
        return "\n".join([*lines, *self._texts()])

    def _graphs(self) -> list[str]:
        """The largest error of each graph, relative and in dB."""
        lines = [f"{'largest error':<20}{'on the same inputs':>22}{'on its own latents':>22}"]
        alone, drifted = _largest(self.parity.steps), _largest(self.drift)
        for name in alone:
            cells = (_cell(found[name]) if name in found else "-" for found in (alone, drifted))
            lines.append(f"{name:<20}" + "".join(f"{cell:>22}" for cell in cells))
        return lines

    def _steps(self) -> list[str]:
        """Relative errors by step: each graph on the same inputs, and the drift of the latent. The text sampler whose
        loop has the most graphs."""
        sampler = list(self.forced)[-1]
        inside = [entry for entry in self.parity.steps if entry.where == sampler and entry.step >= 0]
        names = list(dict.fromkeys(entry.graph for entry in inside))
        drift = {e.step: e for e in self.drift if (e.where, e.output) == (sampler, "z_prev")}
        lines = [f"{sampler + ' text, step':<20}" + "".join(f"{name:>16}" for name in names) + f"{'drift':>20}"]
        for step, entry in drift.items():
            found = _largest(one for one in inside if one.step == step)
            cells = (f"{found[name].error:.1e}" if name in found else "-" for name in names)
            lines.append(f"{step:<20}" + "".join(f"{cell:>16}" for cell in cells) + f"{_cell(entry):>20}")
        return lines

    def _texts(self) -> list[str]:
        if not self.texts:
            return [self.reader]
        same = sum(not text.distance for text in self.texts)
        lines = [f"{self.reader} reads the same on {same} of {len(self.texts)}"]
        for text in self.texts:
            other = "the same" if not text.distance else f"{text.candidate!r}, edit distance {text.distance}"
            lines.append(f"  line {text.line}, {text.where} text: {text.reference!r}; {other}")
        return lines

    def failed(self) -> str:
        """What failed, with the table of what moved first; empty where nothing did."""
        failures, moved = self.failures(), self.moved()
        if not failures:
            return ""
        shown = failures[: LISTED + 1]
        lines = [f"FAILED: {failure}" for failure in shown]
        if len(failures) > len(shown):
            lines.append(f"FAILED: {len(failures) - len(shown)} more")
        if not moved:
            return "\n".join(lines)
        inputs = "the reference's inputs" if moved[0] in self.parity.steps else "the candidate's own latents"
        lines += ["", f"what moved first (on {inputs}; bound {self.bounds.error:g})"]
        lines.append(f"{'':<10}{'step':>4}  {'graph':<20}{'output':<20}{'text':<14}{'error':>10}{'dB':>8}")
        worst = max(moved, key=lambda entry: entry.error)
        rows = [("first" if n == 0 else "", entry) for n, entry in enumerate(moved[:LISTED])]
        for label, entry in [*rows, ("largest", worst)]:
            step = str(entry.step) if entry.step >= 0 else "-"
            ratio = "-" if entry.snr is None else f"{entry.snr:.1f}"
            lines.append(
                f"{label:<10}{step:>4}  {entry.graph:<20}{entry.output:<20}{entry.where:<14}"
                f"{entry.error:>10.1e}{ratio:>8}"
            )
        return "\n".join(lines)


def _largest(entries: Iterable[Measured]) -> dict[str, Measured]:
    """The entry of largest error of each graph."""
    found: dict[str, Measured] = {}
    for entry in entries:
        if entry.graph not in found or entry.error > found[entry.graph].error:
            found[entry.graph] = entry
    return found


def _cell(entry: Measured) -> str:
    return f"{entry.error:.1e}" + ("" if entry.snr is None else f" ({entry.snr:.0f} dB)")
