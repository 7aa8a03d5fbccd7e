"""``python -m runtime.infer INPUT... -o OUT``: restores pictures of text lines from the command line."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from runtime.bundle import shipped
from runtime.executors import EXECUTORS
from runtime.guard import Guard, GuardOptions
from runtime.options import Gate, Options, Split
from runtime.pages import command as pages
from runtime.plain import plain
from runtime.restorer import Restorer
from runtime.result import Result, enlarged
from textsr.config import SCALE
from textsr.errors import InputError, TextSRError
from textsr.images import load_image, save_png
from textsr.inputs import Item, check_outputs, check_report, collect, write_report
from textsr.linetext import LineText
from textsr.sidecars import read_texts

logger = logging.getLogger(__name__)

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
BATCH_PIXELS = 1 << 22
"""A batch is restored at so many pixels, though it has fewer pictures than asked for: results take 16 times as many."""
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What would move a terminal's cursor or turn its text round: a file may be called by it."""
MANUAL = """\
Restores pictures of text lines: each comes back four times as large, with its characters made readable again.
Every picture should show one line of text, cut out from its page or photo.

what is read
  INPUT       A file, a folder (searched with its subfolders) or a glob such as 'scans/*.jpg'. PNG, JPEG, WebP, BMP
              and TIFF. Transparency is put on white, 16-bit, grey and palette pictures are converted, and pictures
              are turned as their EXIF data says. Of several pictures or pages in one file the first is taken, and
              that is said. Inputs are never changed.

what is written
  OUT/<path below the given folder, without suffix>.png, so for a single file OUT/<its name>.png. Two inputs that
  would share a name are refused before any work, and so is what would replace an existing file (see --overwrite).
  Files appear only when complete.

text
  The restoration is guided by what the line says. A recogniser reads it (install the extra [ocr]); without one the
  line is restored from the picture alone. With --text you say what it says. A sidecar is a UTF-8 file, one picture
  a line: its path (as given, from the sidecar's folder, or below the given folder), a tab, the text, and if you
  like a tab and confidences from 0 to 1 separated by commas or spaces, one for each character or one for all.

long and vertical lines
  A line wider than four times its height, or of more than 24 characters, is split at gaps between characters,
  restored in overlapping pieces and put together again. A crop one and a half times as high as wide is turned, or
  its characters are laid out as a row, and stood up again.

what is left alone
  Pictures that restoring cannot help are only enlarged: too low, of one shade, or so sharp that the network would
  see less than they show. With --max-confidence so are lines that are read well already, and with --deadline-ms what
  is not done in time.

guard
  A restored line is read again, compared with its input, and compared with what the picture alone, restored without
  the text, reads; where they disagree the line is only enlarged, and the report's "evidence" says what was found.
  --never-change-text keeps the input wherever the recogniser reads another text after than before. Without a
  recogniser nothing is applied. --no-guard applies what comes out, whatever it says.

pages
  With --page pictures are whole pages or photos: their lines are found (extra [ocr]), restored, and put back in their
  places and colours; all else is enlarged. Beside OUT/<name>.png: --pdf writes <name>.pdf, which can be searched (extra
  [pdf]), --alto <name>.alto.xml, --hocr <name>.hocr. Their text is read in the restored line where that is shown, else
  in the input. The report has the page's lines under "lines". See docs/pages.md.

report
  One JSON object a line for each input: input, output, text, confidence, confidences, centres, applied, reason, cause,
  executor, reader, timings (seconds), seed, steps, strength, paint, pieces, turned, stacked, evidence. "applied" is
  false where the picture was not restored; "reason" says why, "cause" in a word. After an interruption or a failure it
  holds what was done until then.

exit status
  0 all restored, or left alone for a reason given above; 1 some could not be read or restored (each is named on
  standard error, the others are done); 2 wrong usage, nothing was done.

examples
  textsr photos -o restored
  textsr line.png -o restored --text "Grand Hotel" --compare
  textsr --page photo.jpg -o restored --compare --pdf
  textsr 'scans/**/*.tif' -o restored --text texts.tsv --report restored/report.jsonl
"""


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    names = ", ".join(shipped()) or "none"
    made = argparse.ArgumentParser(
        prog="textsr", description=MANUAL, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="file, folder or glob")
    add("-o", "--out", required=True, type=Path, metavar="OUT", help="folder for the results, made if missing")
    add("--bundle", default="compact", help=f"shipped bundle's name ({names}) or a bundle's folder (default: compact)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--executor", default="auto", choices=("auto", *EXECUTORS),
        help="what runs the graphs (default: auto, the fastest that works: see python -m runtime.doctor)")  # fmt: skip
    add("--precision", default="auto",
        help="auto, fp32, fp16 or, with openvino and torch, bf16 (default: auto, what is fast: fp16 on CUDA where it "
        "can be had, bf16 with openvino where the processor has it)")  # fmt: skip
    add("--threads", type=int, help="CPU threads (default: as many as the executor takes)")
    add("--seed", type=int, default=0, help="seed of the noise: same seed, same result (default: 0)")
    add("--steps", type=int, help="diffusion steps, 1 to 18; fewer are faster (default: the bundle's, 4 for compact)")
    add(
        "--strength",
        type=float,
        metavar="SHARE",
        help="share of the network's line, up to 1; the rest is the input (default: as each line is read best)",
    )
    add(
        "--paint",
        type=float,
        metavar="SHARE",
        help="how strongly what was read is painted on, 0 to 2 (default: as each line is read best)",
    )
    add("--batch-size", type=int, default=8, help="lines restored at once (default: 8)")
    add("--text", help="what the line says, or a sidecar .tsv with the texts of many pictures")
    add(
        "--text-sampler", choices=("fixed", "categorical"), default="fixed",
        help="fixed keeps the text as read, categorical lets the text diffusion correct it (default: fixed)",
    )  # fmt: skip
    _add_shapes(made)
    _add_guard(made)
    pages.add_options(made)
    add("--compare", action="store_true",
        help="also write OUT/<name>.compare.png: before above, after below, of a high page side by side")  # fmt: skip
    add("--report", type=Path, metavar="FILE.jsonl", help="write what was done, one JSON object a line")
    add("--overwrite", action="store_true", help="replace existing results")
    return made


