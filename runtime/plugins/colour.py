"""A product's crops as the `Restorer` takes them, and back: channel order and grey pictures."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Colour = Literal["rgb", "bgr"]
"""Order of the channels of a product's crops; grey ones, (h, w) or (h, w, 1), are told by their shape."""
GREY = np.array([0.299, 0.587, 0.114])
"""Light of red, green and blue, as OpenCV weighs them (ITU-R BT.601)."""


def to_rgb(crop: Any, colour: Colour) -> Any:
    """A crop as RGB (h, w, 3); what has other channels is returned as it is, for the restorer to refuse."""
    if not isinstance(crop, np.ndarray) or crop.ndim not in (2, 3):
        return crop
    if crop.ndim == 2 or crop.shape[2] == 1:
        return np.repeat(crop.reshape(*crop.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(crop[:, :, ::-1]) if colour == "bgr" and crop.shape[2] == 3 else crop


def from_rgb(image: NDArray[np.uint8], like: NDArray[Any], colour: Colour) -> NDArray[np.uint8]:
    """An RGB (h, w, 3) picture with the channels of ``like``, the crop that it was made from."""
    if like.ndim == 2 or like.shape[2] == 1:
        grey = np.clip(np.rint(image @ GREY), 0, 255).astype(np.uint8)
        return grey if like.ndim == 2 else grey[:, :, None]
    return np.ascontiguousarray(image[:, :, ::-1]) if colour == "bgr" else image
