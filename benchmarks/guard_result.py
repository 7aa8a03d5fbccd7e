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
    CONFIDENT,
    MOST_BROKEN,
    MOST_PAINTED,
    Rates,
    asked,
    choose,
    curve,
    interval,
    objections,
    rates,
    spared,
)
from runtime.guard import GuardOptions
from textsr.errors import InputError

FORMAT = 1
RESULT, PICTURE = blocks.ROOT / "benchmarks" / "results" / "guard.json", blocks.ROOT / "docs" / "guard.png"
BLOCK = "guard"
Data = Mapping[str, Any]


def part(rows: Sequence[Row], options: GuardOptions, judge: str, lines: str) -> dict[str, Any]:
    """What JSON keeps of one split's rows."""
    without, found = rates(rows, None), rates(rows, options)
    return {
        "lines_of": lines,
        "judge": judge,
        "without": shares(without),
        "with": shares(found),
        "fixed_kept": found.fixed / without.fixed if without.fixed else None,
        "curve": [{"min_confidence": at, **shares(one)} for at, one in curve(rows, options, "min_confidence")],
        "curve_likeness": [{"min_likeness": at, **shares(one)} for at, one in curve(rows, options, "min_likeness")],
        "objections": objections(rows, options),
        "without_rule": {rule: shares(one) for rule, one in spared(rows, options).items()},
        "asked": asked(rows, options),
        "cost": sum(row.guard_seconds for row in rows) / max(1e-9, sum(row.restore_seconds for row in rows)),
    }


def fitted(rows: Sequence[Row], options: GuardOptions) -> dict[str, float]:
    """The thresholds that validation rows choose, for JSON; of the test split nobody asks."""
    chosen = choose(rows, options)
    return {"chosen": chosen.min_confidence, "chosen_likeness": chosen.min_likeness}


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
    test, fit = data["test"], data.get("validation")
    said = [_verdict(test), _cost(test)]
    if fit is not None:
        said.append(
            f"Thresholds were chosen on {fit['without']['lines']} lines of the validation split, judged by "
            f"{fit['judge']}: there the guard breaks {fit['with']['broken']} of {fit['with']['right']} lines "
            f"({fit['without']['broken']} without it), lets {_errors(fit['with']['painted'])} through "
            f"({fit['without']['painted']}), and the lowest threshold that keeps both bars is {fit['chosen']:g}. The "
            "test split was only measured on."
        )
    picture = "![Errors let through and gain, by threshold](guard.png)"
    return "\n".join([*_table(data), "", *said, "", picture])


def brief(data: Data) -> str:
    """What the README says: the rates on the test split, and which bars are kept. Markdown."""
    return "\n".join([*_table(data), "", _verdict(data["test"])])


def parts(data: Data) -> dict[Path, str]:
    """The generated parts, by file."""
    return {blocks.README: brief(data), blocks.TRUST: markdown(data)}


def _table(data: Data) -> list[str]:
    test, steps = data["test"], f"{data['steps']} step{'' if data['steps'] == 1 else 's'}"
    head = (
        f"**{test['without']['lines']} lines of the test split**, restored in {steps} and judged by {test['judge']}; "
        f"confidently: with a mean confidence of {CONFIDENT:g} or more."
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


def _counted(name: str, found: Data, key: str, of: str, bar: str) -> str:
    def one(side: Data) -> str:
        whole = side["right"] if of == "right" else side["lines"] - side["right"]
        return f"{side[key]} of {whole} ({_percent(side[key], whole)})"

    return f"| {name} | {one(found['without'])} | {one(found['with'])} | {bar} |"


def _errors(count: int) -> str:
    return f"{count} confident error{'' if count == 1 else 's'}"


def _percent(count: int, whole: int) -> str:
    return f"{count / whole:.1%}" if whole else "none"


def _points(gain: float) -> str:
    return f"{100 * gain:+.1f} points"


def _verdict(found: Data) -> str:
    names = {"broken": "right lines broken", "painted": "confident errors", "gain": "gain kept"}
    gain = f"restoring gains nothing without the guard, and {_points(found['with']['gain'])} with it"
    said = {True: "kept", False: "**missed**", None: f"cannot be told: {gain}"}
    return "Bars: " + "; ".join(f"{names[name]} {said[met]}" for name, met in bars(found).items()) + "."


def _cost(found: Data) -> str:
    stops = ", ".join(
        f"{name} {count}" for name, count in sorted(found["objections"].items(), key=lambda pair: -pair[1])
    )
    return (
        f"All evidence on every line costs {found['cost']:.0%} of the CPU seconds of restoring; the guard asks for its "
        f"dearest part, the restoration without text, on {found['asked']:.0%} of the lines only. Lines are stopped by: "
        f"{stops or 'none'}."
    )


def draw(data: Data, path: Path = PICTURE) -> None:
    """The curves: what is let through and what is gained at each threshold. Needs matplotlib (extra [train])."""
    from matplotlib.figure import Figure

    splits = [(name, data[name]) for name in ("validation", "test") if data.get(name)]
    figure = Figure(figsize=(5.2 * len(splits), 3.6), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(1, len(splits), squeeze=False)[0], splits, strict=True):
        at = [point["min_confidence"] for point in found["curve"]]
        for key, label, colour in (
            ("broken_share", "right, then wrong (of right)", "#b3261e"),
            ("painted_share", "wrong, confidently so (of wrong)", "#c77700"),
            ("gain", "gain in ACC", "#1b6e3c"),
        ):
            axes.plot(at, [100 * point[key] for point in found["curve"]], color=colour, label=label, marker=".")
            axes.axhline(100 * found["without"][key], color=colour, linestyle=":", linewidth=1)
        axes.axvline(data["options"]["min_confidence"], color="#555555", linewidth=1, linestyle="--")
        axes.axhline(0, color="#999999", linewidth=0.5)
        axes.set_title(f"{name}: {found['without']['lines']} lines", fontsize=10)
        axes.set_xlabel("least confidence of a character (dashed: default; dotted: no guard)", fontsize=8)
        axes.set_ylabel("% of lines, or points", fontsize=8)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