def _add_shapes(made: argparse.ArgumentParser) -> None:
    """Options of lines of other shapes, and of what is left alone."""
    split, gate = Split(), Gate()
    add = made.add_argument
    add("--no-split", action="store_true", help="squeeze long lines into the network's size instead of splitting them")
    add("--max-aspect", type=float, default=split.max_aspect, metavar="RATIO",
        help=f"width over height above which a line is split (default: {split.max_aspect:g})")  # fmt: skip
    add("--overlap", type=float, default=split.overlap, metavar="HEIGHTS",
        help=f"what a piece sees beyond its ends, in line heights (default: {split.overlap:g})")  # fmt: skip
    add("--vertical", choices=("auto", "turn", "stack", "off"), default=split.vertical,
        help="tall crops: auto lets the recogniser decide, turn turns them, stack lays upright characters out as a "
        "row, off takes them as they are (default: auto)")  # fmt: skip
    add("--no-gate", action="store_true", help="restore every picture, even where that cannot help")
    add("--min-height", type=float, default=gate.min_height, metavar="PIXELS",
        help=f"leave lower lines alone (default: {gate.min_height:g})")  # fmt: skip
    add("--max-detail", type=float, default=gate.max_detail, metavar="SHARE",
        help="leave lines alone of whose contrast the network would not see more than this "
        f"(default: {gate.max_detail:g})")  # fmt: skip
    add("--max-confidence", type=float, metavar="SHARE",
        help="leave lines alone whose characters were all read with this confidence (default: none)")  # fmt: skip
    add(
        "--deadline-ms", type=float, metavar="MS", help="time for each batch; what is not done by then is only enlarged"
    )


