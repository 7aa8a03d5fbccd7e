"""The report of an evaluation: one HTML file that needs no other, readable on a phone."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from train.evaluation.lines import Setting
from train.evaluation.scores import BASE, METHODS, OURS, TRUTH, Outcome, Score
from train.evaluation.summary import ALL, FIGURES, Comparison, Row, ranking, signed

TEMPLATE = Path(__file__).resolve().parents[1] / "assets" / "evaluation.html"
SHOWN = 5
"""Lines each of the best, the median and the worst."""
LEADING = 3
"""Notes at the head of the report: bundle, data, judge; the others follow the tables."""
SWEEP_SHOWN = 3
"""Lines shown at every factor of the sweep."""
WORDS = {BASE: "bicubic", OURS: "restored", TRUTH: "high resolution"}
SWEEP_WORDS = WORDS | {BASE: "input"}  # it is at full size already


@dataclass(frozen=True)
class Content:
    """What a report shows; ``names``: what each metric is called."""

    title: str
    notes: Sequence[str]
    metrics: Sequence[str]
    names: Mapping[str, str]
    settings: Sequence[Setting]
    rows: Sequence[Row]
    comparisons: Sequence[Comparison]
    outcome: Outcome


def render(content: Content) -> str:
    """The report as HTML; texts of lines are escaped, pictures are inside."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    scales = [setting for setting in content.settings if not setting.is_sweep]
    sweep = [setting for setting in content.settings if setting.is_sweep]
    return template.render(
        title=content.title,
        first=content.notes[:LEADING],
        notes=content.notes[LEADING:],
        headings=[_heading(name, content.names[name]) for name in content.metrics],
        tables=[_table(content, setting) for setting in scales],
        sweep=[_table(content, setting) for setting in sweep],
        chart=_chart(content, sweep) if sweep and {"acc", "ned"} & set(content.metrics) else None,
        choices=[choice for setting in scales for choice in _choices(content.outcome, setting.name)],
        sweep_lines=_sweep_lines(content.outcome, [setting.name for setting in sweep]),
    )


def _heading(name: str, heading: str) -> str:
    return f"{heading} {'↑' if FIGURES[name].higher_is_better else '↓'}"


def _table(content: Content, setting: Setting) -> dict[str, Any]:
    """A setting's rows as written cells, and its comparison."""
    words = SWEEP_WORDS if setting.is_sweep else WORDS
    groups: dict[str, dict[str, Any]] = {}
    for row in (row for row in content.rows if row.setting == setting.name):
        name = "all lines" if row.group == ALL else row.group
        part = groups.setdefault(name, {"lines": row.lines, "whole": row.group == ALL, "rows": []})
        cells = [_cell(name, row) for name in content.metrics]
        part["rows"].append({"method": words[row.method], "ours": row.method == OURS, "figures": cells})
    comparison = next(item for item in content.comparisons if item.setting == setting.name)
    differences = [
        {"name": content.names[name], "value": signed(FIGURES[name], gap), "verdict": _verdict(name, gap.low, gap.high)}
        for name, gap in comparison.differences.items()
    ]
    return {
        "setting": setting.name,
        "groups": groups,
        "base": words[BASE],
        "comparison": comparison,
        "differences": differences,
    }


def _cell(name: str, row: Row) -> tuple[str, str]:
    """Mean, and interval in brackets."""
    if name not in row.figures:
        return "–", ""
    mean, _, interval = FIGURES[name].write(row.figures[name]).partition(" ")
    return mean, interval


def _verdict(name: str, low: float, high: float) -> str:
    """Whether the paired interval leaves out zero, and to which side."""
    if low <= 0 <= high or np.isnan(low):
        return "no clear difference"
    return "better" if (low > 0) == FIGURES[name].higher_is_better else "worse"


def _chart(content: Content, sweep: Sequence[Setting]) -> dict[str, Any]:
    """Points of a small line chart: ACC (else NED) by factor, of bicubic and restored, 0 to 1."""
    name = "acc" if "acc" in content.metrics else "ned"
    width, height, left, top = 300, 150, 40, 14
    places = [left + width * (place + 0.5) / len(sweep) for place in range(len(sweep))]
    means = {(row.setting, row.method): row.figures[name] for row in content.rows if row.group == ALL}
    lines = {}
    for method in METHODS:
        found = [means[setting.name, method] for setting in sweep]
        heights = [[top + height * (1 - value) for value in (item.mean, item.low, item.high)] for item in found]
        marks = [] if method == TRUTH else [(x, *y) for x, y in zip(places, heights, strict=True)]
        path = " ".join(f"{x:.1f},{y[0]:.1f}" for x, y in zip(places, heights, strict=True))
        lines[method] = {"word": SWEEP_WORDS[method], "marks": marks, "path": path}
    ticks = [(f"{share:.0%}" if name == "acc" else f"{share:.2f}", top + height * (1 - share)) for share in (0, 0.5, 1)]
    factors = [(setting.factor, x) for setting, x in zip(sweep, places, strict=True)]
    return {"name": content.names[name].removesuffix(" %"), "lines": lines, "ticks": ticks, "factors": factors}


def _choices(outcome: Outcome, setting: str) -> list[dict[str, Any]]:
    """The best, median and worst lines of a setting; none twice while there are enough."""
    ranked = ranking(outcome.scores, setting)
    count = min(SHOWN, max(1, len(ranked) // 3)) if ranked else 0
    middle = (len(ranked) - count) // 2
    places = {"best": ranked[:count], "median": ranked[middle : middle + count], "worst": ranked[::-1][:count]}
    return [
        {"setting": setting, "kind": kind, "lines": [_line(outcome, setting, index, METHODS) for index in chosen]}
        for kind, chosen in places.items()
    ]


def _sweep_lines(outcome: Outcome, names: Sequence[str]) -> list[dict[str, Any]]:
    """The first lines of the sweep: in high resolution, then before and after at every factor."""
    if not names:
        return []
    first = [s for s in outcome.scores if s.setting == names[0] and s.method == OURS][:SWEEP_SHOWN]
    shown = []
    for score in first:
        panels = _line(outcome, names[0], score.index, (TRUTH,))["panels"]
        for name in names:
            for panel in _line(outcome, name, score.index, (BASE, OURS))["panels"]:
                panels.append(panel | {"word": f"{name.replace('-', ' and ')}: {SWEEP_WORDS[panel['method']]}"})
        shown.append({"truth": score.truth, "name": score.name, "panels": panels})
    return shown


def _line(outcome: Outcome, setting: str, index: int, methods: Sequence[str]) -> dict[str, Any]:
    by = {s.method: s for s in outcome.scores if s.setting == setting and s.index == index}
    panels = [_panel(outcome, by[method]) for method in methods]
    return {"truth": by[methods[0]].truth, "name": by[methods[0]].name, "group": by[methods[0]].group, "panels": panels}


def _panel(outcome: Outcome, score: Score) -> dict[str, Any]:
    path = outcome.picture(score.setting, score.index, score.method)
    with Image.open(path) as picture:
        size, source = picture.size, _embedded(picture)
    return {
        "method": score.method,
        "word": WORDS[score.method],
        "source": source,
        "width": size[0],
        "height": size[1],
        "reading": score.reading,
        "right": score.figures.get("acc", score.figures.get("ned")) == 1,
        "own": score.own_text,
        "confidence": score.own_confidence,
        "note": score.note,
        "figures": [(name, score.figures[name]) for name in ("psnr", "lpips", "ned") if name in score.figures],
    }


def _embedded(picture: Image.Image) -> str:
    """A data URI; PNG, so that nothing is added to what is shown."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
