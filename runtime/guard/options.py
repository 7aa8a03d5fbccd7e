"""What the guard lets through."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from textsr.errors import InputError

WithoutReader = Literal["picture", "refuse"]
SIMILARITIES = ("min_similarity", "min_column", "min_likeness")


@dataclass(frozen=True)
class GuardOptions:
    """Thresholds of `runtime.guard.Guard`. The defaults of ``min_told`` and ``min_proof`` were chosen together
    (`benchmarks.guard_rates.choose`) on 900 lines of the validation split that PP-OCRv3, which judges there, reads in
    high resolution, restored in 1 step and shown as they are read best: of 509 lines whose input is read right the
    guard lets 3 out wrong (6 without it), and 147 of 201 that restoring makes readable. The others seldom stop what
    these let through, and were set by hand on the same lines. Figures of the test split:
    ``benchmarks/results/guard.json``.

    ``min_similarity``: structural similarity, -1..1, that the restored line, shrunk again, has to the input at least;
    ``min_column``: the same of its worst character's columns, so that one changed character is not averaged away.
    ``min_told``: confidence, 0..1, with which the least sure character of what the line was told was read in the input
    (or given by the caller) at least. ``min_proof``: the same of what the proofreader (`runtime.proofreading`) reads in
    the restored line, which has to be that text; where there is no proofreader nothing is asked.
    ``max_change``: share (0..1) of characters in which the restored line may read otherwise than it was told.
    ``min_confidence``: 0..1, of the least sure character of the restored line.
    ``max_drop``: how much less sure (mean of the characters) the restored line may be read than the input.
    ``max_doubt``: share of characters in which it may read otherwise than the line restored from the picture alone, in
    ``blind_steps`` steps, and ``min_likeness``: the similarity, -1..1, that its worst character has to that line's
    picture at least. By default (1 and -1) neither is asked, nor is anything restored for it: it is nearly as dear as
    restoring, and stops about as many lines that restoring made readable as a higher ``min_told`` does.
    ``never_change_text``: the input is kept where the recogniser does not read the very same text before and after.
    ``without_reader``: without a recogniser "refuse" lets nothing through; "picture" judges by the similarity alone,
    which tells a wrong line but seldom a wrong character: of 30 lines spoilt on the validation split it stopped 6.
    ``complete``: gather all evidence, also where the decision has fallen or it is not asked for.
    """

    min_similarity: float = 0.3
    min_column: float = 0.3
    min_told: float = 0.8
    min_proof: float = 0.9
    max_change: float = 0.0
    min_confidence: float = 0.9
    max_drop: float = 0.1
    max_doubt: float = 1.0
    min_likeness: float = -1.0
    never_change_text: bool = False
    without_reader: WithoutReader = "refuse"
    blind_steps: int = 1
    complete: bool = False

    @property
    def blind(self) -> bool:
        """Whether the line restored from the picture alone has a say."""
        return self.max_doubt < 1 or self.min_likeness > -1

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
