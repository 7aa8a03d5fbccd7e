"""The guard's figures as JSON, and all that is shown of them: Markdown, the README's part and a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import blocks
from benchmarks.guard_lines import Row
from benchmarks.guard_rates import (
    BROKEN_COSTS,
    CONFIDENT,
    MOST_BROKEN,
    MOST_PAINTED,
    PAINTED_COSTS,
    SURE,
    Rates,
    choose,
    curve,
    held_out,
    interval,
    objections,
    rates,
    spared,
)
from runtime.guard import GuardOptions
from textsr.errors import InputError

FORMAT = 5
RESULT, PICTURE = blocks.ROOT / "benchmarks" / "results" / "guard.json", blocks.ROOT / "docs" / "guard.png"
BLOCK = "guard"
Data = Mapping[str, Any]


def part(rows: Sequence[Row], options: GuardOptions, judge: str, lines: str) -> dict[str, Any]:
    """What JSON keeps of one split's rows."""
    without, found = rates(rows, None), rates(rows, options)
    restoring = sum(row.restore_seconds for row in rows)
    return {
        "lines_of": lines,
        "judge": judge,
        "without": shares(without),
        "with": shares(found),
        "fixed_kept": found.fixed / without.fixed if without.fixed else None,
        "curve_told": [{"min_told": at, **shares(one)} for at, one in curve(rows, options, "min_told")],
        "curve_proof": [{"min_proof": at, **shares(one)} for at, one in curve(rows, options, "min_proof")],
        "objections": objections(rows, options),
        "without_rule": {rule: shares(one) for rule, one in spared(rows, options).items()},
        "cost": sum(row.guard_seconds for row in rows) / restoring if restoring else None,  # None: it was not timed
    }


def fitted(rows: Sequence[Row], options: GuardOptions) -> dict[str, Any]:
    """The thresholds that validation rows choose, and what such a choice is worth on lines that did not choose, for
    JSON; of the test split nobody asks."""
    chosen, unseen = choose(rows, options), shares(held_out(rows, options))
    return {"chosen_told": chosen.min_told, "chosen_proof": chosen.min_proof, "held_out": unseen}


def shares(found: Rates) -> dict[str, Any]:
    """Counts and what follows from them."""
    return {
        **asdict(found),
        "broken_share": found.broken_share,
        "broken_interval": interval(found.broken, found.right),
        "broken_most": found.broken_most,
        "painted_share": found.painted_share,
        "painted_interval": interval(found.painted, found.lines - found.right),
        "acc": found.correct / found.lines,
        "gain": found.gain,
    }


def kept(found: Data) -> float | None:
    """Share of the gain in ACC that the guard keeps; None where there is none without it."""
    without = found["without"]["gain"]
    return found["with"]["gain"] / without if without > 0 else None


def bars(found: Data) -> dict[str, bool | None]:
    """Whether each bar is kept; None where it cannot be told."""
    before, after, gain = found["without"], found["with"], kept(found)
    return {
        "broken": after["broken_share"] <= MOST_BROKEN,
        "painted": after["painted"] <= MOST_PAINTED * before["painted"],
        "gain": None if gain is None else gain >= 2 / 3,
    }


def save(data: Data, path: Path = RESULT) -> None:
    """Writes the JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(draft, path)


def read(path: Path = RESULT) -> dict[str, Any]:
    """A result. Raises InputError where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as results of benchmarks.guard ({error})") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{path}: is no result of format {FORMAT}; measure anew")
    return found


def markdown(data: Data) -> str:
    """What docs/trust.md says, all of it from ``data``."""
    (_, shown), fit = _shown(data), data.get("validation")
    said = [_verdict(shown), _cost(shown)]
    if fit is not None:
        said.append(_fit(fit, data["options"]))
    picture = "![Errors let through and gain, by threshold](guard.png)"
    return "\n".join([*_table(data), "", *said, "", picture])


