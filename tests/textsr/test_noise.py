"""Random numbers: the same everywhere, and of the right distribution."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from textsr.noise import image_key, normal, uniform


def checksum(array: np.ndarray) -> str:
    return hashlib.sha256(np.rint(array.astype(np.float64) * 1e5).astype(np.int64).tobytes()).hexdigest()[:16]


def test_stable_across_versions() -> None:
    assert checksum(normal(0, b"image", 0, 0, (8, 32, 128))) == "57dee1b72ba02662"
    assert checksum(uniform(0, b"image", 0, 0, (24,))) == "87880e02e9dc1f5d"


@given(st.integers(0, 2**40), st.binary(min_size=1, max_size=40), st.integers(0, 9), st.integers(0, 40))
def test_a_function_of_its_arguments(seed: int, key: bytes, window: int, draw: int) -> None:
    first = normal(seed, key, window, draw, (3, 4))
    np.testing.assert_array_equal(first, normal(seed, key, window, draw, (3, 4)))
    assert first.dtype == np.float32
    others = [(seed + 1, key, window, draw), (seed, key + b"x", window, draw), (seed, key, window + 1, draw)]
    for other in (*others, (seed, key, window, draw + 1)):
        assert not np.array_equal(first, normal(*other, (3, 4)))


def test_distributions() -> None:
    values = normal(1, "line", 0, 3, (200, 500)).astype(np.float64)
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    assert abs((values**4).mean() - 3) < 0.15
    places = uniform(1, "line", 0, 3, (100_000,))
    assert places.min() >= 0
    assert places.max() < 1
    assert np.abs(np.histogram(places, 10, (0, 1))[0] / 10_000 - 1).max() < 0.05


def test_image_key_sees_shape_and_bytes() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert image_key(image) == image_key(image.copy())
    assert image_key(image) != image_key(image.reshape(4, 2, 3))
    assert image_key(image) != image_key(image + 1)
    assert image_key(image[:, ::-1]) == image_key(np.ascontiguousarray(image[:, ::-1]))
