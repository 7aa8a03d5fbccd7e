"""What a restorer tells, and who may have a say: events, the guard, deadlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime import EngineError, Event, Restorer
from runtime.deadline import Cancelled, Deadline, DeadlinePassed
from runtime.judging import Again, Candidate, Verdict
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_bundle
from tests.runtime.test_shapes import TEXT, long_line
from textsr.reading import LineReading


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowExecutor(StubExecutor):
    """Each step of the network takes a second on ``clock``."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.clock.now += graph == "unet_step"
        return super().run(graph, inputs)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("runtime.restorer.Deadline", partial(Deadline, clock=made))
    return made


def slow(clock: Clock, **options: Any) -> Restorer:
    return Restorer(stub_bundle(), SlowExecutor(clock), KnowingReader(), **options)


def lines(count: int) -> list[NDArray[np.uint8]]:
    return [draw_line(str(place), 24, 90) for place in range(count)]


def test_what_is_not_done_in_time_comes_back_as_it_was(clock: Clock) -> None:
    restorer = slow(clock)
    results = restorer(lines(6), steps=3, batch_size=2, deadline_ms=6500)
    assert [result.cause for result in results] == [""] * 4 + ["deadline"] * 2
    assert "6500 ms" in results[5].reason
    assert results[5].image.shape == (96, 360, 3)
    assert results[5].text == "Hello 42"
    assert clock.now == 7  # stopped between the steps of the third batch
    assert all(result.applied for result in restorer(lines(6), steps=3, batch_size=2))


def test_a_deadline_that_is_over_at_once(clock: Clock) -> None:
    class LateReader(KnowingReader):
        def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
            clock.now += 10
            return super().read(images)

    reader = LateReader()
    restorer = Restorer(stub_bundle(), SlowExecutor(clock), reader)
    results = restorer([*lines(5), np.zeros((3, 3), np.uint8)], steps=1, batch_size=2, deadline_ms=5)
    assert [result.cause for result in results] == ["deadline"] * 5 + ["input"]
    assert reader.images == 2


def test_a_long_line_is_done_whole_or_not_at_all(clock: Clock) -> None:
    result = slow(clock)([long_line()], steps=2, batch_size=2, deadline_ms=5000)[0]
    assert result.cause == "deadline"
    assert clock.now == 5


def test_events_count_and_time_the_work(clock: Clock) -> None:
    events: list[Event] = []
    restorer = slow(clock, on_event=events.append)
    results = restorer([*lines(3), long_line(), np.zeros((3, 3), np.uint8)], steps=1, batch_size=4)
    assert [event.kind for event in events[:2]] == ["start", "read"]
    assert events[-1].kind == "call"
    restored = [event for event in events if event.kind == "restore"]
    assert sum(event.pieces for event in restored) == 3 + len(results[3].pieces) == events[-1].pieces
    assert all(event.executor == "stub" and event.running == 1 for event in restored)
    last = events[-1]
    assert (last.lines, last.applied, dict(last.causes), last.running) == (5, 4, {"input": 1}, 0)
    assert last.seconds == len(restored)
    restorer(lines(1), steps=1)
    assert events[-1].call == 2


def test_a_failing_callback_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError("no")

    restorer = Restorer(stub_bundle(), StubExecutor(), KnowingReader(), on_event=fail)
    assert restorer(lines(1), steps=1)[0].applied
    assert "on_event failed" in caplog.text


def test_a_failing_call_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    restorer = Restorer(stub_bundle(), StubExecutor(), KnowingReader(), on_event=events.append)

    def fail(self: StubExecutor, **inputs: object) -> dict[str, object]:
        raise EngineError("broken")

    monkeypatch.setattr(StubExecutor, "vqgan_decoder", fail)
    with pytest.raises(EngineError, match="broken"):
        restorer(lines(1), steps=1)
    assert events[-1].kind == "failed"
    assert events[-1].running == 0


