"""How a line is shown is chosen line by line: as the proofreader reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime import Gate, Restorer, Result
from runtime.deadline import Deadline
from runtime.events import Event
from runtime.judging import Again, Candidate, Verdict
from runtime.options import Way
from runtime.proofreading import AS_IS, BETTER, OTHERS, SURE, as_told
from runtime.result import enlarged
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_bundle
from textsr.reading import LineReading, spread

TEXT = "Hello 42"
DEFAULT = Way(0.7, 0.75)
ALL = (DEFAULT, *OTHERS, AS_IS)
IMAGE = draw_line(TEXT)


class Proofreader:
    """Reads ``text``, or another where it is sure by 0, as sure as ``sure`` has it for the pictures shown, in order."""

    name = "proofreader"

    def __init__(self, *sure: float, text: str = TEXT) -> None:
        self.sure, self.text, self.seen = sure, text, list[NDArray[np.uint8]]()

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        readings = []
        for image in images:
            sure = self.sure[len(self.seen)]
            self.seen.append(image)
            text = self.text if sure else "something else"
            readings.append(LineReading(text, (1.0, *[sure or 1.0] * (len(text) - 1)), spread(text)))
        return readings


class _Watching:
    """A guard that lets all through."""

    def __init__(self, judged: list[Candidate]) -> None:
        self.judged = judged

    def judge(self, candidates: Sequence[Candidate], again: Again) -> list[Verdict]:
        self.judged.extend(candidates)
        return [Verdict(True)] * len(candidates)


def opened(proofreader: Proofreader | None, text: str = TEXT) -> Restorer:
    bundle = stub_bundle()
    preset = replace(bundle.preset, default_strength=DEFAULT.strength, default_paint=DEFAULT.paint)
    return Restorer(replace(bundle, preset=preset), StubExecutor(), KnowingReader(text), proofreader=proofreader)


def shown(way: Way) -> Result:
    """The line in that way, by asking for it."""
    return opened(None)([IMAGE], strength=way.strength, paint=way.paint)[0]


@pytest.mark.parametrize("place", range(len(OTHERS) + 1))
def test_the_first_way_that_leaves_no_doubt_is_taken(place: int) -> None:
    proofreader = Proofreader(*[0.9] * place, SURE, 1.0)
    (result,) = opened(proofreader)([IMAGE])
    assert (result.strength, result.paint) == (ALL[place].strength, ALL[place].paint)
    assert len(proofreader.seen) == place + 1
    np.testing.assert_array_equal(result.image, shown(ALL[place]).image)
    np.testing.assert_array_equal(proofreader.seen[-1], result.image)
    assert result.applied


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.55, 0.9, 0.95, 0.998]), min_size=5, max_size=5))
def test_where_all_leave_doubt_the_surest_is_taken(sure: list[float]) -> None:
    (result,) = opened(Proofreader(*sure))([IMAGE])
    restored = max(sure[:-1])
    if sure[-1] > 0 and sure[-1] - BETTER > restored:
        assert (result.applied, result.cause) == (False, "proof")
        np.testing.assert_array_equal(result.image, enlarged(IMAGE, 4))
    elif not any(sure):
        assert (result.strength, result.paint) == (DEFAULT.strength, 0)
        np.testing.assert_array_equal(result.image, shown(Way(DEFAULT.strength, 0.0)).image)
    elif restored:
        assert (result.strength, result.paint) == astuple(ALL[sure.index(restored)])


def astuple(way: Way) -> tuple[float, float]:
    return way.strength, way.paint


def test_lines_do_not_meddle_with_each_other() -> None:
    """Each round shows the lines that are still in doubt, in order."""
    rounds = [1.0, 0.9, 0.9], [0.9, 1.0], [1.0]
    results = opened(Proofreader(*[sure for one in rounds for sure in one]))([IMAGE] * 3)
    assert [(one.strength, one.paint) for one in results] == [astuple(way) for way in (ALL[0], ALL[2], ALL[1])]


@pytest.mark.parametrize("asked", [{"strength": 0.7}, {"paint": 0.75}, {"strength": 0.7, "paint": 0.75}])
def test_what_the_caller_says_is_done(asked: dict[str, float]) -> None:
    proofreader = Proofreader()
    (result,) = opened(proofreader)([IMAGE], **asked)  # type: ignore[arg-type]
    assert (result.strength, result.paint) == astuple(DEFAULT)
    assert not proofreader.seen


def test_the_guard_is_told_how_surely_it_is_read_in_any_case() -> None:
    judged = list[Candidate]()
    restorer = opened(Proofreader(0.9, 0.0))
    restorer.guard = _Watching(judged)
    (sure,), (other,) = (restorer([IMAGE], strength=0.5) for _ in range(2))
    assert [candidate.proof for candidate in judged] == [0.9, 0.0]
    assert (sure.strength, sure.paint) == (other.strength, other.paint) == (0.5, DEFAULT.paint)


def test_a_caller_may_ask_for_the_input() -> None:
    (result,) = opened(Proofreader())([IMAGE], strength=0.0, paint=0.0)
    assert (result.applied, result.cause, result.strength, result.paint) == (True, "", 0, 0)
    np.testing.assert_array_equal(result.image, enlarged(IMAGE, 4))


def test_batches_and_what_they_took() -> None:
    """One event a batch, and the batch's seconds divided among its lines."""
    events = list[Event]()
    restorer = opened(Proofreader(0.9, 1.0, 1.0, 1.0))  # the second line of the first batch needs one look only
    restorer.on_event = events.append
    results = restorer([IMAGE] * 3, batch_size=2)
    assert [one.paint for one in results] == [OTHERS[0].paint, DEFAULT.paint, DEFAULT.paint]
    told = [event for event in events if event.kind == "proofread"]
    assert [event.lines for event in told] == [2, 1]
    assert results[0].timings["proofread"] == results[1].timings["proofread"] == told[0].seconds / 2 > 0
    assert results[2].timings["proofread"] == told[1].seconds


