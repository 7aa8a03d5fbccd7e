"""What the guard knows of a restored line, and how readings are compared."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from textsr.reading import LineReading


@dataclass(frozen=True)
class Evidence:
    """Of one line. Texts are None where nothing was read; confidences (0..1) are of the reading of the same name.

    ``told`` is what the restoration was told the line says. ``before``, ``after`` and ``blind``: what the recogniser
    reads in the input, the restored line, and the line restored from the picture alone; ``second_before`` and
    ``second_after``: what a second recogniser reads. ``sure_before`` and ``sure_after`` are means over the characters,
    ``weakest_told``, ``weakest_after`` and ``weakest_blind`` the least of them. ``similarity`` and ``column``: of the
    restored line, shrunk again, and the input; ``likeness``: of the restored line and the one restored from the picture
    alone, at its least similar character, None where there is none; see `runtime.guard.similarity`. ``proof``: how
    surely the proofreader reads in the restored line what was told (`runtime.proofreading`), None without one.
    ``witnesses`` names what was heard.
    """

    told: str
    similarity: float
    column: float
    before: str | None = None
    after: str | None = None
    blind: str | None = None
    second_before: str | None = None
    second_after: str | None = None
    sure_before: float = 0.0
    sure_after: float = 0.0
    weakest_after: float = 0.0
    weakest_blind: float = 0.0
    likeness: float | None = None
    witnesses: tuple[str, ...] = ("picture",)
    weakest_told: float = 1.0
    proof: float | None = None

    @property
    def expected(self) -> str:
        """What the restored line has to say: what it was told, else what the input says."""
        return self.told or self.before or ""

    @cached_property
    def change(self) -> float:
        """Share of characters in which the restored line reads otherwise than expected."""
        return distance(self.expected, self.after or "")

    @cached_property
    def doubt(self) -> float:
        """Share of characters in which it reads otherwise than the line restored from the picture alone."""
        return distance(self.blind or "", self.after or "")

    def plain(self) -> dict[str, Any]:
        """As JSON takes it, for `runtime.Result.evidence`."""
        made = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}
        made["witnesses"] = list(self.witnesses)
        if self.after is not None:
            made["change"] = round(self.change, 4)
            made["edits"] = edits(fold(self.expected), fold(self.after))
        if self.blind is not None:
            made["doubt"] = round(self.doubt, 4)
        return made


def sure(reading: LineReading) -> float:
    """Mean confidence of a reading; 0 without text."""
    return sum(reading.confidences) / len(reading.confidences) if reading.confidences else 0.0


def weakest(reading: LineReading) -> float:
    """Confidence of a reading's least sure character; 0 without text."""
    return min(reading.confidences, default=0.0)


def fold(text: str) -> str:
    """``text`` without what is no other text: width, case and spaces."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def distance(one: str, other: str) -> float:
    """Edits between two texts, folded, as a share (0..1) of the longer one's characters; 0 where both are empty."""
    one, other = fold(one), fold(other)
    longest = max(len(one), len(other))
    return edits(one, other) / longest if longest else 0.0


def edits(one: str, other: str) -> int:
    """Levenshtein's distance: characters put in, taken out or replaced."""
    row = list(range(len(other) + 1))
    for count, left in enumerate(one, 1):
        last, row[0] = row[0], count
        for place, right in enumerate(other, 1):
            last, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, last + (left != right))
    return row[-1]
