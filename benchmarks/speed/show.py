"""Results as Markdown, as a plot, and in README.md and docs/."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import blocks
from benchmarks.speed.checks import bars
from benchmarks.speed.plan import OURS

BLOCK = "latency"
NOTHING = "Not measured yet: `python -m benchmarks.latency` does, and `--readme` puts the tables here."
SHORT_BATCHES = (1, 16)
BUSY = 0.6
"""Load a core, before a run, from which on its figures are not to be trusted."""
Row = Mapping[str, Any]


def table(data: Mapping[str, Any]) -> str:
    """All rows with all columns, then what was not measured, the parts of a line, and the bars. Markdown."""
    rows = data["rows"]
    head = (
        "system", "executor", "precision", "batch", "steps", "text", "s a line", "p90", "p99", "samples", "lines/s",
        "parameters", "GFLOP a line", "of matrix products", "memory", "start-up s", "build s", "times DiffTSR",
    )  # fmt: skip
    lines = [heading(data), "", *_markdown(head, [_cells(row) for row in rows if row["seconds_per_line"] is not None])]
    lines += ["", *notes(data), "", "Not measured:", "", *_reasons(rows), "", "Seconds a line by part:", ""]
    lines += [*_parts(rows), "", "What is asked:", "", *(f"* {bar}" for bar in bars(data))]
    return "\n".join(lines) + "\n"


def heading(data: Mapping[str, Any]) -> str:
    """Which machine, which conditions."""
    device, how = data["device"], data["conditions"]
    where = device["name"] + (f", {how['threads']} threads" if device["kind"] == "cpu" else "")
    rates = ", ".join(f"{rate:,.0f} GFLOP/s in {name}" for name, rate in data["matrix_products"]["gflops"].items())
    return f"**{where}**; its matrix products reach {rates or 'an unmeasured rate'}."


def notes(data: Mapping[str, Any]) -> list[str]:
    """What the figures are."""
    how = data["conditions"]
    tf32 = " and ".join(f"{name} {'on' if on else 'off'}" for name, on in how["tf32"].items())
    lines = [
        f"Medians over {how['rounds']} rounds in which all rows take turns, with the same {how['lines']} lines "
        f"({how['lines_are']}). The text is given: no system's recogniser is in it. "
        "DiffTSR and a preset without bundle have random weights, which cost the same.",
        "Memory is the largest that a process of its own takes, with all its networks loaded. *N of M steps*: N steps "
        "were timed and multiplied. Times DiffTSR: as released, without its text diffusion, in the same run.",
    ]
    if data["device"]["kind"] != "cpu":
        lines[1] += (
            f" TF32 in DiffTSR as torch sets it, {tf32}; off in our fp32. Seconds by part are of graphs run one by "
            "one, each waited for."
        )
    before = how["load"][0] if how["load"] else 0.0
    if before > BUSY * data["device"].get("cores", float("inf")):
        lines.append(
            f"**The machine was busy with other work** (load {before:.1f} on {data['device']['cores']} cores before "
            "the run): seconds are too many, and systems suffer from that unevenly."
        )
    return lines


def steps_of(row: Row) -> str:
    """ "18", or "2 of 200" where two were timed."""
    return _timed_of(row) + str(row["steps"])


def _timed_of(row: Row) -> str:
    return f"{row['timed_steps']} of " if row["extrapolated"] else ""


def name_of(row: Row) -> str:
    """What a row's system is called in a table."""
    if row["system"] == OURS:
        return f"`{row['preset']}`"
    return f"{row['system']}{', text diffusion' if row['text_sampler'] == 'categorical' else ''}"


def short(data: Mapping[str, Any]) -> str:
    """What docs/results.md says of one device: batches of 1 and 16, and where the rest is. Markdown."""
    head = (
        "system",
        "executor",
        "batch",
        "steps",
        "text",
        "s a line",
        "p90",
        "GFLOP a line",
        "memory",
        "times DiffTSR",
    )
    body = [
        (name_of(row), f"{row['executor']} {row['precision']}", str(row["batch"]), steps_of(row), row["text_sampler"],
         seconds(row["seconds_per_line"]), seconds(row["p90"]), _number(row["gflop_per_line"]), _memory(row),
         _times(row))
        for row in data["rows"] if row["seconds_per_line"] is not None and row["batch"] in SHORT_BATCHES
    ]  # fmt: skip
    files = f"../benchmarks/results/{stem(data['device']['name'])}"
    rest = f"All rows, seconds by part and what was not measured: [the table]({files}.md), raw timings in its JSON."
    return "\n".join(
        [heading(data), "", *_markdown(head, body), "", *notes(data), rest, "", f"![Seconds a line]({files}.png)"]
    )


