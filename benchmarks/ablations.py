"""What each part of the model is worth: ``python -m benchmarks.ablations RUNS``, after ``python -m train.ablations``.

Restores the same lines of the test split with every variant, through torch and the one loop, reads each line once with
the product's own recogniser, and judges with another. Writes ``ablations.json`` and ``ablations.md``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks import blocks, testset
from benchmarks.testset import TestLine
from runtime.recognizer import open_reader
from textsr.alphabet import Alphabet
from textsr.batch import line_batch
from textsr.checkpoint import load_model, read_metadata, stated_preset
from textsr.config import Preset, preset
from textsr.errors import InputError, TextSRError
from textsr.fit import FittedLine, fit_line, unfit_line
from textsr.graphs import Model, graphs
from textsr.loop import restore
from textsr.noise import image_key
from textsr.reading import LineReading
from textsr.torch_executor import TorchExecutor
from train.evaluation.judge import Judge, Reader
from train.metrics import NORMALISATION, PerceptualMetric, accuracy, bootstrap, ned, psnr

FIGURES = ("psnr", "st_lpips", "acc", "ned")
HEADINGS = {"psnr": "PSNR dB", "st_lpips": "ST-LPIPS", "acc": "ACC %", "ned": "NED"}
DIGITS = {"psnr": (2, 1.0), "st_lpips": (3, 1.0), "acc": (1, 100.0), "ned": (3, 1.0)}
"""Decimals that a table shows, and the factor before."""
FULL, BASE = "full", "bicubic"
RESULTS = blocks.ROOT / "benchmarks" / "results"
BLOCK = "ablations"
NOTHING = (
    "Not measured yet: `python -m train.ablations` trains the variants, and "
    "`python -m benchmarks.ablations RUNS --readme` puts the tables here."
)
BATCH = 8


@dataclass(frozen=True)
class Line:
    """A line of the test split, fitted and read."""

    test: TestLine
    fitted: FittedLine
    reading: LineReading


@dataclass(frozen=True)
class Score:
    """One line under one variant; ``reading`` is the judge's."""

    index: int
    severity: str
    source: str
    reading: str
    psnr: float
    st_lpips: float
    acc: float
    ned: float


def read_lines(folder: Path, count: int, shape: Preset) -> list[Line]:
    """The first ``count`` lines of a test split with what the product's recogniser reads. Raises InputError."""
    reader, lines = open_reader(threads=torch.get_num_threads()), list(testset.read(folder, count))
    if len(lines) < count:
        raise InputError(
            f"{folder} holds {len(lines)} lines, not {count}: python -m benchmarks.testset --lines {count}"
        )
    readings = reader.read([line.lr for line in lines])
    return [Line(line, fit_line(line.lr, shape), found) for line, found in zip(lines, readings, strict=True)]


class Scorer:
    """Judges and measures pictures."""

    def __init__(self, judge: Reader) -> None:
        self._judge, self._metric = judge, PerceptualMetric()

    def __call__(self, line: TestLine, image: Any) -> Score:
        """The row of ``image``, RGB uint8 of the size of the line in high resolution."""
        entry, reading = line.entry, self._judge(image)
        return Score(
            entry.index, entry.severity, entry.source, reading, psnr(image, line.hr), self._metric(image, line.hr),
            accuracy(reading, entry.text), ned(reading, entry.text),
        )  # fmt: skip


def restored(checkpoint: Path, name: str, lines: Sequence[Line], how: Mapping[str, Any]) -> Iterator[Any]:
    """The lines as a variant restores them, RGB uint8, as the checkpoint says that it is to be run."""
    shape = stated_preset(preset(name), read_metadata(checkpoint))
    model = load_model(checkpoint, shape)
    assert isinstance(model, Model)
    executor, alphabet = TorchExecutor(graphs(model), how["device"], precision=how["precision"]), Alphabet.load()
    for start in range(0, len(lines), BATCH):
        part = lines[start : start + BATCH]
        keys, readings = [image_key(line.test.lr) for line in part], [line.reading for line in part]
        arrays = line_batch([line.fitted for line in part], keys, readings, alphabet, shape)
        output = restore(executor, shape, arrays, seed=how["seed"], steps=how["steps"])
        for image, line in zip(output.image, part, strict=True):
            yield unfit_line(image.transpose(1, 2, 0), line.fitted)


