"""RapidOCR with and without us, on degraded lines and whole pages: ``python -m benchmarks.ocr``.

The same calls give text accuracy and time: for each line or page RapidOCR is called without us and in each way with
us, in turns. RapidOCR's own recogniser is the one that also tells our restoration what a line says, so
``--recognisers`` takes another generation besides. Figures are written after each part; ``--readme`` puts them into
README.md and docs/results.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import commands, ocr_result, testset
from benchmarks.ocr_pages import PAPERS, Page, compose, match
from benchmarks.quality_result import versions
from benchmarks.speed import machine
from benchmarks.testset import TestLine
from runtime import Restorer
from runtime.guard import Guard
from runtime.options import Options
from runtime.plugins.lines import Lines
from textsr.errors import InputError

RECOGNISERS = {
    "default": ("", ""),
    "pp-ocrv4": ("rapidocr_onnxruntime", "ch_PP-OCRv4_rec_infer.onnx"),
}
"""RapidOCR's own, and another generation: package and file of the weights."""
BELOW = 0.9
"""Confidence below which the third way restores a line; a round number, not tuned."""
PER_PAGE = 8
Call = Callable[[Any, NDArray[np.uint8]], tuple[list[str], int]]


@dataclass
class Way:
    """RapidOCR, called in one way; what it read and how long it took, call by call."""

    name: str
    ocr: Any
    lines: Lines | None = None
    readings: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    stray: int = 0


def open_ways(recogniser: str, restorer: Restorer, options: Options, threads: int) -> list[Way]:
    """RapidOCR without us and with us; Raises InputError where it or the recogniser's weights are not installed."""
    if find_spec("rapidocr") is None:
        raise InputError("RapidOCR is not installed: install the extra [ocr]")
    from runtime.plugins.rapidocr import attach

    ways = [Way(ocr_result.WITHOUT, _rapidocr(recogniser, threads))]
    unguarded = replace(options, guarded=False)
    for name, lines in (
        (ocr_result.EVERY, Lines(restorer, unguarded)),
        (ocr_result.GUARDED, Lines(restorer, options)),
        (f"read below {BELOW:g}: restored, the surer kept", Lines(restorer, unguarded, below=BELOW, keep="better")),
    ):
        ways.append(Way(name, attach(_rapidocr(recogniser, threads), lines), lines))
    return ways


def _rapidocr(recogniser: str, threads: int) -> Any:
    from rapidocr import RapidOCR

    params: dict[str, Any] = {
        "Global.log_level": "error",
        "EngineConfig.onnxruntime.intra_op_num_threads": threads,
    }
    package, file = RECOGNISERS[recogniser]
    if package:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"{recogniser}: {package} is not installed, install the extra [train]")
        params["Rec.model_path"] = str(Path(spec.submodule_search_locations[0]) / "models" / file)
    return RapidOCR(params=params)


def call_line(ocr: Any, line: NDArray[np.uint8]) -> tuple[list[str], int]:
    """What RapidOCR reads of a line crop (h, w, 3) RGB, neither detecting nor turning it."""
    found = ocr(np.ascontiguousarray(line[:, :, ::-1]), use_det=False, use_cls=False, use_rec=True)
    return [found.txts[0] if found.txts else ""], 0


def call_page(page: Page) -> Call:
    """Reads a page as RapidOCR does by itself, and finds its lines again."""

    def call(ocr: Any, image: NDArray[np.uint8]) -> tuple[list[str], int]:
        found = ocr(np.ascontiguousarray(image[:, :, ::-1]), use_det=True, use_cls=True, use_rec=True)
        return match(page, [] if found.boxes is None else list(found.boxes), found.txts or ())

    return call


def in_turn(ways: Sequence[Way], image: NDArray[np.uint8], call: Call, clock: Callable[[], float]) -> None:
    """Calls every way on one picture and adds what it read, and the seconds, to it."""
    for way in ways:
        begin = clock()
        readings, stray = call(way.ocr, image)
        way.seconds.append(clock() - begin)
        way.readings += readings
        way.stray += stray


def pages_of(lines: Sequence[TestLine], pages: int, seed: int) -> Iterator[Page]:
    """Pages of `PER_PAGE` lines each, on every kind of paper in turns; lines are used anew when they run out."""
    for number in range(pages):
        chosen = [lines[(number * PER_PAGE + place) % len(lines)] for place in range(min(PER_PAGE, len(lines)))]
        yield compose(chosen, PAPERS[number % len(PAPERS)], seed + number)


def measure_lines(ways: Sequence[Way], lines: Sequence[TestLine]) -> list[str]:
    """Reads every line in every way; the truths. A first call of each way is not counted."""
    _warm(ways, lines[0].lr, call_line)
    for line in tqdm(lines, desc="lines", unit="line"):
        in_turn(ways, line.lr, call_line, time.perf_counter)
    return [line.entry.text for line in lines]


