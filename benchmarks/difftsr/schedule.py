"""Noise schedule of DiffTSR's image diffusion and its DDIM steps (Song et al. 2021), as float64 tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textsr.errors import InputError

TIMES = 1000
"""Steps that DiffTSR was trained on."""


def cumulative() -> NDArray[np.float64]:
    """(1000,) abar_t, the running product of 1 - beta_t; sqrt(beta) runs evenly from sqrt(.0015) to sqrt(.0205)."""
    betas = np.linspace(np.sqrt(0.0015), np.sqrt(0.0205), TIMES, dtype=np.float64) ** 2
    return np.asarray(np.cumprod(1.0 - betas), dtype=np.float64)


@dataclass(frozen=True)
class DDIMStep:
    """One reverse step at trained time ``t`` (equation 12 of Song et al.), ``index`` counting down to 0.

    z_prev = sqrt(abar_prev) x0 + sqrt(1 - abar_prev - sigma^2) eps + sigma noise, where
    x0 = (z_t - sqrt(1 - abar) eps) / sqrt(abar) is not clipped.
    """

    t: int
    index: int
    abar: float
    abar_prev: float
    sigma: float

    def coefficients(self) -> tuple[float, float, float]:
        """Factors of z_t, eps and noise: the step is linear in the three."""
        kept = np.sqrt(self.abar_prev / self.abar)
        direction = np.sqrt(1.0 - self.abar_prev - self.sigma**2)
        return float(kept), float(direction - kept * np.sqrt(1.0 - self.abar)), self.sigma


def times(steps: int) -> tuple[int, ...]:
    """The trained times of ``steps`` DDIM steps, falling: floor(i 1000 / steps) + 1, so 996, 991, .., 1 for 200.

    A thousand steps take every time, 999 to 0. Raises InputError outside 1..1000.
    """
    if not 1 <= steps <= TIMES:
        raise InputError(f"DDIM steps must be from 1 to {TIMES}, not {steps}")
    first = 1 if steps < TIMES else 0
    return tuple(i * TIMES // steps + first for i in reversed(range(steps)))


def ddim_steps(steps: int, eta: float) -> list[DDIMStep]:
    """The steps from noise to image; sigma^2 = eta^2 (1 - abar_prev) / (1 - abar) (1 - abar / abar_prev), equation 16.

    As in the release, the last step ends at time 0 and not at abar = 1, unless it starts there (1000 steps).
    Raises InputError for ``steps`` outside 1..1000 or ``eta`` outside 0..1.
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta must be from 0 (deterministic) to 1, not {eta}")
    abar, kept = cumulative(), times(steps)
    before = [abar[t] for t in kept[1:]] + [abar[0] if kept[-1] else 1.0]
    made = []
    for place, (t, previous) in enumerate(zip(kept, before, strict=True)):
        sigma = eta * np.sqrt((1 - previous) / (1 - abar[t]) * (1 - abar[t] / previous))
        made.append(DDIMStep(t, steps - 1 - place, float(abar[t]), float(previous), float(sigma)))
    return made