def scores_of(runs: Path, name: str, lines: Sequence[Line], how: Mapping[str, Any], score: Scorer) -> list[Score]:
    """The scores of one variant, kept in ``RUNS/VARIANT/scores.json`` for the next time."""
    kept, checkpoint = runs / name / "scores.json", runs / name / "model.safetensors"
    if not checkpoint.is_file():
        raise InputError(f"no {checkpoint}: train it with python -m train.ablations --out {runs}")
    key = {**how, "lines": len(lines), "bytes": checkpoint.stat().st_size, "time": checkpoint.stat().st_mtime_ns}
    if kept.is_file():
        data = json.loads(kept.read_text(encoding="utf-8"))
        if data["key"] == key:
            return [Score(**row) for row in data["scores"]]
    images = restored(checkpoint, how["preset"], lines, how)
    shown = tqdm(zip(lines, images, strict=True), total=len(lines), desc=name, unit="line")
    found = [score(line.test, image) for line, image in shown]
    data = {"key": key, "scores": [asdict(row) for row in found]}
    kept.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8")
    return found


def summary(rows: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    """Means and, line by line, differences to `FULL`, each with its 95% bootstrap interval; ACC by source of lines."""
    found: dict[str, Any] = {}
    for name, scores in rows.items():
        values = {figure: [getattr(score, figure) for score in scores] for figure in FIGURES}
        whole = {figure: [getattr(score, figure) for score in rows[FULL]] for figure in FIGURES}
        pairs = {f: [a - b for a, b in zip(values[f], whole[f], strict=True)] for f in FIGURES}
        sources = sorted({score.source for score in scores})
        found[name] = {
            "means": {figure: asdict(bootstrap(values[figure])) for figure in FIGURES},
            "differences": {figure: asdict(bootstrap(pairs[figure])) for figure in FIGURES} if name != FULL else None,
            "by_source": {
                source: {f: _mean([getattr(s, f) for s in scores if s.source == source]) for f in FIGURES}
                for source in sources
            },
        }
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def table(data: Mapping[str, Any]) -> str:
    """Markdown of ``ablations.json``: conditions, means with intervals, differences to the whole model."""
    how, variants = data["conditions"], data["variants"]
    names = {name: name if name in (FULL, BASE) else f"without {name}" for name in variants}
    means = [[names[name], *(_cell(row["means"][f], f) for f in FIGURES)] for name, row in variants.items()]
    others = {name: row for name, row in variants.items() if row["differences"] is not None and name != BASE}
    differences = [[names[n], *(_cell(row["differences"][f], f, "+") for f in FIGURES)] for n, row in others.items()]
    heads = [HEADINGS[figure] for figure in FIGURES]
    return "\n".join(
        [
            f"`{how['preset']}`, each variant trained on the same {how['trained_lines']:,} lines from the same start "
            f"(seed {how['seed']}); {how['lines']} test lines, {_steps(how['steps'])}, {how['precision']}, "
            f"judge {how['judge']}; means [95% bootstrap intervals].",
            "",
            *_markdown(["trained", *heads], means),
            "",
            "Paired differences to the whole model, line by line (PSNR, ACC and NED: below 0 the part helps; ST-LPIPS: "
            "above 0):",
            "",
            *_markdown(["trained", *heads], differences),
        ]
    )


def _cell(interval: Mapping[str, float], figure: str, sign: str = "") -> str:
    digits, scale = DIGITS[figure]
    mean, low, high = (f"{scale * interval[end]:{sign}.{digits}f}" for end in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def parts(data: Mapping[str, Any] | None) -> dict[Path, str]:
    """The generated part, by file; ``data`` is None where nothing was measured."""
    if data is None:
        return dict.fromkeys((blocks.README, blocks.RESULTS), NOTHING)
    return {blocks.README: brief(data), blocks.RESULTS: table(data)}


def brief(data: Mapping[str, Any]) -> str:
    """The README's table: ACC and PSNR, with the paired difference to the whole model."""
    how, rows = data["conditions"], []
    for name, row in data["variants"].items():
        less = row["differences"]
        told = [name if name in (FULL, BASE) else f"without {name}", *_means(row["means"], ("acc", "psnr"))]
        rows.append([*told, "" if less is None else _cell(less["acc"], "acc", "+")])
    return "\n".join(
        [
            f"`{how['preset']}`, each variant trained on the same {how['trained_lines']:,} lines, which is a beginning "
            f"only, and judged on {how['lines']} test lines in {_steps(how['steps'])} at full strength.",
            "",
            *_markdown(["trained", "ACC %", "PSNR dB", f"ACC less {FULL}, points"], rows),
        ]
    )


def _means(means: Mapping[str, Mapping[str, float]], figures: Sequence[str]) -> list[str]:
    return [f"{means[figure]['mean'] * DIGITS[figure][1]:.{DIGITS[figure][0]}f}" for figure in figures]


def _steps(steps: int | None) -> str:
    return "all steps" if steps is None else blocks.counted(steps, "step")


def evaluate(runs: Path, folder: Path, how: Mapping[str, Any], names: Sequence[str], judge: Judge) -> dict[str, Any]:
    """All that ``ablations.json`` holds. Raises InputError where weights or lines are missing."""
    plan = json.loads((runs / "plan.json").read_text(encoding="utf-8"))
    lines, score = read_lines(folder, how["lines"], preset(how["preset"])), Scorer(judge)
    rows = {name: scores_of(runs, name, lines, how, score) for name in names}
    rows[BASE] = [score(line.test, testset.enlarge(line.test.lr)) for line in tqdm(lines, desc=BASE, unit="line")]
    told = {**how, "judge": judge.name, "normalisation": NORMALISATION, "trained_lines": plan["lines"], "plan": plan}
    told["testset"] = testset.check([line.test.entry for line in lines])
    details = {name: [asdict(row) for row in scores] for name, scores in rows.items()}
    return {"conditions": told, "variants": summary(rows), "lines": details}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser("python -m benchmarks.ablations", description=(__doc__ or "").split("\n")[0])
    made.add_argument("runs", type=Path, nargs="?", help="folder that python -m train.ablations wrote")
    made.add_argument("--lines", type=int, default=testset.QUICK, help=f"test lines (default: {testset.QUICK})")
    made.add_argument("--testset", type=Path, default=testset.FOLDER, help="folder of the test split")
    made.add_argument("--variants", help="with commas between; `full` is needed (default: all that were trained)")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of ablations.json and ablations.md")
    made.add_argument("--device", default="cpu")
    made.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "fp16", "bf16"))
    made.add_argument("--steps", type=int, help="residual-shift steps (default: all)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    made.add_argument(
        "--readme",
        action="store_true",
        help="put the tables into README.md and docs/ too; without RUNS those of benchmarks/results/",
    )
    return made


