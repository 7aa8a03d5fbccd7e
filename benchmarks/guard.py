"""What the guard lets through and what it keeps: ``python -m benchmarks.guard``.

``--split validation`` records lines from which thresholds are chosen, judged by another recogniser than the one that
judges the test (``--judge FILE.onnx``); ``--split test`` records the test split, judged by PP-OCRv4. Both keep all
evidence of every line in ``--out``, so that a run goes on where it was cut and thresholds are tried without restoring
again. ``--report`` makes figures, picture and Markdown of what is there; with ``--save`` into benchmarks/results/ and
docs/, from where ``--readme`` puts them into README.md and docs/trust.md, measuring nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from benchmarks import commands, guard_result, testset
from benchmarks.guard_lines import GuardLine, RatedReader, Row, Rows, model_judge, record, validation_lines
from benchmarks.methods import sha256
from benchmarks.speed import machine
from runtime import Restorer
from runtime.bundle import MANIFEST, Bundle
from runtime.guard import GuardOptions
from textsr.errors import InputError
from train.evaluation.judge import Judge

SPLITS = ("validation", "test")
LINES = {"validation": 150, "test": testset.LINES}
OUT = testset.FOLDER.parent / "guard"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__.split("\n")[0])
    add = made.add_argument
    add("--split", choices=SPLITS, action="append", help="split to record (default: test); may be given twice")
    add("--lines", type=int, help="lines of it (default: 150 of validation, 1000 of test; 120 for a quick look)")
    add("--data", metavar="SPEC", help="validation lines, see train.data (for instance pool:DIR)")
    add("--judge", type=Path, metavar="FILE", help="ONNX file of the recogniser that judges validation lines")
    add("--judge-name", default="", help="what it is called in the report (default: the file's name)")
    commands.add_restorer(made)
    add("--steps", type=int, help="steps of restoring (default: the bundle's)")
    add("--testset", type=Path, default=testset.FOLDER, help="folder of the test split (made if missing)")
    add("--out", type=Path, default=OUT, help="folder for the recorded lines")
    add("--report", action="store_true", help="record nothing: report on what --out holds")
    add("--save", action="store_true", help="write the figures into benchmarks/results/ and the picture into docs/")
    add("--readme", action="store_true", help="put the figures of benchmarks/results/ into README.md and docs/trust.md")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 with a message when something is missing."""
    return commands.run(parser(), arguments, guard_result, _measured)


def _measured(options: argparse.Namespace, words: Sequence[str]) -> int:
    bundle = Bundle.open(options.bundle)
    steps = bundle.preset.default_steps if options.steps is None else options.steps
    steps = bundle.preset.schedule.steps if steps is None else steps
    if not options.report:
        for split in options.split or ["test"]:
            _record(split, options, bundle, steps)
    return _report(options, bundle, steps, words)


def _kept(split: str, options: argparse.Namespace, bundle: Bundle, steps: int) -> Rows:
    key = f"{split}, bundle {sha256(bundle.path / MANIFEST)}, steps {steps}, seed {options.seed}"
    return Rows(options.out / f"{split}.jsonl", key)


def _record(split: str, options: argparse.Namespace, bundle: Bundle, steps: int) -> None:
    """Adds the lines that are not recorded yet."""
    count = LINES[split] if options.lines is None else options.lines
    if count < 1 or options.threads < 1:
        raise InputError("--lines and --threads must be at least 1")
    kept = _kept(split, options, bundle, steps)
    rows = kept.read()
    missing = count - len(rows)
    if missing < 1:
        return
    start = rows[-1].index + 1 if rows else 0
    if split == "test":
        ours = Judge(options.threads)
        judge: RatedReader = ours.rated
        testset.write(options.testset, count, testset.SEED, ours)
        lines = _test_lines(options.testset, start, count)
    else:
        if options.data is None or options.judge is None:
            raise InputError("--split validation needs --data and --judge: the test's judge may choose no thresholds")
        judge = model_judge(options.judge)
        lines = validation_lines(options.data, judge, start, options.seed)
    restorer = Restorer.open(bundle, options.device, threads=options.threads)
    if restorer.reader is None:
        raise InputError("the guard is measured with the recogniser: install the extra [ocr]")
    with restorer:
        kept.add(record(islice(lines, missing), restorer, judge, steps, options.seed, missing))


def _test_lines(folder: Path, start: int, stop: int) -> Iterator[GuardLine]:
    for line in testset.read(folder, stop):
        if line.entry.index >= start:
            yield GuardLine(line.entry.index, line.entry.text, line.entry.severity, line.lr)


def _rows(split: str, options: argparse.Namespace, bundle: Bundle, steps: int) -> list[Row]:
    found = _kept(split, options, bundle, steps).read()
    return found if options.lines is None else found[: options.lines]


def _report(options: argparse.Namespace, bundle: Bundle, steps: int, words: Sequence[str]) -> int:
    """Figures of the recorded lines on standard output, and where ``--save`` says."""
    thresholds = GuardOptions()
    data = {
        "format": guard_result.FORMAT, "command": machine.command(words, "benchmarks.guard"),
        "commit": machine.commit(), "versions": machine.versions(), "device": machine.device("cpu"),
        "bundle": bundle.path.name, "manifest": sha256(bundle.path / MANIFEST),
        "steps": steps, "strength": bundle.preset.default_strength, "paint": bundle.preset.default_paint,
        "seed": options.seed, "options": asdict(thresholds),
    }  # fmt: skip
    for split in SPLITS:
        rows = _rows(split, options, bundle, steps)
        if rows:
            name = _judge_name(split, options)
            data[split] = guard_result.part(rows, thresholds, name, f"{split} split, first {len(rows)}")
            if split == "validation":
                data[split] |= guard_result.fitted(rows, thresholds)
    if not any(split in data for split in SPLITS):
        raise InputError(f"{options.out} holds no recorded lines: record some with --split")
    sys.stdout.write(guard_result.markdown(data) + "\n")
    if "validation" in data:
        fit = data["validation"]
        sys.stdout.write(f"validation chooses min_told {fit['chosen_told']:g}, min_proof {fit['chosen_proof']:g}\n")
    if options.save:
        guard_result.save(data)
        guard_result.draw(data)
    return 0


def _judge_name(split: str, options: argparse.Namespace) -> str:
    if split == "test":
        return Judge(1).name
    return options.judge_name or (options.judge.stem if options.judge else "another recogniser")


if __name__ == "__main__":
    raise SystemExit(main())
