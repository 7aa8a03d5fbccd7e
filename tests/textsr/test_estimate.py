"""The linear estimate of z_0 that the network corrects: its gain and deviation, and how the graphs apply it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.textsr import vectors
from textsr.config import COMPACT, PAPER, PRESETS, TINY, Preset, ScheduleConfig
from textsr.errors import InputError
from textsr.graphs import Model, UNetStep, corrected, example_inputs
from textsr.schedule import ResidualShiftSchedule

STD = 0.45
SCHEDULE = ResidualShiftSchedule.from_config(ScheduleConfig(residual_std=STD))
PAPER_LIKE = replace(
    TINY,
    unet=replace(TINY.unet, prior_channels=0, painted_channels=0),
    schedule=replace(TINY.schedule, residual_std=None),
)  # ``paper`` itself is too large for a unit test


def at(*etas: float) -> NDArray[np.float64]:
    """(len(etas), 2): gain and deviation at shares of the residual that no preset has."""
    return ResidualShiftSchedule(np.sqrt(np.array(etas)), SCHEDULE.kappa, STD).estimates


def test_estimates_are_the_least_squares_of_many_draws() -> None:
    rng, count = np.random.default_rng(0), 200_000
    residual, noise = STD * rng.standard_normal(count), rng.standard_normal(count)  # z_0 - z_y, eps
    assert SCHEDULE.estimates.shape == (18, 2)
    for eta, (gain, deviation) in zip(SCHEDULE.etas, SCHEDULE.estimates, strict=True):
        seen = (1 - eta) * residual + SCHEDULE.kappa * np.sqrt(eta) * noise  # z_t - z_y
        fitted = (seen @ residual) / (seen @ seen)
        # a coefficient near zero is known to about deviation / (rms of what is seen * sqrt(count))
        chance = 4 * deviation / (np.sqrt(np.mean(seen**2)) * np.sqrt(count))
        assert gain == pytest.approx(fitted, rel=0.02, abs=chance)
        assert deviation == pytest.approx(np.std(residual - fitted * seen), rel=0.02)
        assert 0 <= gain <= 1
        assert 0 < deviation < STD


def test_estimates_at_the_ends_and_between() -> None:
    gains, deviations = at(1e-12, 0.1, 0.5, 1 - 1e-9).T
    assert gains[0] == pytest.approx(1, abs=1e-6)
    assert deviations[0] == pytest.approx(0, abs=1e-5)
    assert gains[-1] == pytest.approx(0, abs=1e-6)
    assert deviations[-1] == pytest.approx(STD, rel=1e-6)
    assert (np.diff(gains) < 0).all()
    assert (np.diff(deviations) > 0).all()


def test_a_schedule_without_residual_std_has_no_estimate() -> None:
    schedule = ResidualShiftSchedule.from_config(PAPER.schedule)
    with pytest.raises(InputError, match="residual_std"):
        _ = schedule.estimates


@pytest.mark.parametrize(("preset", "size"), [(PAPER, 4), (COMPACT, 6), (TINY, 6)], ids=lambda value: str(value)[:12])
def test_constants_hold_the_estimate_where_there_is_one(preset: Preset, size: int) -> None:
    schedule = ResidualShiftSchedule.from_config(preset.schedule)
    for step in schedule.steps(5):
        assert step.constants().shape == (size,)
        assert step.constants().dtype == np.float32
        if size == 6:
            np.testing.assert_array_equal(step.constants()[4:], schedule.estimates[step.t].astype(np.float32))


@pytest.mark.parametrize(("preset", "size"), [(PAPER_LIKE, 4), (TINY, 6)], ids=["paper", "tiny"])
def test_example_inputs_hold_the_estimate_where_there_is_one(preset: Preset, size: int) -> None:
    arrays = example_inputs(Model(preset), "unet_step")
    assert arrays["constants"].shape == (size,)
    assert ("z_y" in arrays) == (size == 6)


def step_graph(preset: Preset) -> tuple[UNetStep, dict[str, torch.Tensor]]:
    """The step of a model filled by name, and its example inputs."""
    model = vectors.fill(Model(preset))
    assert isinstance(model, Model)
    arrays = example_inputs(model, "unet_step", batch=1)
    return UNetStep(model).eval(), {name: torch.from_numpy(array) for name, array in arrays.items()}


@torch.no_grad()
def test_a_zero_network_returns_the_linear_estimate() -> None:
    graph, given = step_graph(TINY)
    filled = graph(*given.values())[1]
    torch.nn.init.zeros_(graph.unet.out[2].weight)  # type: ignore[arg-type]
    torch.nn.init.zeros_(graph.unet.out[2].bias)  # type: ignore[arg-type]
    z_prev, z0_hat = graph(*given.values())
    _, coef_zt, coef_z0, std, gain, _ = given["constants"]
    expected = given["z_y"] + gain * (given["z_t"] - given["z_y"])
    torch.testing.assert_close(z0_hat, expected)
    torch.testing.assert_close(z_prev, coef_zt * given["z_t"] + coef_z0 * expected + std * given["noise"])
    assert (filled - expected).std() > 0.01


@torch.no_grad()
def test_without_estimate_the_network_gives_z_0_itself() -> None:
    graph, given = step_graph(PAPER_LIKE)
    given_to_unet = (given[name] for name in ("t", "lq", "c_cond", "glyphs"))
    output = graph.unet(given["constants"][0] * given["z_t"], *given_to_unet, modulations=given["modulations"])
    torch.testing.assert_close(graph(*given.values())[1], output)


@pytest.mark.parametrize("t", range(18))
def test_the_true_correction_gives_z_0_and_has_deviation_one(t: int) -> None:
    rng, shape, eta = np.random.default_rng(t), (4, 32, 128), SCHEDULE.etas[t]
    z_y, noise = rng.standard_normal(shape), rng.standard_normal(shape)
    z_0 = z_y + STD * rng.standard_normal(shape)
    z_t = z_0 + eta * (z_y - z_0) + SCHEDULE.kappa * np.sqrt(eta) * noise
    gain, deviation = SCHEDULE.estimates[t]
    true = (z_0 - z_y - gain * (z_t - z_y)) / deviation
    assert np.std(true) == pytest.approx(1, abs=0.03)
    found = corrected(*(torch.tensor(value) for value in (z_t, z_y, gain, deviation, true)))
    np.testing.assert_allclose(found.numpy(), z_0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("prior_channels", [0, 3])
def test_a_preset_with_an_estimate_must_show_z_y(prior_channels: int) -> None:
    with pytest.raises(InputError, match=r"residual_std needs prior_channels equal to latent_channels \(4\)"):
        replace(TINY, unet=replace(TINY.unet, prior_channels=prior_channels))


def test_the_presets_say_what_they_do() -> None:
    corrects = {name: preset.schedule.residual_std is not None for name, preset in PRESETS.items()}
    assert corrects == {"paper": False, "compact": True, "painted": True, "tiny": True}
    assert PAPER.unet.prior_channels == 0
