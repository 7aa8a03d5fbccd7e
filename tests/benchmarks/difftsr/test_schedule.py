"""DDIM steps against a computation of their own, written out in float64 from the equations."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.difftsr.sampler import Options, ddim_update
from benchmarks.difftsr.schedule import ddim_steps, times
from textsr.errors import InputError


def abar(t: int) -> float:
    """Product of 1 - beta up to and with t, beta's root even between sqrt(.0015) and sqrt(.0205)."""
    low, high = math.sqrt(0.0015), math.sqrt(0.0205)
    return math.prod(1 - (low + (high - low) * i / 999) ** 2 for i in range(t + 1))


def test_the_released_times() -> None:
    assert times(200) == tuple(range(996, 0, -5))
    assert times(20) == tuple(range(951, 0, -50))
    assert times(1) == (1,)
    assert times(1000) == tuple(range(999, -1, -1))


@given(st.integers(1, 1000))
def test_any_number_of_steps(steps: int) -> None:
    kept = times(steps)
    assert len(kept) == steps
    assert kept[0] <= 999
    assert kept[-1] in (0, 1)
    gaps = {a - b for a, b in pairwise(kept)}
    assert not gaps or (min(gaps) > 0 and max(gaps) - min(gaps) <= 1)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1, 7, 20, 200]), st.floats(0, 1), st.data())
def test_an_update_is_equation_12(steps: int, eta: float, data: st.DataObject) -> None:
    made = ddim_steps(steps, eta)
    place = data.draw(st.integers(0, steps - 1))
    step = made[place]
    assert step.index == steps - 1 - place
    now, before = abar(step.t), abar(made[place + 1].t) if place + 1 < steps else abar(0)
    rng = np.random.default_rng(place)
    z, eps, noise = rng.standard_normal((3, 2, 3, 4, 5))
    sigma = eta * math.sqrt((1 - before) / (1 - now)) * math.sqrt(1 - now / before)
    x0 = (z - math.sqrt(1 - now) * eps) / math.sqrt(now)
    expected = math.sqrt(before) * x0 + math.sqrt(1 - before - sigma**2) * eps + sigma * noise
    arrays = [torch.from_numpy(array) for array in (z, eps, noise)]
    updated = ddim_update(arrays[0], arrays[1], arrays[2], step)
    np.testing.assert_allclose(updated.numpy(), expected, rtol=1e-9, atol=1e-9)
    single = ddim_update(arrays[0].float(), arrays[1].float(), arrays[2].float(), step)
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 3, 20, 200, 1000])
def test_a_perfect_denoiser_leads_back(steps: int) -> None:
    rng = np.random.default_rng(steps)
    x0, noise = (torch.from_numpy(rng.standard_normal((1, 3, 4, 5))) for _ in range(2))
    made = ddim_steps(steps, 0.0)
    first = abar(made[0].t)
    z = math.sqrt(first) * x0 + math.sqrt(1 - first) * noise
    for step in made:
        now = abar(step.t)
        eps = (z - math.sqrt(now) * x0) / math.sqrt(1 - now)
        z = ddim_update(z, eps, torch.full_like(z, 1e6), step)  # eta 0 takes no noise, however large
    if steps == 1000:
        end = x0
    else:  # the release stops at time 0, which still has a little noise
        end = math.sqrt(abar(0)) * x0 + math.sqrt(1 - abar(0)) * noise
        assert float((z - x0).abs().max()) < 0.04 * float(noise.abs().max()) + 0.001 * float(x0.abs().max())
    torch.testing.assert_close(z, end, rtol=1e-8, atol=1e-8)


def test_values_out_of_range_are_refused() -> None:
    for steps in (0, -1, 1001):
        with pytest.raises(InputError, match="from 1 to 1000"):
            Options(steps)
    for eta in (-0.1, 1.5, math.nan):
        with pytest.raises(InputError, match="eta"):
            Options(eta=eta)
    assert (Options().steps, Options().eta, Options().text_diffusion) == (200, 0.2, False)
