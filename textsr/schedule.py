"""Noise schedules as float64 tables: residual shift for latents (ResShift), multinomial for tokens (DiffTSR)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from textsr.config import ScheduleConfig
from textsr.errors import InputError

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]

LOG_ZERO = float(np.log(1e-30))
"""The logarithm that stands for probability zero: DiffTSR clamps one-hot vectors at 1e-30."""

GUARD = 1e-40
"""Added to 1 - alpha before its logarithm, as DiffTSR does."""


@dataclass(frozen=True)
class Step:
    """One reverse step z_s = coef_zt * z_t + coef_z0 * z0_hat + std * noise, from step ``t`` to the next kept step.

    ``input_scale`` multiplies z_t before the network. At the last step coef_zt and std are 0 and coef_z0 is 1.
    ``estimate``: (gain, deviation) of `ResidualShiftSchedule.estimates` where the preset has one.
    """

    t: int
    input_scale: float
    coef_zt: float
    coef_z0: float
    std: float
    estimate: tuple[float, ...] = ()

    def constants(self) -> Float32:
        """The graph input ``constants``: float32 (4,) = [input_scale, coef_zt, coef_z0, std]; (6,) with `estimate`."""
        return np.array([self.input_scale, self.coef_zt, self.coef_z0, self.std, *self.estimate], dtype=np.float32)


@dataclass(frozen=True)
class ResidualShiftSchedule:
    """z_t = z_0 + eta_t (z_y - z_0) + kappa sqrt(eta_t) eps for t = 0..T-1 (Yue et al. 2024, equations 1 to 10).

    sqrt(eta_i) = s0 * (end / s0) ** ((i / (T - 1)) ** power), s0 = min(min_noise / kappa, min_noise).
    """

    sqrt_etas: Float64
    kappa: float
    residual_std: float | None = None

    @classmethod
    def from_config(cls, config: ScheduleConfig) -> ResidualShiftSchedule:
        """The table of a preset. Raises InputError when fewer than two steps are asked for."""
        if config.steps < 2:
            raise InputError(f"a residual-shift schedule needs at least 2 steps, not {config.steps}")
        start = min(config.min_noise / config.kappa, config.min_noise)
        place = np.arange(config.steps, dtype=np.float64) / (config.steps - 1)
        return cls(start * (config.end / start) ** place**config.power, config.kappa, config.residual_std)

    def __len__(self) -> int:
        """T, the number of trained steps."""
        return len(self.sqrt_etas)

    @cached_property
    def etas(self) -> Float64:
        """(T,) shares of the residual z_y - z_0, rising from nearly 0 to nearly 1."""
        return self.sqrt_etas**2

    @property
    def prior_std(self) -> float:
        """Deviation of the prior z_T = z_y + kappa sqrt(eta_T) eps."""
        return self.kappa * float(self.sqrt_etas[-1])

    @cached_property
    def input_scales(self) -> Float64:
        """(T,) factors 1 / sqrt(eta_t kappa^2 + 1) on z_t before the network."""
        return 1.0 / np.sqrt(self.etas * self.kappa**2 + 1.0)

    @cached_property
    def estimates(self) -> Float64:
        """(T, 2): gain g and deviation s of the best linear estimate of z_0 from z_t and z_y.

        z_t - z_y = (1 - eta)(z_0 - z_y) + kappa sqrt(eta) eps, so with r the deviation of z_0 - z_y and
        v = (1 - eta)^2 r^2 + kappa^2 eta: z_0 = z_y + g (z_t - z_y) + s F, g = (1 - eta) r^2 / v and
        s = r kappa sqrt(eta / v). The network gives F, of deviation 1 at every step: the preconditioning of
        Karras et al. 2022 for a residual shift. Raises InputError for a schedule without ``residual_std``.
        """
        if self.residual_std is None:
            raise InputError("this schedule has no residual_std: its network predicts z_0 itself")
        variance = self.residual_std**2
        total = (1 - self.etas) ** 2 * variance + self.kappa**2 * self.etas
        gains = (1 - self.etas) * variance / total
        return np.stack([gains, self.residual_std * self.kappa * np.sqrt(self.etas / total)], axis=1)

    def kept(self, count: int) -> tuple[int, ...]:
        """``count`` of the T trained steps, evenly spaced with the first and the last, in falling order.

        One step keeps only T-1. Raises InputError when ``count`` is outside 1..T.
        """
        if not 1 <= count <= len(self):
            raise InputError(f"steps must be from 1 to {len(self)}, not {count}")
        if count == 1:
            return (len(self) - 1,)
        return tuple(int(t) for t in np.rint(np.linspace(len(self) - 1, 0, count)))

    def steps(self, count: int | None = None) -> list[Step]:
        """The reverse steps over ``count`` kept etas (default: all T), each with its trained t.

        With s the next kept step, a = eta_t - eta_s: mean = eta_s/eta_t z_t + a/eta_t z0_hat and variance
        kappa^2 eta_s/eta_t a; after the last there is s = -1 with eta = 0, so it returns z0_hat.
        """
        return list(self._steps(self.kept(len(self) if count is None else count)))

    def _steps(self, kept: tuple[int, ...]) -> Iterator[Step]:
        for t, s in zip(kept, (*kept[1:], None), strict=True):
            eta_t = self.etas[t]
            eta_s = 0.0 if s is None else self.etas[s]
            shift = eta_t - eta_s
            std = self.kappa * np.sqrt(eta_s / eta_t * shift)
            scale = float(self.input_scales[t])
            estimate = () if self.residual_std is None else tuple(float(value) for value in self.estimates[t])
            yield Step(t, scale, float(eta_s / eta_t), float(shift / eta_t), float(std), estimate)


def _log1mexp(log: Float64) -> Float64:
    return np.log(1.0 - np.exp(log) + GUARD)


@dataclass(frozen=True)
class CategoricalSchedule:
    """Multinomial diffusion over K symbols (Hoogeboom et al. 2021) with DiffTSR's cosine table of 1000 steps.

    f(x) = cos^2((x / 1001 + .008) / 1.008 * pi / 2) at x = linspace(0, 1001, 1001);
    alpha_t = sqrt(clip(f_{t+1} / f_t, .001, 1)), abar_t its running product.
    """

    symbols: int
    time_steps: int = 1000

    @cached_property
    def log_alpha(self) -> Float64:
        """(1000,) log alpha_t."""
        n = self.time_steps + 1
        x = np.linspace(0, n, n, dtype=np.float64)
        f = np.cos((x / n + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.log(np.sqrt(np.clip(f[1:] / f[:-1], 0.001, 1.0)))

    @cached_property
    def log_cumulative(self) -> Float64:
        """(1000,) log abar_t."""
        return np.cumsum(self.log_alpha)

    @cached_property
    def log_one_minus_alpha(self) -> Float64:
        """(1000,) log(1 - alpha_t)."""
        return _log1mexp(self.log_alpha)

    @cached_property
    def log_one_minus_cumulative(self) -> Float64:
        """(1000,) log(1 - abar_t)."""
        return _log1mexp(self.log_cumulative)

    def step_constants(self, t: int, s: int, *, frozen_last: bool = False) -> Float32:
        """The graph input ``constants`` of a text step from time ``t`` to ``s`` < t; s = -1 is the last step.

        float32 (4,) = [log alpha_{t|s}, log((1 - alpha_{t|s}) / K), log abar_s, log((1 - abar_s) / K)], alpha_{t|s} =
        abar_t / abar_s. The last step takes the prediction alone, as Algorithm 2 of the paper says: the first bracket
        is the same for all symbols. ``frozen_last`` keeps the one-step term there, as DiffTSR's released code does.
        """
        if not -1 <= s < t < self.time_steps:
            raise InputError(f"a text step goes from t to an earlier s >= -1 below {self.time_steps}, not {t} to {s}")
        log_k = np.log(self.symbols)
        if s < 0:
            first = (
                (self.log_cumulative[t], self._uniform(self.log_cumulative[t])) if frozen_last else (LOG_ZERO, -log_k)
            )
            return np.array([*first, 0.0, LOG_ZERO], dtype=np.float32)
        ratio = self.log_cumulative[t] - self.log_cumulative[s]
        reached = self.log_cumulative[s]
        return np.array([ratio, self._uniform(ratio), reached, self._uniform(reached)], dtype=np.float32)

    def _uniform(self, log: np.float64) -> float:
        return float(np.log(1.0 - np.exp(log) + GUARD) - np.log(self.symbols))


def text_times(schedule: ResidualShiftSchedule, kept: tuple[int, ...], start: int = 199) -> tuple[int, ...]:
    """The kept steps 0..T-1 on the text modules' time scale: T-1 becomes ``start``, 0 becomes 0, evenly between.

    DiffTSR samples text over times 199..0 (of 1000); T = 18 raw steps would treat the read text as nearly noise.
    """
    last = len(schedule) - 1
    return tuple(round(t * start / last) for t in kept)


def all_text_times(config: ScheduleConfig) -> Float32:
    """(T,) the times of all trained steps: the rows of what ``text_time_condition`` makes."""
    schedule = ResidualShiftSchedule.from_config(config)
    return np.array(text_times(schedule, tuple(range(len(schedule))), config.text_start), np.float32)
