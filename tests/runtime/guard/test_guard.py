"""The guard with readers and restorations that are known: what it lets through, what not, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime import Guard, GuardOptions, InputError, Restorer
from runtime.guard import Evidence, decide
from runtime.guard.decide import NO_READER, PICTURE_ONLY
from runtime.judging import Candidate
from runtime.recognizer import LineReader
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_bundle
from textsr.fit import resample
from textsr.reading import LineReading, spread

Picture = NDArray[np.uint8]


BLIND = Guard(GuardOptions(max_doubt=0.0, min_likeness=0.8))
"""One that restores without text, too."""


def reading(text: str, confidence: float = 0.99) -> LineReading:
    return LineReading(text, (confidence,) * len(text), spread(text))


class LookUp:
    """Reads what it was told a picture says."""

    name = "PP-OCRv6"

    def __init__(self) -> None:
        self.known: dict[bytes, LineReading] = {}

    def tell(self, picture: Picture, said: LineReading) -> None:
        self.known[picture.tobytes()] = said

    def read(self, images: Sequence[Picture]) -> list[LineReading]:
        return [self.known[image.tobytes()] for image in images]


class Known:
    """A `runtime.judging.Again` whose restorations without text are known; counts what it is asked for."""

    def __init__(self, reader: LineReader | None, blind: dict[int, Picture]) -> None:
        self.reader, self.blind = reader, blind
        self.asked: list[int] = []
        self.steps: list[int | None] = []

    def read(self, images: Sequence[Picture]) -> list[LineReading]:
        return self.reader.read(images) if self.reader is not None else [reading("")] * len(images)

    def __call__(
        self, candidates: Sequence[Candidate], readings: Sequence[LineReading | None], *, steps: int | None = None
    ) -> list[Picture]:
        assert all(one is None for one in readings)
        self.asked += [candidate.place for candidate in candidates]
        self.steps.append(steps)
        return [self.blind[candidate.place] for candidate in candidates]


class Scene:
    """Lines with what the recogniser reads in the input, the restored line and the one restored without text."""

    def __init__(self) -> None:
        self.reader = LookUp()
        self.candidates: list[Candidate] = []
        self.blind: dict[int, Picture] = {}

    def line(
        self, before: str, after: str, blind: str, sure: float = 0.99, told: str | None = None, painted: bool = False
    ) -> Scene:
        place = len(self.candidates)
        image = draw_line(str(place), 32, 120)
        restored = enlarged(image)
        if painted:
            restored[:, 240:280] = 255 - restored[:, 240:280]
        restored[0, 0] = place, 1, 0
        picture = restored.copy()
        picture[0, 0] = place, 2, 0
        prior = reading(before if told is None else told, sure)
        who = "PP-OCRv6" if told is None else "given"
        self.candidates.append(Candidate(place, image, restored, prior, who, prior.text))
        self.blind[place] = picture
        self.reader.tell(image, reading(before, sure))
        self.reader.tell(restored, reading(after, sure))
        self.reader.tell(picture, reading(blind, sure))
        return self

    def again(self) -> Known:
        return Known(self.reader, self.blind)


def enlarged(image: Picture) -> Picture:
    grown = resample(image, 4 * image.shape[0], 4 * image.shape[1])
    return np.clip(np.rint(grown), 0, 255).astype(np.uint8)


def test_what_all_witnesses_agree_on_is_applied() -> None:
    scene = Scene().line("上海", "上海", "上海")
    again = scene.again()
    (verdict,) = Guard().judge(scene.candidates, again)
    assert (verdict.applied, verdict.reason, verdict.evidence["objection"]) == (True, "", "")
    assert verdict.evidence["witnesses"] == ["picture", "reading"]
    assert again.steps == []  # what is dear is not asked for by default
    (verdict,) = BLIND.judge(scene.candidates, again)
    assert (verdict.applied, verdict.evidence["witnesses"]) == (True, ["picture", "reading", "blind"])
    assert again.steps == [1]


def test_a_painted_error_that_agrees_with_the_prior_is_caught() -> None:
    scene = Scene().line("4713", "4713", "4718").line("4718", "4718", "4718")
    caught, fine = BLIND.judge(scene.candidates, scene.again())
    assert not caught.applied
    assert caught.evidence["objection"] == "blind"
    assert "'4718'" in caught.reason
    assert caught.evidence["change"] == 0  # the reading alone would have let it through
    assert fine.applied


def test_what_only_the_text_painted_is_seen_beside_the_picture_alone() -> None:
    """Read the same with and without text, and a character looks otherwise: too little for a recogniser to notice."""
    scene = Scene().line("4713", "4713", "4713").line("4713", "4713", "4713")
    for place, strength in ((0, 0.4), (1, 0.01)):
        painted, said = scene.blind[place], reading("4713")
        part = painted[:, 240:280].astype(np.float32)
        painted[:, 240:280] = (part + strength * (255 - 2 * part)).astype(np.uint8)
        scene.reader.tell(painted, said)
    caught, fine = BLIND.judge(scene.candidates, scene.again())
    assert (caught.applied, caught.evidence["objection"]) == (False, "blind")
    assert "without text" in caught.reason
    assert caught.evidence["doubt"] == 0
    assert caught.evidence["likeness"] < BLIND.options.min_likeness <= fine.evidence["likeness"]
    assert fine.applied
    open_to_it = Guard(GuardOptions(max_doubt=0.0)).judge(scene.candidates, scene.again())
    assert all(verdict.applied for verdict in open_to_it)


def test_a_painted_character_is_seen_in_the_picture() -> None:
    scene = Scene().line("4713", "4713", "4713", painted=True)
    again = scene.again()
    (verdict,) = Guard(GuardOptions(min_column=0.6)).judge(scene.candidates, again)
    assert verdict.evidence["objection"] == "picture"
    assert not verdict.applied
    assert again.asked == []  # what is dear is not asked for when the cheap has decided


@pytest.mark.parametrize(
    ("before", "after", "blind", "sure", "rule"),
    [
        ("abc", "abd", "abc", 0.99, "text"),
        ("abc", "", "", 0.99, "text"),
        ("abc", "abc", "abc", 0.69, "told"),
        ("abc", "abc", "abc", 0.89, "confidence"),
        ("", "", "", 0.99, "told"),
        ("", "abc", "abc", 0.99, "told"),
    ],
)
def test_rules(before: str, after: str, blind: str, sure: float, rule: str) -> None:
    scene = Scene().line(before, after, blind, sure)
    (verdict,) = Guard().judge(scene.candidates, scene.again())
    assert (verdict.applied, verdict.evidence["objection"]) == (False, rule)
    assert verdict.reason


def test_all_evidence_where_it_is_asked_for() -> None:
    scene = Scene().line("abc", "xyz", "abc", painted=True)
    again = scene.again()
    (verdict,) = Guard(GuardOptions(min_column=0.6, complete=True)).judge(scene.candidates, again)
    assert verdict.evidence["objection"] == "picture"
    assert (verdict.evidence["blind"], verdict.evidence["edits"], again.asked) == ("abc", 3, [0])


def test_a_given_text_is_no_witness_either() -> None:
    """The caller says 4713; it is painted so; the picture alone says 4718."""
    scene = Scene().line("4718", "4713", "4718", told="4713")
    assert BLIND.judge(scene.candidates, scene.again())[0].evidence["objection"] == "blind"
    strict = Guard(GuardOptions(never_change_text=True)).judge(scene.candidates, scene.again())[0]
    assert strict.evidence["objection"] == "text"
    assert "'4718' before, '4713' after" in strict.reason


def test_a_second_recogniser_is_heard() -> None:
    scene = Scene().line("4713", "4713", "4713")
    restored, image = scene.candidates[0].restored, scene.candidates[0].image
    second = LookUp()
    second.tell(image, reading("4718"))
    second.tell(restored, reading("4718"))
    (verdict,) = Guard(second=second).judge(scene.candidates, scene.again())
    assert verdict.evidence["objection"] == "second"
    second.tell(restored, reading("4713"))
    assert Guard(second=second).judge(scene.candidates, scene.again())[0].applied
    strict = Guard(GuardOptions(never_change_text=True), second=second)
    assert strict.judge(scene.candidates, scene.again())[0].evidence["objection"] == "second"


def test_without_a_recogniser_it_says_so() -> None:
    scene = Scene().line("abc", "abc", "abc")
    again = Known(None, scene.blind)
    (refused,) = Guard().judge(scene.candidates, again)
    assert (refused.applied, refused.reason) == (False, NO_READER)
    (judged,) = Guard(GuardOptions(without_reader="picture")).judge(scene.candidates, again)
    assert (judged.applied, judged.reason, judged.evidence["witnesses"]) == (True, PICTURE_ONLY, ["picture"])
    never = GuardOptions(without_reader="picture", never_change_text=True)
    assert not Guard(never).judge(scene.candidates, again)[0].applied


def test_what_is_asked_for_has_to_be_there() -> None:
    evidence = Evidence("abc", 1.0, 1.0, "abc", "abc", None, None, None, 1.0, 1.0, 1.0)
    assert decide(evidence, GuardOptions()) == ("", "")
    assert decide(evidence, BLIND.options)[0] == "blind"
    seen = replace(evidence, blind="abc", weakest_blind=1.0, likeness=1.0)
    assert decide(seen, BLIND.options) == ("", "")
    assert decide(replace(seen, likeness=None), BLIND.options)[0] == "blind"
    nan = float("nan")
    assert decide(replace(seen, likeness=nan), BLIND.options)[0] == "blind"
    assert decide(replace(seen, similarity=nan), GuardOptions())[0] == "picture"
    assert decide(replace(seen, weakest_told=nan), GuardOptions())[0] == "told"
    assert decide(replace(seen, proof=nan), GuardOptions())[0] == "proof"
    assert decide(replace(seen, weakest_after=nan), GuardOptions())[0] == "confidence"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_told_and_proof_are_compared_with_their_thresholds(told: float, proof: float, least: float, bar: float) -> None:
    evidence = Evidence("abc", 1.0, 1.0, "abc", "abc", None, None, None, 1.0, 1.0, 1.0, weakest_told=told, proof=proof)
    rule, reason = decide(evidence, GuardOptions(min_told=least, min_proof=bar))
    assert rule == ("told" if told < least else "proof" if proof < bar else "")
    assert bool(reason) == bool(rule)
    unproven = replace(evidence, proof=None)
    assert decide(unproven, GuardOptions(min_told=least, min_proof=bar))[0] == ("told" if told < least else "")


texts = st.text(alphabet="ab8B 三", max_size=4)
lines = st.lists(st.tuples(texts, texts, texts, st.sampled_from((0.3, 0.89, 1.0)), st.none() | texts), max_size=5)


@given(given_lines=lines, never=st.booleans(), complete=st.booleans(), loose=st.booleans(), asked=st.booleans())
@settings(max_examples=40, deadline=None)
def test_promises(
    given_lines: list[tuple[str, str, str, float, str | None]], never: bool, complete: bool, loose: bool, asked: bool
) -> None:
    scene = Scene()
    for before, after, blind, sure, told in given_lines:
        scene.line(before, after, blind, sure, told)
    options = GuardOptions(never_change_text=never, complete=complete, max_doubt=0.0 if asked else 1.0)
    if loose:
        options = replace(options, max_change=1.0, min_told=0.0, min_confidence=0.0)
    again = scene.again()
    verdicts = Guard(options).judge(scene.candidates, again)
    assert len(verdicts) == len(given_lines)
    for (before, after, _, _, told), verdict in zip(given_lines, verdicts, strict=True):
        assert verdict.evidence["told"] == (before if told is None else told)  # in order
        assert "similarity" in verdict.evidence
        assert verdict.applied or verdict.reason
        if verdict.applied:
            assert "reading" in verdict.evidence["witnesses"]
            assert ("blind" in verdict.evidence["witnesses"]) == (asked or complete)
            assert not never or before == after
    assert again.asked == sorted(again.asked)


def test_thresholds_out_of_range() -> None:
    for wrong in (
        {"min_confidence": 1.5},
        {"max_doubt": -0.1},
        {"min_told": 1.1},
        {"min_proof": -0.1},
        {"min_likeness": -2.0},
        {"blind_steps": 0},
        {"without_reader": "guess"},
    ):
        with pytest.raises(InputError, match="guard"):
            GuardOptions(**wrong)


def test_in_the_restorer() -> None:
    """The stub's restorations look like their inputs; the reader reads the same everywhere, and is sure or not."""

    class Sure(KnowingReader):
        def read(self, images: Sequence[Picture]) -> list[LineReading]:
            return [reading(self.text) for _ in images]

    images = [draw_line(str(place), 24, 90) for place in range(3)]
    loose = GuardOptions(min_similarity=-1.0, min_column=-1.0, min_confidence=0.95)
    unsure, sure = (
        Restorer(stub_bundle(), StubExecutor(), one, guard=Guard(loose)) for one in (KnowingReader(), Sure())
    )
    for result in unsure(images, steps=2):
        assert (result.applied, result.cause, result.evidence["objection"]) == (False, "guard", "confidence")
        assert result.image.shape == (96, 360, 3)
    assert all(result.applied and not result.reason for result in sure(images, steps=2))
    open_to_all = replace(loose, without_reader="picture")
    alone = Restorer(stub_bundle(), StubExecutor(), None, guard=Guard(open_to_all))(images, steps=1)
    assert all(result.applied and PICTURE_ONLY in result.reason for result in alone)
