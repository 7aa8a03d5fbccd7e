"""From what a source stores to a line at network size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from textsr.config import SCALE, Preset
from textsr.fit import fitted_width, resample
from textsr.linetext import inked
from textsr.reading import character_widths, spread
from train.data.records import Line


@dataclass(frozen=True)
class Raw:
    """A record as stored: pictures uint8 RGB of any size, text; ``line`` where it is fitted already."""

    hr: NDArray[np.uint8]
    text: str
    lr: NDArray[np.uint8] | None = None
    scale: int | None = None
    line: Line | None = None


def fitted(raw: Raw, preset: Preset, *, name: str, source: str, kind: str) -> Line:
    """A record as a line. The low resolution takes the columns of the high one, so that they stay aligned."""
    height, width = raw.hr.shape[:2]
    columns = fitted_width(height, width, preset)
    image = _padded(_resized(raw.hr, preset.height, columns * SCALE), preset.width)
    lr = None
    if raw.lr is not None:
        small = np.clip(np.rint(resample(raw.lr, preset.height // SCALE, columns)), 0, 255).astype(np.uint8)
        lr = _padded(small, preset.width // SCALE)
    shown = columns * SCALE
    centres, widths = estimated_places(raw.text, image[:, :shown], preset.width)
    return Line(
        image, raw.text, centres, widths, shown, kind=kind, name=name, source=source,
        lr=lr, lr_crop=raw.lr, hr_crop=None if lr is None else raw.hr, scale=None if lr is None else raw.scale,
    )  # fmt: skip


def estimated_places(
    text: str, shown: NDArray[np.uint8], width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres and widths (n,) as shares of ``width``: the text spread over the inked part of ``shown`` (H, w, 3)."""
    share = shown.shape[1] / width
    # Every other row finds the same columns in half the time.
    centres = np.asarray(spread(text, *inked(shown[::2])), dtype=np.float64) * share
    widths = character_widths(text, centres * width, shown.shape[0]) / width
    return centres.astype(np.float32), widths.astype(np.float32)


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _padded(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    missing = width - image.shape[1]
    return np.pad(image, ((0, 0), (0, missing), (0, 0)), mode="edge") if missing else image
