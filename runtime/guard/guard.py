"""The guard: reads restored lines again, asks what the prior did not talk to, and decides.

A recogniser that supplied the text a line was restored with would find it there again, painted or true. So what counts
is how surely it read that text in the input, before anything was painted; whether the restored line, shrunk again, is
the input, character by character; and whether the proofreader, the same recogniser without the training that makes it
read what others cannot, reads the text in the restored line. On request a further witness is heard that was told
nothing: the line restored from the picture alone, with the same noise, which has to look the same and to be read the
same; and, where the caller has one, a second recogniser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from runtime.guard.decide import decide, objection
from runtime.guard.evidence import Evidence, sure, weakest
from runtime.guard.options import GuardOptions
from runtime.guard.similarity import similarity
from runtime.judging import Again, Candidate, Verdict
from runtime.recognizer import LineReader
from textsr.reading import LineReading

_Ask = Callable[[Sequence[Candidate], Sequence[Evidence]], list[Evidence]]


class Guard:
    """A `runtime.judging.Guard`: ``Restorer.open(guard=Guard())``. Keeps nothing between calls."""

    def __init__(self, options: GuardOptions | None = None, *, second: LineReader | None = None) -> None:
        """Decides by ``options``, by default `GuardOptions`' own.

        :param second: another recogniser, which has to read in the restored line what the first reads there.
        """
        self.options = options or GuardOptions()
        self.second = second

    def judge(self, candidates: Sequence[Candidate], again: Again) -> list[Verdict]:
        """One verdict for each of ``candidates``, in order. Raises what the recognisers and ``again`` raise."""
        found = self.gather(candidates, again)
        return [self._verdict(evidence) for evidence in found]

    def gather(self, candidates: Sequence[Candidate], again: Again) -> list[Evidence]:
        """The evidence on each of ``candidates``, in order: the cheap first, the dear only where nothing speaks against
        the line yet (or `GuardOptions.complete` asks for all). ``again`` reads and restores."""
        found = [_picture(candidate) for candidate in candidates]
        if again.reader is not None:
            found = self._for_open(candidates, found, lambda part, facts: _readings(part, facts, again))
            if self.options.blind or self.options.complete:
                found = self._for_open(candidates, found, lambda part, facts: self._blind(part, facts, again))
        if self.second is not None:
            second = self.second
            found = self._for_open(candidates, found, lambda part, facts: _second(part, facts, second))
        return found

    def _for_open(self, candidates: Sequence[Candidate], found: list[Evidence], ask: _Ask) -> list[Evidence]:
        """``found`` with what ``ask`` adds for the lines that nothing speaks against yet."""
        # a missing reading is no objection yet: `gather` is about to ask for it
        how = replace(self.options, never_change_text=False, without_reader="picture")
        places = [
            place
            for place, evidence in enumerate(found)
            if self.options.complete or objection(evidence, self.options if evidence.after is not None else how) is None
        ]
        if places:
            asked = ask([candidates[place] for place in places], [found[place] for place in places])
            for place, evidence in zip(places, asked, strict=True):
                found[place] = evidence
        return found

    def _blind(self, candidates: Sequence[Candidate], found: Sequence[Evidence], again: Again) -> list[Evidence]:
        pictures = again(candidates, [None] * len(candidates), steps=self.options.blind_steps)
        likeness = [
            similarity(picture, candidate.restored, _centres(candidate)).column
            for candidate, picture in zip(candidates, pictures, strict=True)
        ]
        return [
            replace(
                evidence, blind=read.text, weakest_blind=weakest(read), likeness=like,
                witnesses=(*evidence.witnesses, "blind"),
            )
            for evidence, read, like in zip(found, again.read(pictures), likeness, strict=True)
        ]  # fmt: skip

    def _verdict(self, evidence: Evidence) -> Verdict:
        rule, reason = decide(evidence, self.options)
        return Verdict(not rule, reason, {**evidence.plain(), "objection": rule})


def _picture(candidate: Candidate) -> Evidence:
    found = similarity(candidate.image, candidate.restored, _centres(candidate))
    told = weakest(candidate.reading) if candidate.reading is not None else 1.0
    return Evidence(candidate.text, found.whole, found.column, weakest_told=told, proof=candidate.proof)


def _centres(candidate: Candidate) -> Sequence[float]:
    return candidate.reading.centres if candidate.reading is not None else ()


def _readings(candidates: Sequence[Candidate], found: Sequence[Evidence], again: Again) -> list[Evidence]:
    """With what the recogniser reads before, where it has not read the input already, and after."""
    assert again.reader is not None
    name = again.reader.name
    known = [candidate.reading if candidate.reader == name else None for candidate in candidates]
    unread = [candidate.image for candidate, reading in zip(candidates, known, strict=True) if reading is None]
    fresh = iter(_read(unread, again))
    before = [next(fresh) if reading is None else reading for reading in known]
    after = _read([candidate.restored for candidate in candidates], again)
    return [
        replace(
            evidence, before=one.text, after=other.text, sure_before=sure(one), sure_after=sure(other),
            weakest_after=weakest(other), witnesses=(*evidence.witnesses, "reading"),
        )
        for evidence, one, other in zip(found, before, after, strict=True)
    ]  # fmt: skip


def _read(images: Sequence[NDArray[np.uint8]], again: Again) -> list[LineReading]:
    return again.read(images) if images else []


def _second(candidates: Sequence[Candidate], found: Sequence[Evidence], reader: LineReader) -> list[Evidence]:
    read = reader.read([picture for candidate in candidates for picture in (candidate.image, candidate.restored)])
    return [
        replace(evidence, second_before=one.text, second_after=two.text, witnesses=(*evidence.witnesses, "second"))
        for evidence, one, two in zip(found, read[::2], read[1::2], strict=True)
    ]
