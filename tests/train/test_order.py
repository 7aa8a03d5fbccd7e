"""The order of samples, and its shares."""

from __future__ import annotations

import pickle
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from train.order import Order, Shares


@given(lines=st.integers(1, 50), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10**6))
def test_every_round_meets_every_line_once(lines: int, seed: int, epoch: int) -> None:
    order = Order(lines, seed)
    assert sorted(order[epoch * lines + place] for place in range(lines)) == list(range(lines))


def test_rounds_and_seeds_differ_and_nothing_else_does() -> None:
    order = Order(40, 1)
    first, second = ([order[epoch * 40 + place] for place in range(40)] for epoch in (0, 1))
    assert first != second
    assert first != [Order(40, 2)[place] for place in range(40)]
    assert [order[place] for place in reversed(range(40))] == first[::-1]  # whatever was asked before
    assert [pickle.loads(pickle.dumps(order))[place] for place in range(40)] == first


@given(start=st.integers(0, 10**9), size=st.integers(1, 5), world=st.integers(1, 4), steps=st.integers(1, 4))
def test_processes_share_the_order_of_one(start: int, size: int, world: int, steps: int) -> None:
    ranks = [list(islice(Shares(start, size, rank, world), steps)) for rank in range(world)]
    together = [sample for step in zip(*ranks, strict=True) for part in step for sample in part]
    assert together == [sample for part in islice(Shares(start, size * world), steps) for sample in part]
    assert together == list(range(start, start + size * world * steps))
