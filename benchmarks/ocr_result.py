"""Figures of `benchmarks.ocr` as JSON, and the tables made of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import blocks
from benchmarks.compare import signed
from textsr.errors import InputError
from train.metrics import NORMALISATION, Interval, accuracy, bootstrap, ned

FORMAT = 1
RESULTS = Path(__file__).resolve().parent / "results"
BLOCK = "ocr"
JSON, MARKDOWN = "ocr.json", "ocr.md"
BUSY = 0.6
"""Load a core from which on seconds are not to be trusted."""
READS = {"default": "its own PP-OCRv6", "pp-ocrv4": "PP-OCRv4"}
HEAD = ("RapidOCR reads with", "on", "way", "ACC %", "NED", "ACC less without us", "gained, lost", "s", "times as long")
WITHOUT, EVERY, GUARDED = "without us", "every line restored", "every line restored, guarded"
"""Ways, as `benchmarks.ocr` names them."""
Data = Mapping[str, Any]


def part(kind: str, recogniser: str, ways: Sequence[Any], truths: Sequence[str]) -> dict[str, Any]:
    """What `benchmarks.ocr.Way` s read and took, the first of them without us; ``kind`` is lines or pages."""
    base = ways[0]
    return {
        "kind": kind,
        "recogniser": recogniser,
        "lines": len(truths),
        "calls": len(base.seconds),
        "truths": list(truths),
        "rows": [_row(way, base, truths) for way in ways],
    }


def _row(way: Any, base: Any, truths: Sequence[str]) -> dict[str, Any]:
    acc, before = (
        np.array([accuracy(*pair) for pair in zip(one.readings, truths, strict=True)]) for one in (way, base)
    )
    other = way is not base
    return {
        "way": way.name,
        "acc": asdict(bootstrap(acc)),
        "ned": asdict(bootstrap([ned(*pair) for pair in zip(way.readings, truths, strict=True)])),
        "acc_less_base": asdict(bootstrap(acc - before)) if other else None,
        "gained": int((acc > before).sum()),
        "lost": int((acc < before).sum()),
        "found": float(np.mean([bool(reading) for reading in way.readings])),
        "stray": way.stray,
        "seconds": _spread(way.seconds),
        "times": _spread(np.array(way.seconds) / np.array(base.seconds)) if other else None,
        "counts": asdict(way.lines.counts) if way.lines else None,
        "readings": list(way.readings),
    }


def _spread(values: Any) -> dict[str, float]:
    low, median, high = (float(value) for value in np.quantile(values, (0.1, 0.5, 0.9)))
    return {"median": median, "low": low, "high": high}


def save(found: Data, folder: Path) -> None:
    """``ocr.json`` and ``ocr.md``, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        (JSON, json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"),
        (MARKDOWN, table(found)),
    ):
        draft = folder / (name + ".part")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, folder / name)


