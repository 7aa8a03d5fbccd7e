"""Lines of real photographs, shrunk and restored: ``python -m benchmarks.photos FOLDER``.

Finds the lines of every picture in a folder, as `runtime.pages` does, keeps those that the product's recogniser and
the judge read alike at full size, which is taken for the truth, and shrinks them to so many rows. Each is judged
enlarged, restored whatever it is (neither gate nor guard), and as it comes out by default. Pictures of what was won and
lost come with the table; ``--save`` keeps the figures in benchmarks/results/, ``--readme`` puts them into docs/.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from benchmarks import commands, photos_result
from benchmarks.photos_result import Row
from benchmarks.pictures import Panel, write_pictures
from benchmarks.speed import machine
from runtime import Restorer
from runtime.guard import Guard
from runtime.options import Gate
from runtime.pages.detector import Detector, RapidOCRDetector
from runtime.pages.geometry import cut_out
from runtime.recognizer import LineReader
from textsr.errors import InputError
from textsr.images import load_image
from textsr.inputs import collect
from train.evaluation.degradation import enlarge
from train.evaluation.judge import Judge, Reader
from train.metrics import accuracy

log = logging.getLogger(__name__)

ROWS = (24, 16, 14, 12)
"""Heights in pixels that lines are shrunk to; the gate leaves alone what is below 14."""
LEAST = 1.3
"""A line is shrunk to a height only where it is so many times as high."""
UPRIGHT = 1.2
"""A line that is so many times as high as wide stands upright, and its rows say nothing about its characters."""
CELL = (512, 128)
"""Pixels (width, height) that a line fills in the pictures, one of the two."""
SHOWN = 6
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Crop:
    """A line of a photograph, (h, w, 3) RGB, and what two recognisers read in it alike."""

    file: str
    image: Pixels
    text: str


def crops(folder: Path, detector: Detector, reader: LineReader, judge: Reader, dropped: Counter[str]) -> Iterator[Crop]:
    """The lines of all pictures in ``folder``; those left out are counted in ``dropped`` by reason.

    :raises InputError: no picture is there. A picture that cannot be read is logged and counted.
    """
    found = collect([str(folder)])
    if not found.items:
        raise InputError(f"{folder}: {found.failures[0][1] if found.failures else 'no picture'}")
    for item in tqdm(found.items, desc="photographs", unit="picture"):
        try:
            image = load_image(item.path)
        except InputError as error:
            log.warning("%s: %s", item.path, error)
            dropped["picture cannot be read"] += 1
            continue
        cut = [cut_out(image, quad) for quad in detector.detect(image)]
        lines = [line for line in cut if line.shape[0] <= UPRIGHT * line.shape[1]]
        dropped["upright"] += len(cut) - len(lines)
        readings = reader.read(lines) if lines else []
        for line, reading in zip(lines, readings, strict=True):
            if not reading.text:
                dropped["nothing read"] += 1
            elif not accuracy(judge(line), reading.text):
                dropped["read differently"] += 1
            else:
                yield Crop(item.path.name, line, reading.text)


def shrunk(image: Pixels, rows: int) -> Pixels | None:
    """``image`` (h, w, 3) with so many rows, by Lanczos' filter; None where it has fewer than `LEAST` times as many."""
    height, width = image.shape[:2]
    if height < LEAST * rows:
        return None
    size = max(1, round(width * rows / height)), rows
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


@dataclass(frozen=True)
class Outcome:
    """A row with its pictures: enlarged, restored whatever it is, by default."""

    row: Row
    pictures: tuple[Pixels, Pixels, Pixels]


def measure(lines: Sequence[Crop], rows: int, restorer: Restorer, judge: Reader, seed: int) -> Iterator[Outcome]:
    """The outcome of each of ``lines`` that can be shrunk to ``rows``, one line at a time; ``restorer`` has a guard."""
    for line in tqdm(lines, desc=f"{rows} rows", unit="line"):
        small = shrunk(line.image, rows)
        if small is None:
            continue
        (whatever,) = restorer([small], seed=seed, guarded=False, gate=Gate.off())
        (default,) = restorer([small], seed=seed)
        pictures = enlarge(small), whatever.image, default.image
        before, after, by_default = (judge(picture) for picture in pictures)
        about = default.applied, default.cause, whatever.text
        yield Outcome(Row(line.file, rows, line.text, before, after, by_default, *about), pictures)


