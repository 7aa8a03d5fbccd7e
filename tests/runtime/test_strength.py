"""How strong a restoration shows: a share of it, the rest is the enlarged input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import Gate, InputError, Restorer
from runtime.result import enlarged
from tests.runtime.helpers import StubExecutor, draw_line, stub_bundle, stub_restorer
from textsr.checkpoint.stated import stated_preset
from textsr.config import TINY
from textsr.errors import BundleError


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(6, 60), width=st.integers(6, 300), scale=st.sampled_from([1.0, 2.5, 4.0]),
    strength=st.floats(0.05, 1.0),
)  # fmt: skip
def test_it_is_that_share_of_the_restored_line_of_any_shape(
    height: int, width: int, scale: float, strength: float
) -> None:
    image = draw_line("Hello 42", height, width)
    restorer = stub_restorer()
    (whole,) = restorer([image], scale=scale, gate=Gate.off(), strength=1.0)
    (part,) = restorer([image], scale=scale, gate=Gate.off(), strength=strength)
    wanted = strength * whole.image.astype(float) + (1 - strength) * enlarged(image, scale).astype(float)
    assert np.abs(part.image.astype(float) - wanted).max() <= (0.51 if not whole.stacked else 2)
    assert part.strength == strength


def test_the_default_is_the_bundles() -> None:
    image = draw_line()
    bundle = stub_bundle()
    half = Restorer(replace(bundle, preset=replace(bundle.preset, default_strength=0.5)), StubExecutor(), None)
    (by_default,) = half([image])
    (asked,) = stub_restorer()([image], strength=0.5)
    (whole,) = stub_restorer()([image])
    np.testing.assert_array_equal(by_default.image, asked.image)
    assert by_default.strength == 0.5
    assert whole.strength == 1
    assert (whole.image != asked.image).any()


def test_what_is_not_restored_has_none() -> None:
    (kept,) = stub_restorer()([np.full((24, 90, 3), 200, np.uint8)], strength=0.5)
    assert (kept.applied, kept.strength) == (False, 0)


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan"), float("inf")])
def test_no_share_is_refused(strength: float) -> None:
    with pytest.raises(InputError, match="strength"):
        stub_restorer()([draw_line()], strength=strength)


def test_a_checkpoint_states_it() -> None:
    assert stated_preset(TINY, {"default_strength": "0.4"}).default_strength == 0.4
    assert stated_preset(TINY, {}).default_strength == 1
    for wrong in ("0", "1.5", "nan", "much"):
        with pytest.raises(BundleError, match="strength"):
            stated_preset(TINY, {"default_strength": wrong})
