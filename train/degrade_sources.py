"""The three sources of low-resolution lines, and when each comes into play (the paper's curriculum)."""

from __future__ import annotations

import torch
from torch import Tensor

from textsr.config import SCALE
from textsr.errors import InputError
from train.camera import camera
from train.degrade import degrade, degrade_again, small
from train.degrade_ops import Chance, Draws, Seeds

FIRST, SECOND = 10_000 / 400_000, 20_000 / 400_000
"""Ends of the first two phases as shares of the run: 10K and 10K of the paper's 400K steps."""

SOURCES = ("degraded", "camera", "camera degraded")
SMALL = len(SOURCES)
"""The place of lines that are merely small, which come beside these."""


def phase(step_fraction: float) -> int:
    """1 (degraded only), 2 (and camera) or 3 (and camera degraded again). Raises InputError outside [0, 1]."""
    if not 0 <= step_fraction <= 1:
        raise InputError(f"the share of the run that is done must lie in [0, 1], not {step_fraction}")
    return 1 if step_fraction < FIRST else 2 if step_fraction < SECOND else 3


def draw_sources(count: int, step_fraction: float, generator: Chance) -> Tensor:
    """(count,) int64: places in SOURCES, evenly among those of the phase."""
    if isinstance(generator, Seeds):
        return Draws(generator, count).uniform(0.0, float(phase(step_fraction))).long()
    return torch.randint(0, phase(step_fraction), (count,), generator=generator, device=generator.device)


def three_sources(
    hr: Tensor,
    step_fraction: float,
    generator: Chance,
    severity: Tensor | None = None,
    *,
    progressive: bool = True,
    small_share: float = 0.0,
) -> Tensor:
    """Low-resolution lines (B, 3, H/4, W/4) of ``hr`` (B, 3, H, W), both in [0, 1], each from a source of its own.

    ``step_fraction``: share of the run that is done. ``severity`` (B,) in [0, 1], drawn evenly if None. Without
    ``progressive`` all come from the camera, the real lines' stand-in, at every step (the paper's ablation). A line in
    ``small_share`` of them has none of these, but is merely small (`train.degrade.small`).
    With `Seeds` every sample depends on its own seed alone, but for rounding that differs with the size of a batch.
    """
    sources = draw_sources(len(hr), step_fraction, generator)
    if not progressive:
        sources = torch.ones_like(sources)
    if small_share:
        sources = torch.where(_shares(len(hr), generator, stream=6) < small_share, SMALL, sources)
    if severity is None:
        severity = _shares(len(hr), generator, stream=4)
    lq = hr.new_empty(len(hr), 3, hr.shape[2] // SCALE, hr.shape[3] // SCALE)
    real = (sources == 1) | (sources == 2)
    synthetic, real, little = (torch.nonzero(found)[:, 0] for found in (sources == 0, real, sources == SMALL))
    if len(synthetic):
        lq[synthetic] = degrade(hr[synthetic], _of(generator, synthetic), severity[synthetic])
    if len(real):
        lq[real] = camera(hr[real], _of(generator, real), severity[real])
    if len(little):
        lq[little] = small(hr[little], _of(generator, little), severity[little])
    twice = torch.nonzero(sources == 2)[:, 0]
    if len(twice):
        lq[twice] = degrade_again(lq[twice], _of(generator, twice), severity[twice])
    return lq


def _of(chance: Chance, places: Tensor) -> Chance:
    """A batch's generator serves any part of it; seeds go with their samples."""
    return chance.pick(places) if isinstance(chance, Seeds) else chance


def _shares(count: int, chance: Chance, stream: int) -> Tensor:
    """(count,) drawn evenly from [0, 1)."""
    if isinstance(chance, Seeds):
        return Draws(chance, count, stream=stream).uniform()
    return torch.rand(count, generator=chance, device=chance.device)