def brief(data: Data) -> str:
    """What the README says: the rates on the test split, and which bars are kept. Markdown."""
    return "\n".join([*_table(data), "", _verdict(_shown(data)[1])])


def parts(data: Data) -> dict[Path, str]:
    """The generated parts, by file."""
    return {blocks.README: brief(data), blocks.TRUST: markdown(data)}


def _shown(data: Data) -> tuple[str, Data]:
    """The test split and its name; the validation split where these thresholds have not been measured on it."""
    split = "test" if "test" in data else "validation"
    return split, data[split]


def _table(data: Data) -> list[str]:
    (split, test), steps = _shown(data), blocks.counted(data["steps"], "step")
    warning = "" if split == "test" else "**Not measured on the test split yet**; these lines chose the thresholds. "
    head = (
        f"{warning}**{test['without']['lines']} lines of the {split} split**, restored in {steps}, shown as they "
        f"are read best and judged by {test['judge']}; confidently: with a mean confidence of {CONFIDENT:g} or more; "
        f"in brackets: exact {SURE:.0%} intervals, in percent."
    )
    return [
        head,
        "",
        "| | without the guard | with it | bar |",
        "|---|---|---|---|",
        _counted("input read right, applied and read wrong", test, "broken", "right", f"at most {MOST_BROKEN:.0%}"),
        _counted("input read wrong, applied and confidently read wrong", test, "painted", "wrong", "at most a third"),
        _counted("input read wrong, applied and read right", test, "fixed", "wrong", ""),
        f"| lines applied | {test['without']['applied']} | {test['with']['applied']} | |",
        f"| ACC, the input's is {_percent(test['without']['right'], test['without']['lines'])} | "
        f"{test['without']['acc']:.1%} ({_points(test['without']['gain'])}) | "
        f"{test['with']['acc']:.1%} ({_points(test['with']['gain'])}) | two thirds of the gain |",
    ]


def _fit(fit: Data, options: Data) -> str:
    """What the thresholds were chosen from, and what each rule does there."""
    rules = "; ".join(
        f"{rule} {one['broken']} and {one['painted']}, {one['passed'] - fit['with']['passed']} more come out right"
        for rule, one in fit["without_rule"].items()
    )
    return (
        f"Thresholds were chosen on {fit['without']['lines']} lines of the validation split, judged by {fit['judge']}: "
        f"there the guard breaks {fit['with']['broken']} of {fit['with']['right']} lines "
        f"({fit['without']['broken']} without it; of other such lines at most {fit['with']['broken_most']:.1%}, "
        f"{SURE:.0%} sure), lets {_errors(fit['with']['painted'])} through ({fit['without']['painted']}) and keeps "
        f"{fit['with']['fixed']} of {fit['without']['fixed']} lines that restoring makes readable. Of the thresholds "
        f"that keep the bars there, confidences of {options['min_told']:g} in what was told and of "
        f"{options['min_proof']:g} in proofreading are worth most, one line broken counting as much as {BROKEN_COSTS} "
        f"that come out right, a confident error as much as {PAINTED_COSTS}. {_held_out(fit['held_out'])} "
        f"No threshold was chosen on the test split. With one rule left out, lines broken and confident errors on "
        f"validation: {rules}."
    )


def _held_out(found: Data) -> str:
    low, high = (f"{100 * end:.1f}" for end in found["broken_interval"])
    return (
        f"Thresholds look better on the lines that chose them than on others: chosen on four fifths, they break "
        f"{found['broken']} of {found['right']} ({_percent(found['broken'], found['right'])}) [{low}, {high}] in the "
        f"fifths left out, all five taken together."
    )


def _counted(name: str, found: Data, key: str, of: str, bar: str) -> str:
    def one(side: Data) -> str:
        whole = side["right"] if of == "right" else side["lines"] - side["right"]
        low, high = interval(side[key], whole)
        return f"{side[key]} of {whole} ({_percent(side[key], whole)}) [{100 * low:.1f}, {100 * high:.1f}]"

    return f"| {name} | {one(found['without'])} | {one(found['with'])} | {bar} |"


