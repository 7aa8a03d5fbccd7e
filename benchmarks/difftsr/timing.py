"""Seconds of DiffTSR's steps with random weights, for `benchmarks.latency`: the cost does not depend on values."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import flops
from benchmarks.difftsr.model import DiffTSR
from benchmarks.difftsr.networks import SIZES
from benchmarks.difftsr.sampler import Options, restore
from textsr.errors import InputError


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
    """DiffTSR ready to be timed: one line at a time in float32, its text kept as read (given), as in the release."""

    def __init__(self, steps: int, size: str = "full", device: str = "cpu", threads: int | None = None) -> None:
        """Makes random weights and warms up with one step. Raises InputError for a number of steps outside 1..1000."""
        if size not in SIZES:
            raise InputError(f"unknown size {size!r}: choose one of {', '.join(SIZES)}")
        self.options, self.size = Options(steps), size
        if threads is not None:
            torch.set_num_threads(threads)
        self.model = DiffTSR.random(0, SIZES[size], device=device, transocr=False)
        preset, rng = self.model.preset, np.random.default_rng(0)
        self._image = rng.random((1, 3, preset.height, preset.width), np.float32)
        self._tokens = rng.integers(0, preset.symbols, (1, preset.max_chars))
        self._time(Options(1))

    def __call__(self) -> Round:
        """One line."""
        return self._time(self.options)

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

        restore(self.model, self._image, self._tokens, [b"latency"], options, progress=True, mark=mark)
        return Round(seconds["encode"][0], np.array(seconds["step"]), seconds["decode"][0])


def report(clock: BaselineClock, rounds: Sequence[Round], ours: float, gflop: float) -> str:
    """What was measured, what is extrapolated from it, and how our line compares. Markdown.

    :param ours: seconds a line of the restorer, in the same run.
    :param gflop: of that line.
    """
    totals, each = [one.total for one in rounds], np.concatenate([one.steps for one in rounds])
    count, whole = clock.options.steps, flops.DIFFTSR_STEPS
    parameters = sum(p.numel() for net in (clock.model.idm, clock.model.vae, clock.model.mom) for p in net.parameters())
    all_steps = [one.extrapolated(whole) for one in rounds]
    seconds, source = float(np.median(all_steps)), f"extrapolated from {count} steps"
    if count == whole:
        all_steps, seconds, source = totals, float(np.median(totals)), "measured"
    rows = [
        f"DiffTSR ({clock.size} size, random weights, torch:{clock.model.device}, float32, one line at a time, text",
        f"kept, {parameters:,} parameters at work), its recogniser not counted; medians:",
        "",
        "| part | seconds | from | to | |",
        "|---|---|---|---|---|",
        _row("encode", [one.encode for one in rounds], "measured"),
        _row("a DDIM step", each, "measured"),
        _row("decode", [one.decode for one in rounds], "measured"),
        _row(f"a line, {count} steps", totals, "measured"),
        _row(f"a line, {whole} steps", all_steps, source),
        "",
        f"Ours / DiffTSR at {whole} steps: {ours / seconds:.2e} in seconds ({source}), 1 / {seconds / ours:,.1f}",
    ]
    if clock.size == "full":
        share = gflop / 1000 / flops.difftsr_tflop()
        rows[-1] += f"; {share:.2e} in FLOP, 1 / {1 / share:,.1f}."
    else:
        rows[-1] += ". The small size is for trying the command out: it says nothing about DiffTSR."
    return "\n".join(rows)


def _row(part: str, seconds: Sequence[float] | NDArray[np.float64], source: str) -> str:
    return f"| {part} | {np.median(seconds):.3f} | {np.min(seconds):.3f} | {np.max(seconds):.3f} | {source} |"


def record(clock: BaselineClock, rounds: Sequence[Round]) -> dict[str, Any]:
    """The figures for JSON, each round's."""
    return {
        "size": clock.size, "device": str(clock.model.device), "steps": clock.options.steps,
        "encode": [one.encode for one in rounds], "step": [one.steps.tolist() for one in rounds],
        "decode": [one.decode for one in rounds],
        f"extrapolated_to_{flops.DIFFTSR_STEPS}_steps": [one.extrapolated() for one in rounds],
    }  # fmt: skip
