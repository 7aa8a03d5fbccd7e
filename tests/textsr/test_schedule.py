"""Schedules against published tables and against their own algebra."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.textsr import golden
from textsr.config import ScheduleConfig
from textsr.errors import InputError
from textsr.schedule import CategoricalSchedule, ResidualShiftSchedule, text_times

TRAINED = ((15, 0.04), (4, 0.2), (18, 0.04))
DATA = Path(__file__).parents[1] / "data"


def table(steps: int = 18, min_noise: float = 0.04) -> ResidualShiftSchedule:
    return ResidualShiftSchedule.from_config(ScheduleConfig(steps=steps, min_noise=min_noise))


@golden.needs_golden
@pytest.mark.parametrize(("steps", "min_noise"), TRAINED)
def test_residual_shift_equals_published(steps: int, min_noise: float) -> None:
    vectors, schedule = golden.load("residual_shift_schedule"), table(steps, min_noise)
    taken = schedule.steps()[::-1]
    ours = {
        "sqrt_etas": schedule.sqrt_etas,
        "etas": schedule.etas,
        "posterior_mean_coef1": np.array([step.coef_zt for step in taken]),
        "posterior_mean_coef2": np.array([step.coef_z0 for step in taken]),
        "posterior_variance": np.array([step.std for step in taken]) ** 2,
    }
    for name, values in ours.items():
        np.testing.assert_allclose(values, vectors[f"T{steps}_{name}"], rtol=1e-12, atol=1e-14)


def test_residual_shift_equals_committed() -> None:
    for row in json.loads((DATA / "schedules.json").read_text())["residual_shift"]:
        np.testing.assert_allclose(table(row["steps"], row["min_noise"]).sqrt_etas, row["sqrt_etas"], rtol=1e-12)


@given(st.integers(1, 18))
def test_steps_are_a_subset_that_ends_at_the_prediction(count: int) -> None:
    schedule = table()
    steps = schedule.steps(count)
    times = [step.t for step in steps]
    assert len(steps) == count == len(set(times))
    assert times == sorted(times, reverse=True)
    assert times[0] == 17
    assert count == 1 or times[-1] == 0
    assert (steps[-1].coef_zt, steps[-1].coef_z0, steps[-1].std) == (0.0, 1.0, 0.0)


@given(st.integers(2, 18))
def test_steps_keep_the_marginals(count: int) -> None:
    """z_t drawn from q(z_t | z_0, z_y) goes to q(z_s | z_0, z_y): mean share eta_s and variance kappa^2 eta_s."""
    schedule = table()
    steps = schedule.steps(count)
    for step, later in itertools.pairwise(steps):
        eta_t, eta_s = schedule.etas[step.t], schedule.etas[later.t]
        assert step.coef_zt + step.coef_z0 == pytest.approx(1, abs=1e-12)
        assert step.coef_zt * eta_t == pytest.approx(eta_s, abs=1e-12)
        variance = step.coef_zt**2 * schedule.kappa**2 * eta_t + step.std**2
        assert variance == pytest.approx(schedule.kappa**2 * eta_s, abs=1e-12)


def test_prior_and_input_scale() -> None:
    schedule = table()
    assert schedule.prior_std == pytest.approx(2 * 0.99)
    step = schedule.steps()[0]
    assert step.input_scale == pytest.approx(1 / np.sqrt(0.99**2 * 4 + 1))
    assert step.constants().dtype == np.float32


@pytest.mark.parametrize("count", [0, 19, -1])
def test_steps_out_of_range(count: int) -> None:
    with pytest.raises(InputError, match="from 1 to 18"):
        table().steps(count)


@golden.needs_golden
def test_categorical_tables_equal_published() -> None:
    vectors, schedule = golden.load("difftsr_posterior"), CategoricalSchedule(6736)
    ours = {
        "log_alpha": schedule.log_alpha,
        "log_cumprod_alpha": schedule.log_cumulative,
        "log_1_min_alpha": schedule.log_one_minus_alpha,
        "log_1_min_cumprod_alpha": schedule.log_one_minus_cumulative,
    }
    for name, values in ours.items():
        np.testing.assert_array_equal(values.astype(np.float32), vectors[name])


def test_categorical_equals_committed() -> None:
    rows = json.loads((DATA / "schedules.json").read_text())["categorical"]
    for row in rows:
        constants = CategoricalSchedule(6736).step_constants(row["t"], row["s"])
        np.testing.assert_allclose(constants, row["constants"], rtol=1e-6)


@given(st.integers(1, 999), st.data())
def test_strided_alphas_compose(t: int, data: st.DataObject) -> None:
    s = data.draw(st.integers(0, t - 1))
    schedule = CategoricalSchedule(6736)
    log_alpha, log_other, log_reached, log_rest = schedule.step_constants(t, s).astype(np.float64)
    assert log_alpha + log_reached == pytest.approx(schedule.log_cumulative[t], rel=1e-5, abs=1e-6)
    assert np.exp(log_alpha) + 6736 * np.exp(log_other) == pytest.approx(1, abs=1e-5)
    assert np.exp(log_reached) + 6736 * np.exp(log_rest) == pytest.approx(1, abs=1e-5)


def test_text_times_map_the_scale() -> None:
    schedule = table()
    times = text_times(schedule, schedule.kept(18), 199)
    assert (times[0], times[-1], len(set(times))) == (199, 0, 18)


def test_text_step_must_go_back() -> None:
    with pytest.raises(InputError, match="earlier"):
        CategoricalSchedule(6736).step_constants(5, 5)