def _errors(count: int) -> str:
    return blocks.counted(count, "confident error")


def _percent(count: int, whole: int) -> str:
    return f"{count / whole:.1%}" if whole else "none"


def _points(gain: float) -> str:
    return f"{100 * gain:+.1f} points"


def _verdict(found: Data) -> str:
    names = {"broken": "right lines broken", "painted": "confident errors", "gain": "gain"}
    gain = f"restoring gains nothing without the guard, and {_points(found['with']['gain'])} with it"
    said = {True: "met", False: "**missed**", None: f"cannot be told: {gain}"}
    share = found["with"]["fixed"], found["without"]["fixed"]
    return (
        "Bars: "
        + "; ".join(f"{names[name]}: {said[met]}" for name, met in bars(found).items())
        + f". Of the lines that restoring makes readable the guard keeps {share[0]} of {share[1]}."
    )


def _cost(found: Data) -> str:
    stops = ", ".join(
        f"{name} {count}" for name, count in sorted(found["objections"].items(), key=lambda pair: -pair[1])
    )
    said = f"Lines are stopped by: {stops or 'none'}."
    if found["cost"] is None:
        return said
    return (
        f"All evidence on every line, with the restoration without text that is not asked for by default, costs "
        f"{found['cost']:.0%} of the CPU seconds of restoring. {said}"
    )


AXES = {
    "curve_told": ("min_told", "least confidence in a character that was told"),
    "curve_proof": ("min_proof", "least confidence in a character when proofread"),
}
"""The curves that are drawn: the threshold they are of, and its name."""
LOWEST_DRAWN = 0.8
"""Of `min_proof`: below it there is little."""


def draw(data: Data, path: Path = PICTURE) -> None:
    """The curves: what is let through and what is gained at each threshold. Needs matplotlib (extra [train])."""
    from matplotlib.figure import Figure

    splits = [(name, data[name]) for name in ("validation", "test") if data.get(name)]
    figure = Figure(figsize=(5.2 * len(splits), 3.2 * len(AXES)), layout="constrained")
    table = figure.subplots(len(AXES), len(splits), squeeze=False)
    for row, (curve_name, (threshold, label)) in zip(table, AXES.items(), strict=True):
        for axes, (name, found) in zip(row, splits, strict=True):
            _draw_curve(axes, found, curve_name, threshold, data["options"][threshold])
            axes.set_title(f"{name}: {found['without']['lines']} lines", fontsize=10)
            axes.set_xlabel(f"{label} (dashed: default; dotted: no guard)", fontsize=8)
            axes.set_ylabel("% of lines, or points", fontsize=8)
    figure.legend(
        *table[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3 if len(splits) > 1 else 1,
        fontsize=8,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_curve(axes: Any, found: Data, name: str, threshold: str, default: float) -> None:
    points = [point for point in found[name] if threshold == "min_told" or point[threshold] >= LOWEST_DRAWN]
    for key, label, colour in (
        ("broken_share", "right, then wrong (of right)", "#b3261e"),
        ("painted_share", "wrong, confidently so (of wrong)", "#c77700"),
        ("gain", "gain in ACC", "#1b6e3c"),
    ):
        axes.plot(
            [point[threshold] for point in points], [100 * point[key] for point in points],
            color=colour, label=label, marker=".",
        )  # fmt: skip
        axes.axhline(100 * found["without"][key], color=colour, linestyle=":", linewidth=1)
    axes.axhline(100 * MOST_BROKEN, color="#b3261e", linewidth=0.5)
    axes.axvline(default, color="#555555", linewidth=1, linestyle="--")
    axes.axhline(0, color="#999999", linewidth=0.5)