def _told(readme: bool) -> int:
    """Puts what was measured into the documents. Raises InputError where nothing was, or nothing is asked for."""
    path = RESULTS / "ablations.json"
    if not readme or not path.is_file():
        raise InputError(
            "give RUNS, the folder of python -m train.ablations" if not readme else f"no {path}: give RUNS"
        )
    blocks.write(BLOCK, parts(json.loads(path.read_text(encoding="utf-8"))))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    options = parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        if options.runs is None:
            return _told(options.readme)
        path = options.runs / "plan.json"
        if not path.is_file():
            raise InputError(f"no {path}: train the variants with python -m train.ablations --out {options.runs}")
        plan = json.loads(path.read_text(encoding="utf-8"))
        names = options.variants.split(",") if options.variants else plan["variants"]
        if FULL not in names:
            raise InputError(f"--variants {options.variants}: {FULL} is what the others are compared with")
        how = {"preset": plan["preset"], "lines": options.lines, "seed": options.seed, "steps": options.steps}
        how |= {"device": options.device, "precision": options.precision}
        data = evaluate(options.runs, options.testset, how, names, Judge(options.threads or 1))
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "ablations.json").write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", "utf-8")
        (options.out / "ablations.md").write_text(table(data) + "\n", encoding="utf-8")
        if options.readme:
            blocks.write(BLOCK, parts(data))
    except TextSRError as error:
        sys.stderr.write(f"benchmarks.ablations: {error}\n")
        return 1
    sys.stdout.write(table(data) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
