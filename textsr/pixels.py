"""Pictures of every mode that Pillow knows as RGB, or a word why not."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from textsr.errors import InputError

logger = logging.getLogger(__name__)

SHARES, LEVELS, DEEP = 1.0, 255.0, 65535.0
"""White: of floats that are shares, of floats or integers that are levels of 8 bits, of integers of 16 bits."""
OVERSHOOT = 2.0
"""Floats may reach so many times white, and below black by an eighth of that: resampling leaves the range."""


def to_rgb(picture: Image.Image) -> Image.Image:
    """``picture`` as RGB: transparency on white, 16 bits and floats scaled to 8. Colour profiles are not applied.

    :raises InputError: its values cannot be told to be shades, see `_to_grey`.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        picture = _to_grey(picture)
    if picture.has_transparency_data:
        clear = picture.info.get("transparency")
        if picture.mode == "RGB" and isinstance(clear, tuple):  # of 16 bits where the picture had them; now it has 8
            picture.info["transparency"] = tuple(value >> 8 if max(clear) > 255 else value for value in clear)
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _to_grey(picture: Image.Image) -> Image.Image:
    """Integers fill 0..65535 (32 bits whose largest is at most 255: 0..255), floats 0..1 or 0..255.

    Which of these is told by the largest value. Raises InputError where it is none of them: a picture all black or all
    white would come of it.
    """
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("holds values that are no finite numbers: replace them, or save it with 8 bits a channel")
    lowest, highest = values.min(initial=0.0), values.max(initial=0.0)
    if picture.mode == "F":
        white = SHARES if highest <= OVERSHOOT * SHARES else LEVELS
        fits = highest <= OVERSHOOT * white and lowest >= -OVERSHOOT / 8 * white
    else:
        white = DEEP if picture.mode.startswith("I;") or highest > LEVELS else LEVELS
        fits = lowest >= 0 and highest <= DEEP
    if not fits:
        kinds = "0 to 1 or 0 to 255" if picture.mode == "F" else "0 to 65535"
        raise InputError(f"holds values from {lowest:g} to {highest:g}, not {kinds}: save it with 8 bits a channel")
    shades = np.clip(np.rint(values * (LEVELS / white)), 0, 255).astype(np.uint8)
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        shades[values == clear] = 255  # as if put on white
    return Image.fromarray(shades)


def as_array(picture: Image.Image) -> NDArray[np.uint8]:
    """`to_rgb` as an array (h, w, 3) uint8."""
    return np.ascontiguousarray(np.asarray(to_rgb(picture), dtype=np.uint8))