class Doubter:
    """Lets through what has an even place, and keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[Candidate] = []
        self.blind: list[NDArray[np.uint8]] = []

    def judge(self, candidates: Sequence[Candidate], again: Again) -> list[Verdict]:
        self.seen = list(candidates)
        self.blind = again(candidates, [None] * len(candidates), steps=1)
        assert again.reader is not None
        assert len(again.read([candidate.restored for candidate in candidates])) == len(candidates)
        return [Verdict(candidate.place % 2 == 0, "odd", {"place": float(candidate.place)}) for candidate in candidates]


def test_a_guard_decides_what_is_applied() -> None:
    guard, events = Doubter(), list[Event]()
    restorer = Restorer(stub_bundle(), StubExecutor(), KnowingReader(), guard=guard, on_event=events.append)
    images = [*lines(2), long_line(), np.full((30, 60, 3), 9, np.uint8)]
    results = restorer(images, steps=2)
    assert [result.cause for result in results] == ["", "guard", "", "blank"]
    assert results[1].reason == "odd"
    assert results[1].evidence == {"place": 1.0}
    unguarded = restorer(images, steps=2, guarded=False)
    assert unguarded[1].applied
    assert (unguarded[1].image != results[1].image).any()
    assert (unguarded[2].image == results[2].image).all()
    assert sorted(candidate.place for candidate in guard.seen) == [0, 1, 2]
    for candidate, blind in zip(guard.seen, guard.blind, strict=True):
        assert blind.shape == candidate.restored.shape == unguarded[candidate.place].image.shape
        assert candidate.text == "Hello 42"
    assert [(event.lines, event.applied) for event in events if event.kind == "guard"] == [(3, 2)]
    assert "guard" in results[0].timings


def test_restoring_again_with_the_same_text_gives_the_same() -> None:
    class Repeats:
        def judge(self, candidates: Sequence[Candidate], again: Again) -> list[Verdict]:
            same = again(candidates, [candidate.reading for candidate in candidates])
            pairs = zip(same, candidates, strict=True)
            return [Verdict(bool((one == other.restored).all())) for one, other in pairs]

    restorer = Restorer(stub_bundle(), StubExecutor(), None, guard=Repeats())
    texts = [TEXT, "0", ""]
    assert all(result.applied for result in restorer([long_line(), *lines(2)], texts, steps=2, batch_size=3))


def test_a_guard_that_has_no_time_left_lets_nothing_through(clock: Clock) -> None:
    results = slow(clock, guard=Doubter())(lines(2), steps=3, deadline_ms=3500)
    assert [result.cause for result in results] == ["deadline"] * 2


def test_a_guard_that_fails_is_no_guard() -> None:
    class Short:
        def judge(self, candidates: Sequence[Candidate], again: Again) -> list[Verdict]:
            return []

    class Broken:
        def judge(self, candidates: Sequence[Candidate], again: Again) -> list[Verdict]:
            raise ValueError("broken")

    for guard, error in ((Short(), EngineError), (Broken(), ValueError)):
        with pytest.raises(error):
            Restorer(stub_bundle(), StubExecutor(), KnowingReader(), guard=guard)(lines(1), steps=1)


def test_a_deadline_without_end_never_passes() -> None:
    Deadline().check()
    with pytest.raises(DeadlinePassed):
        Deadline(1, lambda: 9.0, 1.0).check()


def test_a_cancelled_call_ends_at_the_next_step(clock: Clock) -> None:
    told: list[str] = []
    restorer = slow(clock, on_event=lambda event: told.append(event.kind))
    with pytest.raises(Cancelled):
        restorer(lines(6), steps=3, batch_size=2, cancelled=lambda: clock.now >= 4)
    assert clock.now == 4, "the first batch takes three seconds, the second was at its first step"
    assert told[-1] == "cancelled"
    assert all(result.applied for result in restorer(lines(2), steps=1, cancelled=lambda: False))
