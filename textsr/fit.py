"""Fitting a crop to the network's size, and cutting the result back to the crop's own shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from textsr.config import SCALE, Preset
from textsr.errors import InputError
from textsr.resize import bicubic_resize

COLUMNS = 1024
"""Columns of a result made at a time."""


@dataclass(frozen=True)
class Place:
    """Where the crop lies in the restored line of ``height`` x ``width`` pixels: in its first ``width_share``."""

    height: int
    width: int
    width_share: float = 1.0

    @property
    def columns(self) -> int:
        """Columns of the restored line that show the crop; the rest repeats the last one."""
        return max(1, round(self.width_share * self.width))


@dataclass(frozen=True)
class FittedLine:
    """A crop at network size: ``lq`` (H/4, W/4, 3) float32 RGB in [-1, 1], its place, and the crop's own size."""

    lq: NDArray[np.float32]
    place: Place
    size: tuple[int, int]  # height and width of the crop in pixels

    @property
    def width_share(self) -> float:
        """Share of the fitted line's width that shows the crop, in (0, 1]."""
        return self.place.width_share


def fitted_width(height: int, width: int, preset: Preset) -> int:
    """Columns (of W/4) that a crop of ``height`` x ``width`` pixels takes under the preset's way of fitting."""
    lq_height, lq_width = preset.height // SCALE, preset.width // SCALE
    if preset.fit == "stretch":
        return lq_width
    return min(lq_width, max(1, round(width * lq_height / height)))


def fit_line(image: NDArray[np.uint8], preset: Preset) -> FittedLine:
    """Fits ``image`` (h, w, 3) uint8 RGB of any size to the preset's H/4 x W/4.

    "stretch" changes the aspect as the paper does; "pad" keeps it, squeezes what is then too wide, and fills the
    right by repeating the last column. Raises InputError on another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape) < 1:
        raise InputError(f"a line is an RGB image (h, w, 3) of type uint8, not {image.shape} of {image.dtype}")
    height, width = int(image.shape[0]), int(image.shape[1])
    columns = fitted_width(height, width, preset)
    small = resample(image, preset.height // SCALE, columns) / np.float32(127.5) - np.float32(1)
    lq = pad_right(np.clip(small, -1, 1), preset.width // SCALE)
    place = Place(preset.height, preset.width, columns * SCALE / preset.width)
    return FittedLine(lq, place, (height, width))


def unfit_line(image: NDArray[np.float32], line: FittedLine, scale: float = SCALE) -> NDArray[np.uint8]:
    """The inverse for a restored ``image`` (H, W, 3) in [-1, 1]: the crop's columns at ``scale`` times its size, uint8.

    Raises InputError when ``image`` is not of the size that the line was fitted for.
    """
    height, width = (max(1, round(side * scale)) for side in line.size)
    return resample_uint8(unpadded(image, line), height, width, to_uint8)


def unpadded(image: NDArray[np.float32], line: FittedLine) -> NDArray[np.float32]:
    """The columns (H, w, 3) of ``image`` (H, W, 3) that show the crop.

    Raises InputError when ``image`` is not of the size that the line was fitted for.
    """
    if image.shape != (line.place.height, line.place.width, 3):
        raise InputError(f"the line was fitted for {(line.place.height, line.place.width, 3)}, not {image.shape}")
    return image[:, : line.place.columns]


def wide_line(image: NDArray[np.uint8], preset: Preset) -> NDArray[np.float32]:
    """``image`` (h, w, 3) uint8 at the preset's H/4 rows in its own aspect, however wide: float32 in [-1, 1]."""
    height = preset.height // SCALE
    columns = max(1, round(image.shape[1] * height / image.shape[0]))
    return np.clip(resample(image, height, columns) / np.float32(127.5) - np.float32(1), -1, 1)


def fit_window(wide: NDArray[np.float32], left: int, right: int, preset: Preset) -> FittedLine:
    """Columns ``left`` to ``right`` of a `wide_line` at network size, stretched or padded as the preset wants it.

    Raises InputError where they are none, or more than a padded line has room for.
    """
    height, width = preset.height // SCALE, preset.width // SCALE
    count = right - left
    if not 0 <= left < right <= wide.shape[1] or (preset.fit == "pad" and count > width):
        raise InputError(f"columns {left} to {right} of {wide.shape[1]}: a window has 1 to {width}")
    part = wide[:, left:right]
    if preset.fit == "stretch":
        lq = np.clip(resample(part, height, width), -1, 1)
        return FittedLine(lq, Place(preset.height, preset.width), (height, count))
    place = Place(preset.height, preset.width, count * SCALE / preset.width)
    return FittedLine(pad_right(part, width), place, (height, count))


def unfit_window(image: NDArray[np.float32], window: FittedLine) -> NDArray[np.float32]:
    """A restored window (H, W, 3) in [-1, 1] at four times the size of its columns of the wide line: (H, 4n, 3)."""
    part = image[:, : window.place.columns]
    return resample(part, image.shape[0], window.size[1] * SCALE)


def to_uint8(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[-1, 1] to 0..255, rounded and clamped."""
    return np.clip(np.rint((image + 1) * np.float32(127.5)), 0, 255).astype(np.uint8)


def pad_right(image: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """``image`` (h, w, c) with its last column repeated until it is ``width`` wide."""
    missing = width - image.shape[1]
    return np.pad(image, ((0, 0), (0, missing), (0, 0)), mode="edge") if missing else image


def resample(image: NDArray[np.uint8] | NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """``image`` (h, w, c) at another size as float32, in its own range and not clamped.

    Each direction that shrinks is filtered (Pillow's bicubic, which widens its kernel); each that grows is
    interpolated as `bicubic_resize` does.
    """
    smaller = min(image.shape[0], height), min(image.shape[1], width)
    if smaller != image.shape[:2]:
        planes = [_shrink(image[..., channel], *smaller) for channel in range(image.shape[2])]
        image = np.stack(planes, axis=-1)
    return bicubic_resize(np.asarray(image, dtype=np.float32), height, width)


def resample_uint8(
    image: NDArray[np.uint8] | NDArray[np.float32],
    height: int,
    width: int,
    finish: Callable[[NDArray[np.float32]], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """`resample`, then ``finish`` to uint8; by columns, so that a huge result needs no huge float arrays."""
    wide = resample(image, image.shape[0], width)
    whole = np.empty((height, width, image.shape[2]), dtype=np.uint8)
    for left in range(0, width, COLUMNS):
        part = wide[:, left : left + COLUMNS]
        whole[:, left : left + COLUMNS] = finish(resample(part, height, part.shape[1]))
    return whole


def _shrink(plane: NDArray[np.uint8] | NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
