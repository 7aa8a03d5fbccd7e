"""How readable and faithful restored lines are, ours and others on the same lines: ``python -m benchmarks.quality``.

Judged by a recogniser that neither training nor restoring uses. Scores are kept in ``--reuse FILE``, so that a run
goes on where it was cut, and one with new weights measures only those anew. Writes ``quality.json``, ``quality.md``
and pictures of the best, median and worst lines into ``--out``; with ``--save`` the figures into benchmarks/results/,
from where ``--readme`` puts the tables into README.md and docs/results.md.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import commands, quality_result, seconds, testset
from benchmarks.compare import BASE, ranking
from benchmarks.methods import ALL, MethodOptions, Opened, Output, find_method, names
from benchmarks.pictures import Panel, choose, write_pictures
from benchmarks.scoring import HR, Score, Scorer, Store, digest, hr_score, score
from benchmarks.speed import machine
from benchmarks.testset import TestLine
from textsr.errors import InputError
from train.evaluation.judge import Judge
from train.metrics import NORMALISATION

BATCH = 8
SCORES = testset.FOLDER.parent / "quality" / "scores.jsonl"


def score_lines(
    lines: Iterable[TestLine], methods: Mapping[str, Opened], scorer: Scorer, store: Store, count: int
) -> list[Score]:
    """Every line under every method, and as it is in high resolution. What ``store`` has is not run again.

    Raises InputError when a method returns another number of lines or another size.
    """
    scores: list[Score] = []
    with tqdm(total=count, desc="quality", unit="line") as bar:
        for batch in _batches(lines):
            digests = [digest(line) for line in batch]
            for name, method in methods.items():
                scores += _scored(batch, digests, name, method, scorer, store)
            scores += [hr_score(line) for line in batch]
            bar.update(len(batch))
    return scores


def _batches(lines: Iterable[TestLine]) -> Iterable[list[TestLine]]:
    batch: list[TestLine] = []
    for line in lines:
        batch.append(line)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _scored(
    batch: list[TestLine], digests: list[str], name: str, method: Opened, scorer: Scorer, store: Store
) -> list[Score]:
    key = f"{method.key}; {scorer.key}"
    found = [store.get(key, line) if method.key else None for line in digests]
    missing = [place for place, kept in enumerate(found) if kept is None]
    if missing:
        for place, output in zip(missing, _run(method, [batch[place] for place in missing]), strict=True):
            measured = found[place] = scorer.measure(batch[place], output)
            if method.key:
                store.put(key, digests[place], measured)
    return [score(line, name, kept) for line, kept in zip(batch, found, strict=True) if kept is not None]


def _run(method: Opened, batch: list[TestLine]) -> Sequence[Output]:
    outputs = method.run([line.lr for line in batch])
    if [output.image.shape for output in outputs] != [line.hr.shape for line in batch]:
        raise InputError(
            f"{method.name}: returned {len(outputs)} lines for {len(batch)}, or not at four times their size"
        )
    return outputs


def pictures(
    out: Path, lines: Sequence[TestLine], methods: Mapping[str, Opened], scores: Sequence[Score]
) -> list[Path]:
    """Sheets of the best, median and worst lines of each of our methods; and of the first one beside all others.

    The lines' outputs are made again: only their scores are kept. ``lines`` are all of the run, in order.
    """
    own = [name for name in methods if name.startswith("ours") or not methods[name].key]
    paths: list[Path] = []
    for number, name in enumerate(own or [*methods][-1:]):
        choices = choose(ranking(scores, name))
        places = sorted({place for chosen in choices.values() for place in chosen})
        every = number == 0 and len(methods) > 2
        shown = [*methods] if every else [BASE, name]
        panels = {key: _panels(key, methods[key], lines, places, scores) for key in shown}
        panels[HR] = _panels(HR, None, lines, places, scores)
        if every:
            paths += write_pictures(out, "all", panels, choices)
        three = {key: panels[key] for key in dict.fromkeys((BASE, name, HR))}
        paths += write_pictures(out, name.replace(":", "-"), three, choices)
    return paths


def _panels(
    name: str, method: Opened | None, lines: Sequence[TestLine], places: Sequence[int], scores: Sequence[Score]
) -> dict[int, Panel]:
    """Pictures of the lines at ``places`` under a method, or in high resolution, with what the judge reads."""
    rows = [row for row in scores if row.method == name]
    images = [lines[place].hr for place in places]
    if method is not None:
        images = [output.image for place in places for output in _run(method, [lines[place]])]
    return {
        place: Panel(image, rows[place].reading, bool(rows[place].acc))
        for place, image in zip(places, images, strict=True)
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.split("\n")[0])
    add = made.add_argument
    add("--lines", type=int, default=testset.LINES, help="1000 for a claim, 120 for a quick look")
    add("--methods", default="bicubic,ours", help=f"comma-separated: {', '.join(ALL)}, module:function; or all")
    commands.add_restorer(made, "CPU threads of every method (default: all)")
    add("--steps", type=int, default=None, help="residual-shift steps of plain ours (default: the bundle's)")
    add("--out", type=Path, default=Path("runs/quality"), help="folder for JSON, tables and pictures")
    add("--testset", type=Path, default=testset.FOLDER, help="folder of the test split (made if missing)")
    add("--reuse", type=Path, default=SCORES, metavar="FILE", help=f"scores kept between runs (default: {SCORES.name})")
    add(
        "--keep", nargs="+", default=[], metavar="METHOD",
        help="methods whose rows are taken over from benchmarks/results/, as peers take hours",
    )  # fmt: skip
    add("--no-perceptual", action="store_true", help="leave out ST-LPIPS, the slowest figure")
    add("--no-pictures", action="store_true", help="leave out the pictures")
    add("--timed", type=int, default=seconds.LINES, metavar="N", help="lines to time, 0 for none")
    add("--rounds", type=int, default=seconds.ROUNDS, help="rounds in which methods take turns at the timed lines")
    add("--save", action="store_true", help="also write the figures into benchmarks/results/")
    add(
        "--readme",
        action="store_true",
        help="put the tables of benchmarks/results/ into README.md and docs/; measures nothing",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 with a message when something is missing."""
    return commands.run(parser(), arguments, quality_result, _measured)