def stem(device: str) -> str:
    """Name of a device's files below benchmarks/results/."""
    return "latency-" + re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def brief(data: Mapping[str, Any]) -> str:
    """What the README says of one device: fixed text, one line a call, and the bars. Markdown."""
    body = [
        (name_of(row), f"{row['executor']} {row['precision']}", steps_of(row), seconds(row["seconds_per_line"]),
         _times(row))
        for row in data["rows"]
        if row["seconds_per_line"] is not None and row["batch"] == 1 and row["text_sampler"] == "fixed"
    ]  # fmt: skip
    head = ("system, one line a call", "executor", "steps", "s a line", "times DiffTSR")
    asked = [f"* {bar}" for bar in bars(data)]
    stretched = "*N of M steps*: N steps were timed and multiplied. Memory, batches, sampled text: docs/results.md."
    return "\n".join(
        [heading(data), "", *_markdown(head, body), "", stretched, "", "What is asked, and found:", "", *asked]
    )


def parts(results: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
    """The generated parts, by file."""
    whole = [
        "\n".join([short(data), "", "What is asked, and found:", "", *(f"* {b}" for b in bars(data))])
        for data in results
    ]
    return {
        blocks.README: "\n\n".join(map(brief, results)) or NOTHING,
        blocks.RESULTS: "\n\n".join(whole) or NOTHING,
    }


def seconds(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def _cells(row: Row) -> tuple[str, ...]:
    share, apart = row["share_of_matrix_products"], row["apart"]
    return (
        name_of(row), row["executor"], row["precision"], str(row["batch"]), steps_of(row), row["text_sampler"],
        seconds(row["seconds_per_line"]), seconds(row["p90"]), seconds(row["p99"]), str(row["samples"]),
        _number(row["lines_per_second"]), _number(row["parameters"]), _number(row["gflop_per_line"]),
        "" if share is None else f"{share:.0%}", _memory(row), seconds(apart.get("first_batch_seconds")),
        seconds(apart.get("build_seconds")), _times(row),
    )  # fmt: skip


def _markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*rows, *("| " + " | ".join(row) + " |" for row in body)]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(row: Row) -> str:
    times = row["times_difftsr"]
    return "" if times is None else f"{times:,.0f}" if times >= 10 else f"{times:.2g}"


def _memory(row: Row) -> str:
    size = row["apart"].get("peak_bytes")
    return "" if size is None else f"{size / 2**30:.1f} GiB"


def _reasons(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row["seconds_per_line"] is None:
            yield f"* {row['label']}: {row['reason'] or 'the run has not come to it'}"


def _parts(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row["parts"]:
            parts = ", ".join(f"{name} {seconds(value)}" for name, value in row["parts"].items())
            yield f"* {row['label']}: {parts}"


def plot(data: Mapping[str, Any], path: Path) -> None:
    """Seconds a line of the rows at batch 1, logarithmic, as a picture. Needs matplotlib (extra [train])."""
    from matplotlib.figure import Figure

    rows = [row for row in data["rows"] if row["seconds_per_line"] is not None and row["batch"] == 1][::-1]
    figure = Figure(figsize=(9, 1.2 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    colours = {"compact": "#2a7f62", "paper": "#3b6fb6"}
    names = []
    for place, row in enumerate(rows):
        value, hatch = row["seconds_per_line"], "///" if row["extrapolated"] else None
        axes.barh(place, value, color=colours.get(row["preset"], "#b0563b"), hatch=hatch, edgecolor="white")
        axes.plot([value, row["p90"]], [place, place], color="black", linewidth=1)
        axes.text(value * 1.05, place + 0.22, seconds(value) + " s", va="center", fontsize=7)
        name = row["preset"] if row["system"] == OURS else row["system"]
        text = "" if row["text_sampler"] == "fixed" else ", sampled text"
        steps = _timed_of(row) + blocks.counted(row["steps"], "step")
        names.append(f"{name}, {row['executor']} {row['precision']}, {steps}{text}")
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel("seconds a line (hatched: extrapolated; thin line: to the 90th percentile)", fontsize=8)
    axes.set_title(data["device"]["name"], fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
