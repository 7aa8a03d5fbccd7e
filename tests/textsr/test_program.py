"""Programs of the loop's calls: branches, waits and lives, compared with their definitions by brute force."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from textsr.program import Call, Get, Program, Put, Run

GRAPHS = ("unet_step", "mom_image", "text_step", "vqgan_decoder")


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Straight programs in which a run reads any values made before it."""
    calls: list[Call] = [Put(0, (1,), "<f4")]
    count = 1
    for graph in draw(st.lists(st.sampled_from(GRAPHS), min_size=1, max_size=12)):
        read = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=3, unique=True))
        made = draw(st.integers(1, 2))
        outputs = tuple((f"o{place}", count + place) for place in range(made))
        calls.append(Run(graph, tuple((f"i{value}", value) for value in read), outputs))
        count += made
    calls.extend(Get(value) for value in draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=3)))
    return Program(tuple(calls))


@given(programs())
def test_waits_are_enough_and_none_is_idle(program: Program) -> None:
    """With streams in order and the waits, a run comes after all that it reads; without any one wait it does not."""

    def before(waits: tuple[int | None, ...]) -> list[set[int]]:
        """For each run the runs that are surely over when it starts; -1 stands for the arrays from the host."""
        found: list[set[int]] = []
        last: dict[bool, set[int]] = {False: {-1}, True: set()}
        for place, run in enumerate(program.runs):
            known = set(last[run.side])
            wait = waits[place]
            if wait is not None:
                known |= {-1} if wait == -1 else found[wait] | {wait}
            found.append(known)
            last[run.side] = known | {place}
        return found

    makers = {0: -1} | {value: place for place, run in enumerate(program.runs) for _, value in run.outputs}

    def right(waits: tuple[int | None, ...]) -> bool:
        over = before(waits)
        return all({makers[value] for _, value in run.inputs} <= over[place] for place, run in enumerate(program.runs))

    assert right(program.waits)
    for place, wait in enumerate(program.waits):
        if wait is not None:
            assert not right((*program.waits[:place], None, *program.waits[place + 1 :]))


@given(programs())
def test_lives_and_branches(program: Program) -> None:
    for value, last in program.last_use.items():
        uses = []
        for place, call in enumerate(program.calls):
            if isinstance(call, Run):
                mine = value in [found for _, found in (*call.inputs, *call.outputs)]
                uses += [(place, call.side)] if mine else []
            elif call.value == value:
                uses.append((place, False))
        assert last == uses[-1][0]
        assert program.branches[value] == {side for _, side in uses}


def test_what_cannot_be_captured() -> None:
    put, run, get = Put(0, (1,), "<f4"), Run("unet_step", (("a", 0),), (("b", 1),)), Get(1)
    assert not Program((put, run, get, get)).refusal()
    assert "no graph" in Program((put, get)).refusal()
    assert "asked back" in Program((put, run)).refusal()
    assert "after" in Program((put, run, get, put)).refusal()
    assert "device" in Program((Put(0, (), ""), run, get)).refusal()
    assert Program((put, run, get, get)).gets == (1,)