@dataclass(frozen=True)
class _Loads:
    """Load of the machine before the run, before the timing and at its end."""

    found: list[float]

    def note(self) -> None:
        self.found.append(round(os.getloadavg()[0], 2))


def _measured(options: argparse.Namespace, words: Sequence[str]) -> int:
    for name, least in (("lines", 1), ("threads", 1), ("rounds", 1), ("timed", 0)):
        if getattr(options, name) < least:
            raise InputError(f"--{name} {getattr(options, name)}: must be at least {least}")
    loads = _Loads([])
    loads.note()
    chosen = MethodOptions(options.bundle, options.device, options.seed, options.steps, options.threads)
    methods = {name: find_method(name, chosen) for name in names(options.methods)}
    judge = Judge(options.threads)
    testset.write(options.testset, options.lines, testset.SEED, judge)
    lines = list(testset.read(options.testset, options.lines))
    scorer = Scorer(judge, judge.name, not options.no_perceptual)
    scores = score_lines(lines, methods, scorer, Store(options.reuse), len(lines))
    loads.note()
    timed = seconds.in_turn(methods, lines[: options.timed], options.rounds)
    loads.note()
    about = {
        "command": machine.command(words, "benchmarks.quality"), "commit": machine.commit(),
        "versions": quality_result.versions(), "device": machine.device("cpu"),
        "gpu": _gpu(methods),
        "conditions": {
            "judge": judge.name, "normalisation": NORMALISATION,
            "testset": testset.check([line.entry for line in lines]), "lines": len(lines),
            "threads": options.threads, "seed": options.seed, "bundle": Path(options.bundle).name,
            "timed_lines": min(options.timed, len(lines)), "rounds": options.rounds, "load": loads.found,
        },
    }  # fmt: skip
    kept = quality_result.kept(options.keep, about, quality_result.RESULTS / quality_result.JSON)
    data = quality_result.data(about, methods, scores, timed, kept)
    quality_result.save(data, scores, options.out)
    if options.save:
        quality_result.save(data, scores, quality_result.RESULTS)
    sys.stdout.write(quality_result.table(data))
    if not options.no_pictures:
        pictures(options.out, lines, methods, scores)
    sys.stdout.write(f"figures and pictures in {options.out}\n")
    return 0


def _gpu(methods: Mapping[str, Opened]) -> dict[str, Any] | None:
    """The GPU that a method runs on, if one does."""
    found = (re.search(r"cuda(:\d+)?", method.runs_on) for method in methods.values())
    return next((machine.device(match[0]) for match in found if match), None)


if __name__ == "__main__":
    raise SystemExit(main())