def measure_pages(ways: Sequence[Way], pages: Sequence[Page]) -> list[str]:
    """Reads every page in every way; the truths of all their lines. The first call of each way is not counted."""
    _warm(ways[:1], pages[0].image, call_page(pages[0]))  # detector and classifier; the rest the lines have warmed
    for page in tqdm(pages, desc="pages", unit="page"):
        in_turn(ways, page.image, call_page(page), time.perf_counter)
    return [line.text for page in pages for line in page.lines]


def _warm(ways: Sequence[Way], image: NDArray[np.uint8], call: Call) -> None:
    for way in ways:
        call(way.ocr, image)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.ocr", description=__doc__.split("\n")[0])
    add = made.add_argument
    add("--lines", type=int, default=testset.QUICK, help="test lines, 1000 for a claim, 0 for none")
    add("--pages", type=int, default=15, help=f"pages of {PER_PAGE} test lines each, 0 for none")
    add("--recognisers", default="default,pp-ocrv4", help=f"comma-separated: {', '.join(RECOGNISERS)}")
    add("--bundle", default="compact", help="name or folder of the bundle (default: compact)")
    add("--device", default="auto", help="of the restoration: auto, cpu, cuda or cuda:N")
    add("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads of RapidOCR and of us (default: all)")
    add("--seed", type=int, default=0, help="seed of restoration and pages")
    add("--steps", type=int, default=None, help="residual-shift steps (default: the bundle's)")
    add("--deadline-ms", type=float, default=None, help="time for the restoration in each call (default: none)")
    add("--testset", type=Path, default=testset.FOLDER, help="folder of the test split (made if missing)")
    add("--out", type=Path, default=Path("runs/ocr"), help="folder for JSON and table")
    add("--save", action="store_true", help="also write them into benchmarks/results/")
    add(
        "--readme",
        action="store_true",
        help="put the tables of benchmarks/results/ into README.md and docs/; measures nothing",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 with a message when something is missing."""
    return commands.run(parser(), arguments, ocr_result, _measured)


def _measured(options: argparse.Namespace, words: Sequence[str]) -> int:
    names = [name.strip() for name in options.recognisers.split(",")]
    unknown = [name for name in names if name not in RECOGNISERS]
    if unknown:
        raise InputError(f"--recognisers {unknown[0]}: choose of {', '.join(RECOGNISERS)}")
    if min(options.lines, options.pages) < 0 or options.threads < 1 or not options.lines + options.pages:
        raise InputError("--lines and --pages must be at least 0, one of them above it, and --threads at least 1")
    lines = list(_test_lines(options, max(options.lines, min(options.pages * PER_PAGE, testset.LINES))))
    how = Options(options.seed, options.steps, deadline_ms=options.deadline_ms)
    with Restorer.open(options.bundle, options.device, threads=options.threads, guard=Guard()) as restorer:
        found = _about(options, words, restorer)
        for name in names:
            for part in _parts(name, lines, options, restorer, how):
                found["parts"].append(part)
                found["load"].append(round(os.getloadavg()[0], 2))
                for folder in (options.out, *([ocr_result.RESULTS] if options.save else [])):
                    ocr_result.save(found, folder)
    sys.stdout.write(ocr_result.table(found))
    return 0


def _parts(
    name: str, lines: Sequence[TestLine], options: argparse.Namespace, restorer: Restorer, how: Options
) -> Iterator[dict[str, Any]]:
    if options.lines:
        ways = open_ways(name, restorer, how, options.threads)
        yield ocr_result.part("lines", name, ways, measure_lines(ways, lines[: options.lines]))
    if options.pages:
        ways = open_ways(name, restorer, how, options.threads)
        pages = list(pages_of(lines, options.pages, options.seed))
        yield ocr_result.part("pages", name, ways, measure_pages(ways, pages))


def _test_lines(options: argparse.Namespace, count: int) -> Iterator[TestLine]:
    from train.evaluation.judge import Judge

    try:
        here = len(testset.entries(options.testset))
    except InputError:
        here = 0
    if here < count:
        testset.write(options.testset, count, testset.SEED, Judge(options.threads))
    return testset.read(options.testset, count)


def _about(options: argparse.Namespace, words: Sequence[str], restorer: Restorer) -> dict[str, Any]:
    """The run: all that its figures depend on."""
    return {
        "format": ocr_result.FORMAT, "command": machine.command(words, "benchmarks.ocr"), "commit": machine.commit(),
        "versions": versions(), "device": machine.device("cpu"),
        "conditions": {
            "bundle": Path(options.bundle).name, "executor": restorer.executor.name, "threads": options.threads,
            "steps": options.steps or restorer.preset.default_steps, "seed": options.seed, "below": BELOW,
            "deadline_ms": options.deadline_ms, "lines_per_page": PER_PAGE, "papers": list(PAPERS),
        },
        "load": [round(os.getloadavg()[0], 2)], "parts": [],
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
