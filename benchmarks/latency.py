"""Seconds a line, by graph and in total, on this machine's executor: ``python -m benchmarks.latency``.

With ``--baseline N`` the DiffTSR baseline runs N of its 200 steps in turn with our lines (`benchmarks.difftsr`, full
size, random weights); what 200 would take is extrapolated, and said to be. Without, only the ratio of FLOP is told,
from DiffTSR's published modules (120.2 TFLOP for 200 steps).
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks import flops, testset
from benchmarks.difftsr import SIZES
from benchmarks.difftsr.timing import BaselineClock, Round, record, report
from runtime import Restorer
from textsr.errors import TextSRError
from textsr.loop import Executor

READING, REST = "recognizer (reading)", "the rest (fitting, loop, transfers, cutting back)"


class TimedExecutor:
    """An executor that adds up the seconds of each graph, its results waited for."""

    def __init__(self, inner: Executor) -> None:
        self._inner, self.name = inner, inner.name
        self.seconds: dict[str, float] = {}

    def put(self, array: NDArray[Any]) -> Any:
        """As the inner one."""
        return self._inner.put(array)

    def get(self, handle: Any) -> NDArray[Any]:
        """As the inner one."""
        return self._inner.get(handle)

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """As the inner one, timed. On a GPU reading one result back is what waits for the graph."""
        begin = time.perf_counter()
        outputs = self._inner.run(graph, inputs)
        if "cpu" not in self.name.lower():
            self._inner.get(next(iter(outputs.values())))
        self.seconds[graph] = self.seconds.get(graph, 0.0) + time.perf_counter() - begin
        return outputs


def sample_lines(folder: Path, count: int) -> list[NDArray[np.uint8]]:
    """Lines of the test set, or noise of a line's size where it is not made: speed does not depend on the content."""
    if (folder / "lines.tsv").exists():
        lines = [line.lr for line in testset.read(folder, count)]
    else:
        rng = np.random.default_rng(0)
        lines = [rng.integers(0, 256, (32, 128, 3), dtype=np.uint8) for _ in range(count)]
    return [lines[place % len(lines)] for place in range(count)]


def measure(
    restorer: Restorer,
    lines: Sequence[NDArray[np.uint8]],
    rounds: int,
    steps: int | None,
    batch_size: int,
    baseline: BaselineClock | None = None,
) -> tuple[NDArray[np.float64], dict[str, float], list[Round]]:
    """Seconds a line of each round (rounds,), and seconds a line by part in the round of median time.

    The first call, which is not counted, warms up. Where there is a ``baseline``, it runs a line in each round too.
    """
    plain = restorer.executor
    restorer(lines[:batch_size], steps=steps, batch_size=batch_size)
    found: list[tuple[float, dict[str, float]]] = []
    theirs: list[Round] = []
    for _ in tqdm(range(rounds), desc="latency", unit="round"):
        begin = time.perf_counter()
        restorer(lines, steps=steps, batch_size=batch_size)
        total = (time.perf_counter() - begin) / len(lines)
        timed = TimedExecutor(plain)
        restorer.executor = timed
        begin = time.perf_counter()
        results = restorer(lines, steps=steps, batch_size=batch_size)
        whole = (time.perf_counter() - begin) / len(lines)
        restorer.executor = plain
        parts = {graph: seconds / len(lines) for graph, seconds in timed.seconds.items()}
        parts[READING] = float(np.mean([result.timings.get("read", 0.0) for result in results]))
        parts[REST] = max(0.0, whole - sum(parts.values()))
        found.append((total, parts))
        if baseline is not None:
            theirs.append(baseline())
    found.sort(key=lambda item: item[0])
    return np.array([total for total, _ in found]), found[len(found) // 2][1], theirs


def table(
    restorer: Restorer, totals: NDArray[np.float64], parts: Mapping[str, float], cost: flops.Cost, steps: int
) -> str:
    """Markdown."""
    rows = ["| part | s a line | share | GFLOP a line | GFLOP/s |", "|---|---|---|---|---|"]
    whole = sum(parts.values())
    for name, seconds in parts.items():
        reading = name == READING
        graphs = [graph for graph in cost.gflop if graph == name or (reading and graph.startswith("recognizer"))]
        gflop = sum(cost.gflop[graph] * cost.calls(graph, steps) for graph in graphs)
        speed = f"{gflop / seconds:.0f}" if gflop and seconds else "-"
        rows.append(f"| {name} | {seconds:.4f} | {seconds / whole:.1%} | {gflop:.2f} | {speed} |")
    median, gflop = float(np.median(totals)), cost.line(steps)
    rows.append(f"| a line, untimed parts | {median:.4f} | | {gflop:.2f} | {gflop / median:.0f} |")
    baseline = flops.difftsr_tflop()
    rows += [
        "",
        f"{restorer.executor.name} on {platform.processor() or platform.machine()}, {steps} steps: median {median:.3f} "
        f"s a line, {totals.min():.3f} to {totals.max():.3f} over {len(totals)} rounds.",
        f"DiffTSR costs {baseline:.1f} TFLOP a line at {flops.DIFFTSR_STEPS} steps, {baseline * 1000 / gflop:,.0f} "
        "times as many: a ratio of FLOP, not of seconds (--baseline N times it).",
    ]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 with a message when something is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.split("\n")[0])
    parser.add_argument("--bundle", default="compact", help="name or folder of the bundle (default: compact)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--executor", default="onnxruntime", help="onnxruntime or torch")
    parser.add_argument("--lines", type=int, default=4, help="lines a round (default: 4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; the median counts (default: 5)")
    parser.add_argument("--batch-size", type=int, default=1, help="lines at a time (default: 1)")
    parser.add_argument("--steps", type=int, default=None, help="residual-shift steps (default: all)")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: the executor's choice)")
    parser.add_argument("--testset", type=Path, default=testset.FOLDER, help="where lines are taken from")
    parser.add_argument("--baseline", type=int, default=0, metavar="N", help="time N steps of DiffTSR (default: none)")
    parser.add_argument("--size", choices=list(SIZES), default="full", help="of the baseline; small is for tests")
    parser.add_argument("--json", type=Path, default=None, help="file to write the figures to")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        restorer = Restorer.open(options.bundle, options.device, executor=options.executor, threads=options.threads)
        lines = sample_lines(options.testset, options.lines)
        baseline = None
        if options.baseline:
            device = restorer.executor.name.partition(":")[2]
            baseline = BaselineClock(options.baseline, options.size, device, options.threads)
        rounds, batch_size = max(1, options.rounds), max(1, options.batch_size)
        totals, parts, theirs = measure(restorer, lines, rounds, options.steps, batch_size, baseline)
        cost = flops.measure(restorer.preset)
    except TextSRError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    steps = options.steps or restorer.preset.schedule.steps
    sys.stdout.write(table(restorer, totals, parts, cost, steps) + "\n")
    if baseline is not None:
        sys.stdout.write("\n" + report(baseline, theirs, float(np.median(totals)), cost.line(steps)) + "\n")
    if options.json:
        data = {"executor": restorer.executor.name, "steps": steps, "seconds": totals.tolist(), "parts": parts,
                "gflop": cost.line(steps), "batch_size": options.batch_size,
                "baseline": None if baseline is None else record(baseline, theirs)}  # fmt: skip
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