def _add_guard(made: argparse.ArgumentParser) -> None:
    """Options of the guard."""
    made.add_argument("--guard", action=argparse.BooleanOptionalAction, default=True,
        help="only enlarge lines of which it is not sure that they still say the same (default: on)")  # fmt: skip
    made.add_argument("--never-change-text", action="store_true", help="keep the input where the text read changes")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 0 done, 1 something failed, 2 wrong usage."""
    options = parser().parse_args(argv)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OnOneLine("textsr: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        return _run(options)
    except TextSRError as error:
        _say(str(error))
        return MISUSED if isinstance(error, InputError) else FAILED
    except OSError as error:
        _say(str(error))
        return FAILED
    except MemoryError:
        _say("the memory is full: use a smaller --batch-size; what was finished is kept")
        return FAILED
    except KeyboardInterrupt:
        _say("interrupted; what was finished is kept")
        return INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    _check(options)
    found = collect(options.inputs, options.out)
    also = pages.suffixes(options)
    check_outputs(found.items, options.out, compare=options.compare, overwrite=options.overwrite, also=also)
    if options.report is not None:
        sidecar = Path(options.text) if (options.text or "").lower().endswith(".tsv") else None
        check_report(
            options.report, found.items, options.out, compare=options.compare, overwrite=options.overwrite,
            sidecar=sidecar,
        )  # fmt: skip
    texts = read_texts(options.text, found.items)
    failure = pages.failure if options.page else _failure
    records = [failure(name, reason) for name, reason in found.failures]
    for name, reason in found.failures:
        _say(f"{name}: {reason}")
    if found.items:
        restorer = Restorer.open(
            options.bundle, options.device, executor=options.executor, precision=options.precision,
            threads=options.threads, guard=_guard(options),
        )  # fmt: skip
        restorer.check(_options(options))
        done: dict[int, dict[str, Any]] = {}
        try:
            if options.page:
                _restore_pages(restorer, found.items, options, done)
            else:
                _restore_all(restorer, found.items, texts, options, done)
        except BaseException:
            _report(records + _in_order(done), options.report)
            raise
        records += _in_order(done)
    reported = _report(records, options.report)
    applied = sum(record["applied"] for record in records)
    failed = sum(record["cause"] in ("input", "not_finite", pages.FAILED) for record in records)
    _say(f"{applied} of {len(records)} restored in {options.out}")
    return 0 if reported and not failed else FAILED


def _options(given: argparse.Namespace) -> Options:
    """The options of a call of the restorer."""
    split = Split(not given.no_split, given.max_aspect, overlap=given.overlap, vertical=given.vertical)
    gate = Gate(not given.no_gate, given.min_height, given.max_detail, given.max_confidence)
    return Options(
        given.seed, given.steps, given.text_sampler, given.batch_size, strength=given.strength, paint=given.paint,
        split=split, gate=gate,
        deadline_ms=given.deadline_ms,
    )  # fmt: skip


def _guard(given: argparse.Namespace) -> Guard | None:
    """The guard that is asked for."""
    return Guard(GuardOptions(never_change_text=given.never_change_text)) if given.guard else None


def _report(records: Sequence[dict[str, Any]], path: Path | None) -> bool:
    """Writes the report where one is asked for; False, and a line on standard error, when that fails."""
    if path is None:
        return True
    try:
        write_report(path, records)
    except InputError as error:
        _say(str(error))
        return False
    return True


def _check(options: argparse.Namespace) -> None:
    pages.check(options)
    if options.never_change_text and not options.guard:
        raise InputError("--never-change-text is the guard's work: leave out --no-guard")
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"{options.out} is a file: -o needs a folder")


def _in_order(done: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    return [done[place] for place in sorted(done)]


def _restore_all(
    restorer: Restorer,
    items: Sequence[Item],
    texts: Sequence[LineText | None],
    options: argparse.Namespace,
    done: dict[int, dict[str, Any]],
) -> None:
    """Loads, restores and writes batch by batch, so that memory holds one batch; ``done`` gets each item's record."""
    loaded: dict[int, NDArray[np.uint8]] = {}
    with _progress(len(items)) as bar:
        for place, item in enumerate(items):
            try:
                loaded[place] = load_image(item.path)
            except InputError as error:
                done[place] = _failed(item, str(error))
            pixels = sum(image.shape[0] * image.shape[1] for image in loaded.values())
            full = len(loaded) >= options.batch_size or pixels >= BATCH_PIXELS
            if loaded and (full or place == len(items) - 1):
                _restore_batch(restorer, loaded, items, texts, options, done)
                loaded.clear()
            bar.update(len(done) - bar.n)


