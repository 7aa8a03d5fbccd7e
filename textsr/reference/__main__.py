"""``python -m textsr.reference IN... -o OUT --checkpoint FILE``: restores pictures of text lines, in torch."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from textsr.config import PRESETS, SCHEDULES
from textsr.errors import InputError, TextSRError
from textsr.images import load_image, save_png
from textsr.inputs import Item, check_outputs, collect, write_report
from textsr.linetext import LineText
from textsr.reference.sampler import ONE, Reference, Restored
from textsr.sidecars import read_sidecar

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
MANUAL = """\
Restores pictures of text lines with the networks of a checkpoint as torch modules: the reference that everything
else is measured against, and the way to run the paper's system with the published weights. No export, no bundle.

A checkpoint of preset paper is made of the published files by python -m textsr.checkpoint import. It states its
schedule (T = 18, 15 or 4), the alphabet of its text modules and the symbols of its TransOCR, which reads the lines
that come without a text.

texts
  --text says what all the lines read; --texts names a UTF-8 file with one picture a line: its path (as given, from
  the file's folder, or below the given folder), a tab, the text, and if you like a tab and confidences from 0 to 1
  separated by spaces, one for each character or one for all. With --no-text nothing is read either.

written
  OUT/<path below the given folder, without suffix>.png, 4 times as large as the picture. Existing files are replaced
  only with --overwrite. The report has one JSON object a line for each input.

exit status
  0 all restored; 1 some could not be read or restored (the others are done); 2 wrong usage, nothing was done.
"""


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = argparse.ArgumentParser(
        prog="python -m textsr.reference", description=MANUAL, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("inputs", nargs="+", metavar="IN", help="file, folder or glob")
    add("-o", "--out", required=True, type=Path, metavar="OUT", help="folder for the results, made if missing")
    add("--preset", default="paper", help=f"{', '.join(PRESETS)} (default: paper)")
    add("--checkpoint", type=Path, metavar="FILE", help="safetensors file of all networks")
    add("--random", action="store_true", help="random weights instead of a checkpoint, to try out or to measure")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--schedule", type=int, choices=tuple(SCHEDULES), help="T (default: what the checkpoint states)")
    add("--steps", type=int, help="only so many of the T steps (default: all)")
    add("--seed", type=int, default=0, help="seed of the noise (default: 0)")
    add("--batch-size", type=int, default=4, help="lines restored at once (default: 4)")
    add("--text-sampler", choices=("fixed", "categorical"), default="fixed",
        help="fixed keeps the text as read, categorical draws it anew at each step (default: fixed)")  # fmt: skip
    add("--weights", choices=("ocr", ONE), default="ocr",
        help="weight of a token: its confidence, or 1 as in DiffTSR (default: ocr)")  # fmt: skip
    source = made.add_mutually_exclusive_group()
    source.add_argument("--text", help="what all the lines say")
    source.add_argument("--texts", type=Path, metavar="FILE.tsv", help="what each line says")
    source.add_argument("--no-text", action="store_true", help="restore from the picture alone")
    add("--report", type=Path, metavar="FILE.jsonl", help="write what was done, one JSON object a line")
    add("--overwrite", action="store_true", help="replace existing results")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0 done, 1 something failed, 2 wrong usage."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="reference: %(message)s", stream=sys.stderr)
    try:
        return _run(options)
    except TextSRError as error:
        _say(str(error))
        return MISUSED if isinstance(error, InputError) else FAILED
    except KeyboardInterrupt:
        _say("interrupted; what was finished is kept")
        return INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"{options.out} is a file: -o needs a folder")
    if options.report is not None and options.report.exists() and not options.overwrite:
        raise InputError(f"{options.report} exists already: use --overwrite or another name")
    found = collect(options.inputs, options.out)
    check_outputs(found.items, options.out, compare=False, overwrite=options.overwrite)
    texts = _texts(options, found.items)
    records = [_failed(name, reason) for name, reason in found.failures]
    if found.items:
        reference = Reference.open(
            options.checkpoint, options.preset, options.device, options.schedule, random=options.random
        )
        reference.check(options.steps, options.batch_size)
        records += _restore_all(reference, found.items, texts, options)
    done = sum(record["output"] is not None for record in records)
    _say(f"{done} of {len(records)} restored in {options.out}")
    return 0 if _reported(records, options.report) and done == len(records) else FAILED


def _reported(records: Sequence[dict[str, Any]], path: Path | None) -> bool:
    """Writes the report where one is asked for; False, and a line on standard error, when that fails."""
    try:
        if path is not None:
            write_report(path, records)
    except InputError as error:
        _say(str(error))
        return False
    return True


def _texts(options: argparse.Namespace, items: Sequence[Item]) -> list[LineText | None]:
    if options.texts is not None:
        return read_sidecar(options.texts, items)
    text = "" if options.no_text else options.text
    return [None if text is None else LineText(text)] * len(items)


def _restore_all(
    reference: Reference, items: Sequence[Item], texts: Sequence[LineText | None], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Loads, restores and writes batch by batch, so that memory holds one batch; one record an item, in order."""
    records: list[dict[str, Any]] = []
    with tqdm(total=len(items), unit="line", desc="restoring", file=sys.stderr, disable=None) as bar:
        for start in range(0, len(items), options.batch_size):
            chunk = slice(start, start + options.batch_size)
            records += _restore_batch(reference, items[chunk], texts[chunk], options)
            bar.update(len(items[chunk]))
    return records


def _restore_batch(
    reference: Reference, items: Sequence[Item], texts: Sequence[LineText | None], options: argparse.Namespace
) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = [{} for _ in items]
    loaded = {}
    for place, item in enumerate(items):
        try:
            loaded[place] = load_image(item.path)
        except InputError as error:
            records[place] = _failed(str(item.path), str(error))
    results = reference(
        list(loaded.values()), [texts[place] for place in loaded], seed=options.seed, steps=options.steps,
        text_sampler=options.text_sampler, weights=options.weights, batch_size=options.batch_size,
    )  # fmt: skip
    for place, result in zip(loaded, results, strict=True):
        try:
            records[place] = _write(items[place], result, reference, options)
        except InputError as error:
            records[place] = _failed(str(items[place].path), str(error))
    return records


def _write(item: Item, result: Restored, reference: Reference, options: argparse.Namespace) -> dict[str, Any]:
    output = item.output(options.out)
    if not np.isfinite(result.raw).all():
        raise InputError(f"the network's output on {reference.executor.name} is not finite, nothing is written")
    if output.exists() and not options.overwrite:
        raise InputError(f"{output} has come into being meanwhile, it is left alone")
    save_png(output, result.image)
    if result.reason:
        _say(f"{item.path}: {result.reason}")
    schedule = reference.preset.schedule.steps
    return {
        "name": str(item.path), "output": str(output), "text": result.text,
        "confidences": [round(value, 4) for value in result.confidences], "tokens": list(result.tokens),
        "reader": result.reader, "weights": options.weights, "text_sampler": options.text_sampler,
        "executor": reference.executor.name, "preset": reference.preset.name, "schedule": schedule,
        "steps": options.steps or schedule, "seed": options.seed, "seconds": round(result.seconds, 4),
        "reason": result.reason,
    }  # fmt: skip


def _failed(name: str, reason: str) -> dict[str, Any]:
    """The report's record of an input that gave nothing."""
    _say(f"{name}: {reason}")
    return {
        "name": name, "output": None, "text": "", "confidences": [], "tokens": [], "reader": "", "weights": None,
        "text_sampler": None, "executor": "", "preset": None, "schedule": None, "steps": None, "seed": None,
        "seconds": 0.0, "reason": reason,
    }  # fmt: skip


def _say(message: str) -> None:
    """A line on standard error that does not break the progress bar."""
    tqdm.write(f"reference: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