def draw(outcomes: Sequence[Outcome], rows: int, out: Path) -> list[Path]:
    """``photos-ROWS-lost.png`` and ``-won.png``: lines that restoring spoilt and repaired, or came nearest to it."""
    ranked = sorted(range(len(outcomes)), key=lambda place: outcomes[place].row.gain)
    panels: dict[str, dict[int, Panel]] = {}
    for column, heading in enumerate(("enlarged", "restored", "by default")):
        panels[heading] = {}
        for place, one in enumerate(outcomes):
            reading = one.row.readings[column]
            panels[heading][place] = Panel(_fitted(one.pictures[column]), reading, one.row.right(column))
    choices = {"lost": ranked[:SHOWN], "won": ranked[::-1][:SHOWN]}
    return write_pictures(out, f"photos-{rows}", panels, choices)


def _fitted(image: Pixels) -> Pixels:
    scale = min(CELL[0] / image.shape[1], CELL[1] / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.photos", description=__doc__.split("\n")[0])
    add = made.add_argument
    add("folder", type=Path, nargs="?", help="folder of photographs with text, searched with its subfolders")
    add(
        "--rows",
        type=int,
        nargs="+",
        default=list(ROWS),
        help="heights that lines are shrunk to (default: %(default)s)",
    )
    commands.add_restorer(made)
    add("--source", default="", help="where the photographs are from, said beside the figures")
    add("--out", type=Path, default=Path("runs/photos"), help="folder for JSON, table and pictures")
    add("--save", action="store_true", help="also write JSON and table into benchmarks/results/")
    add("--readme", action="store_true", help="put the table of benchmarks/results/ into docs/; measures nothing")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 with a message when something is missing."""
    return commands.run(parser(), arguments, photos_result, _measured)


def _measured(options: argparse.Namespace, words: Sequence[str]) -> int:
    if options.folder is None:
        raise InputError("give FOLDER, a folder of photographs with text")
    if min(options.rows) < 1 or options.threads < 1:
        raise InputError("--rows and --threads must be at least 1")
    judge, dropped, rows = Judge(options.threads), Counter[str](), list[Row]()
    with Restorer.open(options.bundle, options.device, threads=options.threads, guard=Guard()) as restorer:
        if restorer.reader is None:
            raise InputError("photographs are measured with the recogniser: install the extra [ocr]")
        detector = RapidOCRDetector(threads=options.threads)
        lines = list(crops(options.folder, detector, restorer.reader, judge, dropped))
        found: dict[str, Any] = {
            "format": photos_result.FORMAT, "command": machine.command(words, "benchmarks.photos"),
            "commit": machine.commit(), "versions": machine.versions(), "source": options.source, "judge": judge.name,
            "bundle": Path(options.bundle).name, "executor": restorer.executor.name, "seed": options.seed,
            "steps": restorer.preset.default_steps, "strength": restorer.preset.default_strength,
            "paint": restorer.preset.default_paint,
            "photographs": len({line.file for line in lines}), "lines": len(lines), "dropped": dict(dropped),
        }  # fmt: skip
        for height in options.rows:
            outcomes = list(measure(lines, height, restorer, judge, options.seed))
            rows += [one.row for one in outcomes]
            if outcomes:
                draw(outcomes, height, options.out)
    if not rows:
        raise InputError(f"{options.folder}: no line that both recognisers read alike is high enough to be shrunk")
    data = photos_result.data(found, rows)
    for folder in (options.out, *([photos_result.RESULTS] if options.save else [])):
        photos_result.save(data, folder)
    sys.stdout.write(photos_result.table(data))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