def _restore_pages(
    restorer: Restorer, items: Sequence[Item], options: argparse.Namespace, done: dict[int, dict[str, Any]]
) -> None:
    """Restores page by page; ``done`` gets each page's record."""
    work = pages.PageWork(restorer, options, _options(options), _say)
    with _progress(len(items), "page") as bar:
        for place, item in enumerate(items):
            done[place] = work(item)
            bar.update()


def _restore_batch(
    restorer: Restorer,
    loaded: Mapping[int, NDArray[np.uint8]],
    items: Sequence[Item],
    texts: Sequence[LineText | None],
    options: argparse.Namespace,
    done: dict[int, dict[str, Any]],
) -> None:
    how = _options(options)
    results = restorer(
        list(loaded.values()), [texts[place] for place in loaded], seed=how.seed, steps=how.steps,
        strength=how.strength, paint=how.paint,
        text_sampler=how.text_sampler, batch_size=how.batch_size, split=how.split, gate=how.gate,
        deadline_ms=how.deadline_ms,
    )  # fmt: skip
    for (place, image), result in zip(loaded.items(), results, strict=True):
        try:
            done[place] = _write(items[place], image, result, options)
        except InputError as error:
            done[place] = _failed(items[place], str(error))


def _write(item: Item, image: NDArray[np.uint8], result: Result, options: argparse.Namespace) -> dict[str, Any]:
    output = item.output(options.out)
    if output.exists() and not options.overwrite:
        raise InputError(f"{output} has come into being meanwhile, it is left alone")
    save_png(output, result.image)
    if options.compare:
        save_png(item.comparison(options.out), np.concatenate([enlarged(image, SCALE), result.image]))
    if not result.applied:
        _say(f"{item.path}: not restored, only enlarged: {result.reason}")
    return {
        "input": str(item.path), "output": str(output), "text": result.text, "confidence": round(result.confidence, 4),
        "confidences": [round(value, 4) for value in result.confidences], "applied": result.applied,
        "reason": result.reason, "executor": result.executor, "reader": result.reader,
        "timings": {name: round(value, 4) for name, value in result.timings.items()}, "seed": result.seed,
        "steps": result.steps, "strength": result.strength, "paint": result.paint, "cause": result.cause,
        "centres": [round(value, 4) for value in result.centres],
        "pieces": [asdict(piece) for piece in result.pieces], "turned": result.turned, "stacked": result.stacked,
        "evidence": plain(result.evidence),
    }  # fmt: skip


def _failed(item: Item, reason: str) -> dict[str, Any]:
    _say(f"{item.path}: {reason}")
    return _failure(str(item.path), reason)


def _failure(name: str, reason: str) -> dict[str, Any]:
    """The report's record of an input that gave nothing."""
    return {
        "input": name, "output": None, "text": "", "confidence": 0.0, "confidences": [], "applied": False,
        "reason": reason, "executor": "", "reader": "", "timings": {}, "seed": None, "steps": None,
        "strength": None, "paint": None,
        "cause": "input",
        "centres": [], "pieces": [], "turned": 0, "stacked": False, "evidence": {},
    }  # fmt: skip


@contextmanager
def _progress(total: int, unit: str = "line") -> Iterator[tqdm]:
    with tqdm(total=total, unit=unit, desc="restoring", file=sys.stderr, disable=None) as bar:
        yield bar


def _say(message: str) -> None:
    """A line on standard error that does not break the progress bar."""
    tqdm.write(f"textsr: {_one_line(message)}", file=sys.stderr)


def _one_line(message: str) -> str:
    """``message`` with what would end or disturb its line spelt out: it may hold any file's name."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], message)


class _OnOneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return _one_line(super().formatMessage(record))


if __name__ == "__main__":
    sys.exit(main())