def test_a_line_that_says_nothing_is_not_asked_about() -> None:
    proofreader = Proofreader()
    (result,) = opened(proofreader, "")([IMAGE])
    assert (result.applied, result.strength) == (True, DEFAULT.strength)
    assert not proofreader.seen


def test_a_text_of_the_callers_is_what_is_looked_for() -> None:
    proofreader = Proofreader(1.0, text="Given 17")
    (result,) = opened(proofreader)([IMAGE], ["Given 17"])
    assert len(proofreader.seen) == 1
    assert (result.text, result.paint) == ("Given 17", DEFAULT.paint)


def test_a_bundle_that_paints_nothing_has_nothing_to_choose() -> None:
    proofreader = Proofreader()
    bundle = stub_bundle()
    (result,) = Restorer(bundle, StubExecutor(), KnowingReader(TEXT), proofreader=proofreader)([IMAGE])
    assert (result.strength, result.paint) == (1, 0)
    assert not proofreader.seen


def test_tall_and_scaled_lines_are_proofread_upright() -> None:
    tall = np.ascontiguousarray(np.rot90(draw_line(TEXT, 24, 160)))
    proofreader = Proofreader(*[0.9] * 3, 1.0, text=TEXT)
    (result,) = opened(proofreader)([tall], scale=2.0, gate=Gate.off())
    assert result.image.shape == (320, 48, 3)
    assert all(picture.shape[1] > picture.shape[0] for picture in proofreader.seen)
    assert (result.strength, result.paint) == astuple(ALL[3])


def test_the_guard_judges_what_is_shown() -> None:
    judged = list[Candidate]()
    restorer = opened(Proofreader(0.9, 0.9, 1.0, 0.1, 0.1, 0.1, 0.1, 0.9))
    restorer.guard = _Watching(judged)
    (result,), (as_it_came,) = restorer([IMAGE]), restorer([IMAGE])
    assert as_it_came.cause == "proof"  # nothing to judge
    (candidate,) = judged
    np.testing.assert_array_equal(candidate.restored, result.image)
    assert candidate.proof == 1.0


def test_a_deadline_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no time is left after restoring, the line comes as it is, and says so."""
    now = [0.0]
    monkeypatch.setattr("runtime.restorer.Deadline", partial(Deadline, clock=lambda: now[0]))
    proofreader, kinds = Proofreader(1.0), list[str]()

    def pass_time(event: Event) -> None:
        kinds.append(event.kind)
        now[0] += 60.0 * (event.kind == "restore")

    restorer = opened(proofreader)
    restorer.on_event = pass_time
    (result,) = restorer([IMAGE], deadline_ms=1000)
    assert (result.applied, result.cause) == (False, "deadline")
    assert not proofreader.seen
    assert kinds == ["start", "read", "restore", "call"]


@given(st.text("aBc 12", max_size=6), st.text("abC12", max_size=6), st.floats(0.1, 1.0))
def test_as_told(told: str, read: str, sure: float) -> None:
    found = as_told(LineReading(read, (sure,) * len(read), spread(read)), told)
    same = told.replace(" ", "").lower() == read.lower()
    assert found == (sure if same and read else 0.0)
