"""Profiles: every batch has exactly one, and their shapes are the graph's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.bundle import GraphSpec, TensorSpec
from runtime.engines.profiles import BATCHES, batch_classes, profile_for, profiles, written
from textsr.errors import InputError

GRAPH = GraphSpec(
    "step",
    Path("step.onnx"),
    (
        TensorSpec("prefix", ("B", "L"), "int64"),
        TensorSpec("t", (1,), "float32"),
        TensorSpec("z", ("B", 4, 32), "float32"),
    ),
    (),
)


@given(st.sets(st.integers(1, 64), min_size=1, max_size=5))
def test_profiles_join_without_gaps_and_each_is_best_at_its_class(batches: set[int]) -> None:
    found = profiles(GRAPH, tuple(batches))
    covered = [batch for profile in found for batch in range(profile.first, profile.batch + 1)]
    assert covered == list(range(1, max(batches) + 1))
    for profile in found:
        prefix, z = profile.inputs
        assert (prefix.name, z.name) == ("prefix", "z"), "t has no free axis"
        assert (prefix.least, prefix.best, prefix.most) == (
            (profile.first, 1), (profile.batch, 12), (profile.batch, 24),
        )  # fmt: skip
        assert (z.least, z.best, z.most) == ((profile.first, 4, 32), (profile.batch, 4, 32), (profile.batch, 4, 32))
    for batch in covered:
        profile = found[profile_for(batch_classes(batches), batch)]
        assert profile.first <= batch <= profile.batch


def test_the_default_classes() -> None:
    assert BATCHES == (1, 8, 32)
    assert [profile_for(BATCHES, batch) for batch in (1, 2, 8, 9, 32)] == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("batch", [0, -1, 33])
def test_a_batch_that_fits_no_profile_is_told(batch: int) -> None:
    with pytest.raises(InputError, match=f"batch {batch} fits no profile: the engine was built for 1 to 32"):
        profile_for(BATCHES, batch)


@pytest.mark.parametrize("batches", [(), (0, 8), (5000,)])
def test_bad_classes_are_told(batches: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="from 1 to 4096"):
        batch_classes(batches)


def test_an_unknown_free_axis_is_told() -> None:
    odd = GraphSpec("odd", Path("odd.onnx"), (TensorSpec("x", ("B", "T"), "float32"),), ())
    with pytest.raises(InputError, match="graph odd, input x: free axis T is"):
        profiles(odd)


def test_the_key_holds_every_shape() -> None:
    first, second = (json.loads(written(profiles(GRAPH, batches))) for batches in ((1, 8), (1, 9)))
    assert first != second
    assert first[1] == [["prefix", [2, 1], [8, 12], [8, 24]], ["z", [2, 4, 32], [8, 4, 32], [8, 4, 32]]]
