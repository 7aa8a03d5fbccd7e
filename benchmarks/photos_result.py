"""Figures of `benchmarks.photos` as JSON, and the table made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import blocks
from benchmarks.guard_rates import interval
from textsr.errors import InputError
from textsr.files import atomic
from train.metrics import NORMALISATION, accuracy, ned

FORMAT = 2
RESULTS = Path(__file__).resolve().parent / "results"
BLOCK, JSON, MARKDOWN = "photos", "photos.json", "photos.md"
ENLARGED, RESTORED, DEFAULT = range(3)
"""Places of a row's readings."""
HEAD = ("rows", "lines", "enlarged", "every line restored", "spoilt", "by default", "spoilt", "restored by default")
Data = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A line of a photograph, shrunk to ``rows``: the judge's readings, and what became of it by default."""

    file: str
    rows: int
    truth: str  # read alike at full size
    enlarged: str
    restored: str  # neither gate nor guard
    default: str
    applied: bool  # by default
    cause: str  # why not
    told: str  # what the restoration was told it says

    @property
    def readings(self) -> tuple[str, str, str]:
        """As `ENLARGED`, `RESTORED` and `DEFAULT` say."""
        return self.enlarged, self.restored, self.default

    def right(self, which: int) -> bool:
        """Whether the judge reads the truth there."""
        return bool(accuracy(self.readings[which], self.truth))

    @property
    def gain(self) -> float:
        """NED that restoring brings, from -1 to 1."""
        return ned(self.restored, self.truth) - ned(self.enlarged, self.truth)


def data(about: Data, rows: Sequence[Row]) -> dict[str, Any]:
    """The whole as JSON takes it: ``about`` the run, counts by height, and every row."""
    heights = list(dict.fromkeys(row.rows for row in rows))
    counts = [_counts(height, [row for row in rows if row.rows == height]) for height in heights]
    return {**about, "heights": counts, "rows": [asdict(row) for row in rows]}


def _counts(height: int, rows: Sequence[Row]) -> dict[str, Any]:
    right = [row for row in rows if row.right(ENLARGED)]
    return {
        "rows": height,
        "lines": len(rows),
        "right": [sum(row.right(which) for row in rows) for which in (ENLARGED, RESTORED, DEFAULT)],
        "spoilt": [sum(not row.right(which) for row in right) for which in (ENLARGED, RESTORED, DEFAULT)],
        "applied": sum(row.applied for row in rows),
    }


def save(found: Data, folder: Path) -> None:
    """``photos.json`` and ``photos.md``, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    for name, content in ((JSON, text), (MARKDOWN, table(found))):
        with atomic(folder / name) as file:
            file.write(content.encode())


def read(path: Path = RESULTS / JSON) -> dict[str, Any]:
    """What `save` wrote. Raises InputError where nothing was measured, or by another version."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; measure with python -m benchmarks.photos FOLDER --save") from error
    if found.get("format") != FORMAT:
        raise InputError(f"{path} is of another version: measure anew with python -m benchmarks.photos FOLDER --save")
    return found


def table(found: Data) -> str:
    """Markdown: shares of lines read right by height, of right ones spoilt, and what was left out."""
    steps = "all steps" if found["steps"] is None else blocks.counted(found["steps"], "step")
    source = f" ({found['source']})" if found["source"] else ""
    left = ", ".join(f"{reason} {count}" for reason, count in sorted(found["dropped"].items()))
    rows = [HEAD, *(_cells(one) for one in found["heights"])]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(HEAD))
    first = (
        f"**{found['lines']} lines of {found['photographs']} photographs**{source}, shrunk; bundle {found['bundle']}, "
        f"{steps}, shown as they are read best, {found['executor']}; read right by "
        f"{found['judge']}, in percent."
    )
    last = (
        "Truth is what the product's recogniser and the judge read alike at full size"
        f"{f'; left out: {left}' if left else ''}. *Every line restored*: neither gate nor guard. *Spoilt*: of the "
        "lines read right enlarged, those read wrong then, with the exact 95% interval of their share. "
        f"{NORMALISATION[0].upper()}{NORMALISATION[1:]}."
    )
    return "\n".join([first, "", *lines, "", last]) + "\n"


def _cells(one: Data) -> list[str]:
    lines, right = one["lines"], one["right"]
    share = [f"{100 * count / lines:.1f}" for count in right]
    spoilt = [_spoilt(one["spoilt"][which], right[ENLARGED]) for which in (RESTORED, DEFAULT)]
    counts = str(one["rows"]), str(lines), share[ENLARGED]
    return [*counts, share[RESTORED], spoilt[0], share[DEFAULT], spoilt[1], str(one["applied"])]


def _spoilt(count: int, of: int) -> str:
    low, high = interval(count, of)
    return f"{count} of {of} [{100 * low:.1f}, {100 * high:.1f}]"


def parts(found: Data) -> dict[Path, str]:
    """The generated part, by file."""
    return {blocks.RESULTS: table(found)}