def read(path: Path = RESULTS / JSON) -> dict[str, Any]:
    """A result. Raises InputError where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: cannot be read as results of benchmarks.ocr ({error})") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or "parts" not in found:
        raise InputError(f"{path}: is no result of format {FORMAT}; measure anew")
    return found


def table(found: Data) -> str:
    """All parts and ways, and what the figures are. Markdown."""
    how, made = found["conditions"], found["versions"]
    steps = blocks.counted(how["steps"], "step")
    threads = blocks.counted(how["threads"], "thread")
    first = (
        f"**RapidOCR {made.get('rapidocr', '')}** with and without us (bundle {how['bundle']}, {steps}, "
        f"{how['executor']}) on degraded lines of the test split, and on pages of {how['lines_per_page']} of them, "
        f"{' and '.join(how['papers'])} paper in turns. {found['device']['name']}, {threads}."
    )
    rows = [HEAD, *(_cells(one, row) for one in found["parts"] for row in one["rows"])]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(HEAD))
    return "\n".join([first, "", *lines, "", *_notes(found)]) + "\n"


def _cells(one: Data, row: Data) -> list[str]:
    on = f"{one['lines']} lines" + (f" of {one['calls']} pages" if one["kind"] == "pages" else "")
    less, change = "", ""
    if row["acc_less_base"]:
        less = signed(Interval(**row["acc_less_base"]), 1, 100)
        change = f"{row['gained']}, {row['lost']}"
    return [
        READS[one["recogniser"]], on, row["way"], Interval(**row["acc"]).format(1, 100),
        Interval(**row["ned"]).format(), less, change, _range(row["seconds"]),
        _range(row["times"]) if row["times"] else "",
    ]  # fmt: skip


def _notes(found: Data) -> list[str]:
    said = [
        "Means with 95% bootstrap intervals over lines, differences paired, in percentage points. *s*: seconds a call "
        "(one line, or one page), median (10th to 90th percentile); *times as long*: the same of each call over the one"
        " without us on the same picture, all ways taking turns. A page's line is what RapidOCR read in boxes whose "
        f"centre lies in its place, nothing where it found none. {NORMALISATION[0].upper()}{NORMALISATION[1:]}.",
        "",
        "RapidOCR's own recogniser is the one that tells our restoration what a line says: it is no independent "
        "witness of what that painted, and its confidence in a restored line is not either. PP-OCRv4 is independent of "
        "it.",
        "",
    ]
    for one in found["parts"]:
        where = f"{READS[one['recogniser']]}, {one['kind']}"
        shares = {row["way"]: row["found"] for row in one["rows"]}
        boxes = (
            f"; read at all {', '.join(f'{share:.2f}' for share in shares.values())}" if one["kind"] == "pages" else ""
        )
        told = "; ".join(_counted(row) for row in one["rows"] if row["counts"])
        said.append(f"* {where}: {told}{boxes}.")
    if max(found["load"]) > BUSY * found["device"]["cores"]:
        said.append(
            f"\n**The machine was busy with other work** (load {min(found['load']):.1f} to {max(found['load']):.1f} on "
            f"{found['device']['cores']} cores): seconds are too many, the ratios less so."
        )
    return said


def _counted(row: Data) -> str:
    """The lines include those of the first call of each way, which is not timed."""
    counts = row["counts"]
    causes = ", ".join(f"{name} {number}" for name, number in sorted(counts["causes"].items()))
    left = f", left alone {causes}" if causes else ""
    kept = f", first reading kept {counts['kept_first']}" if counts["kept_first"] else ""
    well = f", well read {counts['well_read']}" if counts["well_read"] else ""
    return f"{row['way']}: of {counts['lines']} crops {counts['restored']} restored{well}{kept}{left}"


def _range(found: Data) -> str:
    return f"{_digits(found['median'])} ({_digits(found['low'])} to {_digits(found['high'])})"


def _digits(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def brief(found: Data) -> str:
    """What the README says: ACC on lines and on pages, for each recogniser and way. Markdown."""
    made, how = found["versions"], found["conditions"]
    kinds = list(dict.fromkeys(one["kind"] for one in found["parts"]))
    asked = {kind: next(one["lines"] for one in found["parts"] if one["kind"] == kind) for kind in kinds}
    head = [
        "RapidOCR reads with",
        "way",
        *(f"ACC %, {asked[kind]} lines{' of pages' * (kind == 'pages')}" for kind in kinds),
    ]
    body: dict[tuple[str, str], list[str]] = {}
    for one in found["parts"]:
        for row in one["rows"]:
            less = row["acc_less_base"]
            acc = f"{100 * row['acc']['mean']:.1f}" + (f" ({signed(Interval(**less), 1, 100)})" if less else "")
            body.setdefault((READS[one["recogniser"]], row["way"]), []).append(acc)
    lines = [
        "| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *([*k, *v] for k, v in body.items()))
    ]
    steps = blocks.counted(how["steps"], "step")
    first = (
        f"**RapidOCR {made.get('rapidocr', '')}** with and without us ({how['bundle']}, {steps}) on degraded lines; in "
        "brackets: less without us, points."
    )
    return "\n".join([first, "", *lines])


def spoilt(found: Data) -> str:
    """What docs/trust.md shows: lines that were read right as they came and wrong once restored. Markdown."""
    ways = {WITHOUT: "as it came", EVERY: "restored", GUARDED: "restored, guarded"}
    rows = [["it says", "read by", *ways.values()], ["---"] * (2 + len(ways))]
    parts = [one for one in found["parts"] if one["kind"] == "lines"]
    for one in parts:
        read = {row["way"]: row["readings"] for row in one["rows"]}
        for place, truth in enumerate(one["truths"]):
            if accuracy(read[WITHOUT][place], truth) and not accuracy(read[EVERY][place], truth):
                said = [_shown(read[way][place]) if way in read else "" for way in ways]
                rows.append([_shown(truth), READS[one["recogniser"]], *said])
    steps = blocks.counted(found["conditions"]["steps"], "step")
    lines = sum(len(one["truths"]) for one in parts)
    first = (
        f"{len(rows) - 2} of {lines} readings of lines (RapidOCR, {steps}) were right before restoring, wrong after it:"
    )
    return "\n".join([first, "", *("| " + " | ".join(cells) + " |" for cells in rows)])


def _shown(text: str) -> str:
    return text.replace("|", "\\|") or "(nothing)"


def parts(found: Data) -> dict[Path, str]:
    """The generated parts, by file."""
    return {blocks.README: brief(found), blocks.RESULTS: table(found), blocks.TRUST: spoilt(found)}
