"""What the guard lets through."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from textsr.errors import InputError

WithoutReader = Literal["picture", "refuse"]
SIMILARITIES = ("min_similarity", "min_column", "min_likeness")


@dataclass(frozen=True)
class GuardOptions:
    """Thresholds of `runtime.guard.Guard`. The defaults of ``min_confidence`` and ``min_likeness`` were chosen together
    (`benchmarks.guard_rates.choose`) on 900 lines of the validation split that PP-OCRv3, which judges there, reads in
    high resolution, restored in 4 steps at strength 0.7 with paint 0.75: of 528 lines whose input is read right the
    guard lets 1 out wrong (24 without it), so less than 1% of other such lines, and 62 of 138 that restoring makes
    readable. ``min_similarity`` and ``min_column`` were set by hand on 400 of them: paint changes what a line shrinks
    to. More steps change more, so more is refused; with other strength or paint pictures are more or less alike. On
    1,000 lines of the test split, judged by PP-OCRv4: 5 of 682 (19 without it) and 49 of 127, see
    ``benchmarks/results/guard.json``.

    ``min_similarity``: structural similarity, -1..1, that the restored line, shrunk again, has to the input at least;
    ``min_column``: the same of its worst character's columns, so that one changed character is not averaged away.
    ``max_change``: share (0..1) of characters in which the restored line may read otherwise than it was told.
    ``max_doubt``: the same against the line restored from the picture alone, in ``blind_steps`` steps, and
    ``min_likeness``: the similarity, -1..1, that its worst character has to that line's picture at least.
    ``min_confidence``: 0..1, of the least sure character of the restored line, and of the one restored without text.
    ``max_drop``: how much less sure (mean of the characters) the restored line may be read than the input.
    ``never_change_text``: the input is kept where the recogniser does not read the very same text before and after.
    ``without_reader``: without a recogniser "refuse" lets nothing through; "picture" judges by the similarity alone,
    which tells a wrong line but seldom a wrong character: of 30 lines spoilt on the validation split it stopped 6.
    ``complete``: gather all evidence, also where the decision has fallen; else what costs most is left out then.
    """

    min_similarity: float = 0.4
    min_column: float = 0.4
    max_change: float = 0.0
    max_doubt: float = 0.0
    min_likeness: float = 0.8
    min_confidence: float = 0.92
    max_drop: float = 0.1
    never_change_text: bool = False
    without_reader: WithoutReader = "refuse"
    blind_steps: int = 1
    complete: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = -1 if field.name in SIMILARITIES else 0
            if isinstance(value, float) and not least <= value <= 1:
                raise InputError(f"guard: {field.name} must be from {least} to 1, not {value}")
        if self.without_reader not in ("picture", "refuse"):
            raise InputError(f"guard: without_reader {self.without_reader!r}: choose picture or refuse")
        if isinstance(self.blind_steps, bool) or not isinstance(self.blind_steps, int) or self.blind_steps < 1:
            raise InputError(f"guard: blind_steps must be a whole number from 1, not {self.blind_steps!r}")
