"""How readable and how faithful restored lines are: ``python benchmarks/quality.py``.

Judged by a recogniser that neither training nor restoring uses. Prints a table by severity with 95% bootstrap
intervals over lines, and writes ``quality.json`` and pictures of the best, median and worst lines.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import testset
from benchmarks.methods import Method, MethodOptions, Output, find_method
from benchmarks.pictures import Panel, write_pictures
from benchmarks.testset import TestLine
from textsr.errors import InputError, TextSRError
from train.evaluation.judge import Judge, Reader
from train.metrics import NORMALISATION, PerceptualMetric, accuracy, bootstrap, ned, psnr

FIGURES = ("acc", "ned", "psnr", "st_lpips")
HEADINGS = {"acc": "ACC %", "ned": "NED", "psnr": "PSNR dB", "st_lpips": "ST-LPIPS"}
BATCH = 8
BASE = "bicubic"


@dataclass(frozen=True)
class Score:
    """One line under one method."""

    index: int
    severity: str
    source: str
    method: str
    truth: str
    reading: str  # the judge's
    own_text: str | None  # what the method itself read, if it reads
    acc: float
    ned: float
    psnr: float
    st_lpips: float


def score_lines(
    lines: Iterable[TestLine], methods: Mapping[str, Method], judge: Reader, count: int, perceptual: bool = True
) -> tuple[list[Score], dict[str, list[Panel]]]:
    """Every line under every method and as it is in high resolution; and the pictures, a list of panels a line.

    Raises InputError when a method returns another number of lines or another size.
    """
    metric = PerceptualMetric() if perceptual else None
    scores: list[Score] = []
    panels: dict[str, list[Panel]] = {name: [] for name in (*methods, "HR")}
    with tqdm(total=count, desc="quality", unit="line") as bar:
        for batch in _batches(lines):
            outputs = {name: _run(name, method, batch) for name, method in methods.items()}
            outputs["HR"] = [Output(line.hr) for line in batch]
            for place, line in enumerate(batch):
                for name, results in outputs.items():
                    score = _score(line, name, results[place], judge, metric)
                    scores.append(score)
                    panels[name].append(Panel(results[place].image, score.reading, bool(score.acc)))
                bar.update()
    return scores, panels


def _batches(lines: Iterable[TestLine]) -> Iterable[list[TestLine]]:
    batch: list[TestLine] = []
    for line in lines:
        batch.append(line)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _run(name: str, method: Method, batch: list[TestLine]) -> Sequence[Output]:
    outputs = method([line.lr for line in batch])
    if [output.image.shape for output in outputs] != [line.hr.shape for line in batch]:
        raise InputError(f"{name}: returned {len(outputs)} lines for {len(batch)}, or not at four times their size")
    return outputs


def _score(line: TestLine, name: str, output: Output, judge: Reader, metric: PerceptualMetric | None) -> Score:
    entry, same = line.entry, name == "HR"
    reading = entry.hr_reading if same else judge(output.image)
    distance = 0.0 if same else metric(output.image, line.hr) if metric else float("nan")
    return Score(
        entry.index,
        entry.severity,
        entry.source,
        name,
        entry.text,
        reading,
        output.text,
        accuracy(reading, entry.text),
        ned(reading, entry.text),
        psnr(output.image, line.hr),
        distance,
    )


def table(scores: Sequence[Score], names: Sequence[str]) -> str:
    """Markdown: a row for each severity and method."""
    rows = ["| severity | method | " + " | ".join(HEADINGS[figure] for figure in FIGURES) + " |"]
    rows.append("|---" * (2 + len(FIGURES)) + "|")
    severities = [*dict.fromkeys(score.severity for score in scores), "all"]
    for severity in severities:
        for name in names:
            group = [s for s in scores if s.method == name and severity in (s.severity, "all")]
            cells = [_cell(figure, name, [getattr(score, figure) for score in group]) for figure in FIGURES]
            rows.append(f"| {severity} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _cell(figure: str, name: str, values: list[float]) -> str:
    if name == "HR" and figure in ("psnr", "st_lpips"):
        return "-"
    digits, scale = {"acc": (1, 100.0), "ned": (3, 1.0), "psnr": (2, 1.0), "st_lpips": (3, 1.0)}[figure]
    return bootstrap(values).format(digits, scale)


@dataclass(frozen=True)
class Comparison:
    """A method against bicubic, line by line."""

    method: str
    acc_difference: tuple[float, float, float]  # mean and 95% interval of the paired difference
    kept_right: float | None  # share of the lines that bicubic has right and the method too
    base_right: int  # lines that bicubic has right
    gained: int
    lost: int
    own_acc: float | None  # of what the method itself read

    def text(self) -> str:
        """For the terminal."""
        mean, low, high = (f"{100 * value:+.1f}" for value in self.acc_difference)
        kept = "-" if self.kept_right is None else f"{100 * self.kept_right:.1f}%"
        own = "" if self.own_acc is None else f"; its own reading of the input is right in {100 * self.own_acc:.1f}%"
        return (
            f"{self.method} - {BASE}: ACC {mean} [{low}, {high}] percentage points (paired, 95%), {self.gained} lines "
            f"gained, {self.lost} lost; of the {self.base_right} lines that {BASE} has right {kept} stay right{own}"
        )


def compare(scores: Sequence[Score], name: str) -> Comparison:
    """``name`` against bicubic."""
    base = {score.index: score.acc for score in scores if score.method == BASE}
    own = [score for score in scores if score.method == name]
    pairs = np.array([(base[score.index], score.acc) for score in own]).reshape(-1, 2)
    interval = bootstrap(pairs[:, 1] - pairs[:, 0])
    right = pairs[:, 0] == 1
    texts = [accuracy(score.own_text, score.truth) for score in own if score.own_text is not None]
    return Comparison(
        name,
        (interval.mean, interval.low, interval.high),
        float(pairs[right, 1].mean()) if right.any() else None,
        int(right.sum()),
        int((pairs[:, 1] > pairs[:, 0]).sum()),
        int((pairs[:, 1] < pairs[:, 0]).sum()),
        float(np.mean(texts)) if texts else None,
    )


def ranking(scores: Sequence[Score], name: str) -> list[int]:
    """Places of the lines from best to worst for ``name``: by NED gained on bicubic, then by ST-LPIPS gained."""
    by_method = {method: [s for s in scores if s.method == method] for method in (BASE, name)}
    gains = [
        (own.ned - base.ned, np.nan_to_num(base.st_lpips - own.st_lpips))
        for base, own in zip(by_method[BASE], by_method[name], strict=True)
    ]
    return sorted(range(len(gains)), key=lambda place: gains[place], reverse=True)


def report(scores: list[Score], names: Sequence[str], notes: Sequence[str], out: Path) -> str:
    """Text for the terminal; writes ``quality.json`` into ``out``."""
    comparisons = [compare(scores, name) for name in names if name not in (BASE, "HR")]
    text = "\n".join([*notes, "", table(scores, names), "", *(item.text() for item in comparisons)])
    groups = {name: [score for score in scores if score.method == name] for name in names}
    summary = {
        name: {figure: asdict(bootstrap([getattr(score, figure) for score in group])) for figure in FIGURES}
        for name, group in groups.items()
    }
    data = {"notes": list(notes), "summary": summary, "comparisons": [asdict(item) for item in comparisons],
            "lines": [asdict(score) for score in scores]}  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "quality.json").write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")
    (out / "quality.md").write_text(text + "\n", encoding="utf-8")
    return text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python benchmarks/quality.py", description=__doc__.split("\n")[0])
    made.add_argument("--lines", type=int, default=testset.LINES, help="1000 for a claim, 120 for a quick look")
    made.add_argument("--bundle", default="compact", help="name or folder of the bundle (default: compact)")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    made.add_argument("--out", type=Path, default=Path("runs/quality"), help="folder for JSON and pictures")
    made.add_argument("--methods", default="bicubic,ours", help="comma-separated: bicubic, ours, module:function")
    made.add_argument("--testset", type=Path, default=testset.FOLDER, help="folder of the test split (made if missing)")
    made.add_argument("--seed", type=int, default=0, help="seed of the restoration")
    made.add_argument("--steps", type=int, default=None, help="residual-shift steps (default: all)")
    made.add_argument("--threads", type=int, default=None, help="CPU threads (default: the executor's choice)")
    made.add_argument("--no-perceptual", action="store_true", help="leave out ST-LPIPS, the slowest figure")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 with a message when something is missing."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    names = list(dict.fromkeys([BASE, *options.methods.split(",")]))
    chosen = MethodOptions(options.bundle, options.device, options.seed, options.steps, options.threads)
    try:
        methods = {name: find_method(name, chosen) for name in names}
        judge = Judge(options.threads or 1)
        testset.write(options.testset, options.lines, testset.SEED, judge)
        lines = testset.read(options.testset, options.lines)
        scores, panels = score_lines(lines, methods, judge, options.lines, not options.no_perceptual)
    except TextSRError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    found = testset.entries(options.testset)[: options.lines]
    notes = [
        f"judge: {judge.name}; {NORMALISATION}",
        testset.check(found),
        f"bundle {options.bundle}, seed {options.seed}, steps {options.steps or 'all'}; means [95% intervals]",
    ]
    sys.stdout.write(report(scores, [*names, "HR"], notes, options.out) + "\n")
    for name in names[1:]:
        write_pictures(options.out, name.replace(":", "-"), [panels[key] for key in (BASE, name, "HR")],
                       [BASE, name, "HR"], ranking(scores, name))  # fmt: skip
    sys.stdout.write(f"pictures and quality.json in {options.out}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
