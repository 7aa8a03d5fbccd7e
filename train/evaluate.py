"""How good a bundle is: ``python -m train.evaluate --bundle B --data D --metrics all``.

Lines are lowered to a quarter and a half of their size (real pairs are taken as they are), restored with the bundle,
and measured against high resolution beside their bicubic enlargement; then the sweep of the paper's Figure 6. Writes
``evaluation.json``, ``evaluation.md`` and ``report.html``, one file with its pictures inside.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from textsr.errors import InputError, TextSRError
from train.evaluation.lines import FACTORS, SCALES, settings
from train.evaluation.scores import METRICS

SPLITS = ("all", "train", "test")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m train.evaluate", description=__doc__.split("\n")[0])
    made.add_argument("--bundle", default="compact", help="name or folder of the bundle (default: compact)")
    made.add_argument("--data", required=True, action="append", metavar="SPEC",
                      help="lines, as train.data opens them: [KIND:]PATH; repeatable")  # fmt: skip
    made.add_argument("--split", choices=SPLITS, default="all", help="of the data, by hash (default: all)")
    made.add_argument("--metrics", type=_names, default=METRICS, metavar="LIST",
                      help=f"all (the default) or some of {','.join(METRICS)}")  # fmt: skip
    made.add_argument("--judge", default="pp-ocrv4",
                      help="reads for ACC and NED: pp-ocrv4 (default) or transocr:BUNDLE as in the paper")  # fmt: skip
    made.add_argument("--lines", type=int, help="the first so many lines (default: all)")
    made.add_argument("--scales", type=_numbers(SCALES), default=SCALES, help="default: 4,2; none leaves them out")
    made.add_argument("--factors", type=_numbers(None), default=FACTORS,
                      help="of the robustness sweep (default: 2,4,8,16; none leaves it out)")  # fmt: skip
    made.add_argument("--sweep-lines", type=int, default=50, help="lines of the sweep (default: the first 50)")
    made.add_argument("--steps", type=int, help="residual-shift steps (default: the bundle's)")
    made.add_argument("--seed", type=int, default=0, help="of the degradations and the restoration (default: 0)")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    made.add_argument("--executor", default="auto", help="auto, onnxruntime, tensorrt or torch")
    made.add_argument("--batch-size", type=int, default=8, help="lines restored at a time (default: 8)")
    made.add_argument("--threads", type=int, help="CPU threads (default: the libraries' choice)")
    made.add_argument("--out", type=Path, default=Path("runs/evaluate"), help="folder of the report")
    return made


def _names(text: str) -> tuple[str, ...]:
    names = METRICS if text == "all" else tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in METRICS]:
        raise argparse.ArgumentTypeError(f"unknown metric {unknown[0]!r}: choose from all,{','.join(METRICS)}")
    return tuple(name for name in METRICS if name in names)


def _numbers(allowed: Sequence[int] | None) -> Callable[[str], tuple[int, ...]]:
    def parse(text: str) -> tuple[int, ...]:
        if text == "none":
            return ()
        try:
            numbers = tuple(dict.fromkeys(int(part) for part in text.split(",")))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: give numbers, as in 2,4") from None
        if any(number < 1 or (allowed is not None and number not in allowed) for number in numbers):
            choice = "at least 1" if allowed is None else f"of {', '.join(map(str, allowed))}"
            raise argparse.ArgumentTypeError(f"{text!r}: numbers {choice}")
        return numbers

    return parse


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 with a message when something is missing."""
    given = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        if not (given.scales or given.factors):
            raise InputError("--scales none and --factors none leave nothing to evaluate")
        text = evaluate(given)
    except TextSRError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{text}\n\n{given.out / 'report.html'} shows the lines\n")
    return 0


def evaluate(given: argparse.Namespace) -> str:
    """Runs the evaluation and writes its files; returns the text for the terminal."""
    from train.evaluation.report import render
    from train.evaluation.session import Session

    session = Session.open(given)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pictures-", dir=given.out) as folder:
        content = session.run(settings(given.scales, given.factors), Path(folder))
        page = render(content)
    text, data = session.text(content), session.json(content)
    (given.out / "report.html").write_text(page, encoding="utf-8")
    (given.out / "evaluation.md").write_text(text + "\n", encoding="utf-8")
    (given.out / "evaluation.json").write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")
    return text


if __name__ == "__main__":
    raise SystemExit(main())
