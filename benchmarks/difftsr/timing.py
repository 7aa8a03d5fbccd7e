"""Seconds of DiffTSR's steps with random weights, for `benchmarks.latency`: the cost does not depend on values."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import flops
from benchmarks.difftsr.model import DiffTSR
from benchmarks.difftsr.networks import SIZES
from benchmarks.difftsr.sampler import Options, restore
from textsr.errors import InputError

KEY = b"latency"
"""Of the line's noise."""


@dataclass(frozen=True)
class Round:
    """Seconds of one line: encoding, each step (N,), decoding."""

    encode: float
    steps: NDArray[np.float64]
    decode: float

    @property
    def total(self) -> float:
        """Seconds of encoding, the N steps and decoding."""
        return self.encode + float(self.steps.sum()) + self.decode

    def extrapolated(self, steps: int = flops.DIFFTSR_STEPS) -> float:
        """Seconds that ``steps`` steps would take if each took this round's median."""
        return self.encode + float(np.median(self.steps)) * steps + self.decode


class BaselineClock:
    """DiffTSR ready to be timed: one line at a time, its text kept as read (given) as in the release, or drawn anew."""

    def __init__(
        self,
        steps: int,
        size: str = "full",
        device: str = "cpu",
        threads: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Makes random weights and warms up with one step. Raises InputError for a number of steps outside 1..1000."""
        if size not in SIZES:
            raise InputError(f"unknown size {size!r}: choose one of {', '.join(SIZES)}")
        self.options, self.size = Options(steps), size
        if threads is not None:
            torch.set_num_threads(threads)
        with torch.device(device):  # drawn there, which on a GPU takes no time
            self.model = DiffTSR.random(0, SIZES[size], device=device, dtype=dtype, transocr=False)
        preset, rng = self.model.preset, np.random.default_rng(0)
        self.image = rng.random((1, 3, preset.height, preset.width), np.float32)
        self.tokens = rng.integers(0, preset.symbols, (1, preset.max_chars))
        self.line(1)

    def __call__(self) -> Round:
        """One line."""
        return self._time(self.options)

    def line(self, steps: int, text_diffusion: bool = False) -> Round:
        """One line of other ``steps``, or with the text diffusion, whose seconds count among a step's."""
        return self._time(Options(steps, text_diffusion=text_diffusion))

    def _time(self, options: Options) -> Round:
        seconds: dict[str, list[float]] = {}
        last = time.perf_counter()

        def mark(part: str) -> None:
            nonlocal last
            if self.model.device.type == "cuda":
                torch.cuda.synchronize(self.model.device)
            now = time.perf_counter()
            seconds.setdefault(part, []).append(now - last)
            last = now

        restore(self.model, self.image, self.tokens, [KEY], options, progress=True, mark=mark)
        return Round(seconds["encode"][0], np.array(seconds["step"]), seconds["decode"][0])
