"""Which lines are left alone: those that restoring cannot help, and those that need no help.

How the defaults of `runtime.options.Gate` were found, on 27 lines of the validation split shown at ten heights, clean
and degraded, with the bundle `compact` in 6 steps; gain is PSNR restored over PSNR of bicubic enlargement.

- ``max_detail`` (270 crops of 40 to 128 pixels): gain +0.94 dB where 0.06 to 0.08 of the contrast are lost (all of 20
  better), -1.03 dB from 0.08 to 0.1 (a third of 12), -2.34 dB from 0.1 to 0.12 (none of 8), -6.7 dB and less beyond.
  0.1 refuses all 135 clean crops and 7 of 135 degraded ones, none of which restoring made better.
- ``min_height`` (degraded crops): gain -0.30 dB at 8 pixels, -0.19 at 12, +0.25 at 16, +0.52 at 24. In all 18 steps no
  height decides: the gain lies between -0.54 and -0.75 dB from 14 to 32 pixels (16 to 19 other lines).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.options import Gate
from textsr.config import SCALE, Preset
from textsr.fit import resample
from textsr.reading import LineReading

FLATTEST = 8
"""Grey levels between the darkest and the lightest place of a picture that shows anything."""

TOO_LOW, SHARP, BLANK, READ_WELL = "too_low", "sharp", "blank", "read_well"
INPUT, DEADLINE, NOT_FINITE, PROOF, GUARD = "input", "deadline", "not_finite", "proof", "guard"
"""Causes (`runtime.Result.cause`) why a line was not restored."""

Refusal = tuple[str, str]
"""Cause and sentence."""


def refuse_picture(image: NDArray[np.uint8], gate: Gate, preset: Preset) -> Refusal | None:
    """Why an upright line (h, w, 3) is left alone for its looks; None where it is not."""
    if not gate.enabled:
        return None
    height = image.shape[0]
    if int(image.max()) - int(image.min()) < FLATTEST:
        return BLANK, "nothing to restore: the picture is of one shade"
    if height < gate.min_height:
        return TOO_LOW, f"{height} pixels high: below {gate.min_height:g} nothing is left to restore from"
    if gate.max_detail is not None:
        found = detail(image, preset)
        if found > gate.max_detail:
            return SHARP, (
                f"{height} pixels high and sharp: the network, which sees {preset.height // SCALE} rows, would lose "
                f"{found:.2f} of its contrast (at most {gate.max_detail:g} may be lost)"
            )
    return None


def refuse_reading(reading: LineReading | None, gate: Gate) -> Refusal | None:
    """Why a line is left alone for how well it was read; None where it is not."""
    if not gate.enabled or gate.max_confidence is None or reading is None or not reading.text:
        return None
    least = min(reading.confidences)
    if least < gate.max_confidence:
        return None
    return READ_WELL, f"read well already: every character at {least:.3f} or more"


def detail(image: NDArray[np.uint8], preset: Preset) -> float:
    """What the network does not see of an upright line, as a share (0..1) of the picture's contrast: the
    root-mean-square difference to the line shrunk to the network's rows and enlarged again, over the standard
    deviation of its light. 0 for a line that is not higher than that."""
    height, width = image.shape[:2]
    rows = preset.height // SCALE
    if height <= rows:
        return 0.0
    columns = min(width, 8 * height)  # the middle of a long line tells enough
    start = (width - columns) // 2
    light = image[:, start : start + columns].mean(axis=2, keepdims=True, dtype=np.float32)
    small = resample(light, rows, max(1, round(columns * rows / height)))
    lost = float(np.sqrt(np.mean((light - resample(small, height, columns)) ** 2)))
    return min(1.0, lost / max(float(light.std()), 1.0))
