"""Random numbers from a counter-based generator: a function of seed, image, window and draw, never of a batch place."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def image_key(image: NDArray[np.uint8]) -> bytes:
    """The identity of an image: SHA-256 over its shape and its bytes (32 bytes)."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.digest()


def _generator(seed: int, key: str | bytes, window: int, draw: int, kind: str) -> np.random.Generator:
    raw = key.encode() if isinstance(key, str) else key
    label = b"%s/%d/%d/%d/" % (kind.encode(), seed, window, draw)
    digest = hashlib.sha256(label + raw).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def normal(seed: int, key: str | bytes, window: int, draw: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard-normal float32 array of ``shape``.

    ``key`` is the image's identity (`image_key`), ``window`` counts the windows of a long line, ``draw`` the draws
    of a window (0 for the prior, then one a step).
    """
    return _generator(seed, key, window, draw, "normal").standard_normal(shape, dtype=np.float32)


def uniform(seed: int, key: str | bytes, window: int, draw: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Uniform float32 array of ``shape`` in [0, 1); arguments as in `normal`."""
    return _generator(seed, key, window, draw, "uniform").random(shape, dtype=np.float32)
