"""Small data sets of each format, written by the tests."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import lmdb
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def bars(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A light picture (height, width, 3) with dark bars."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), rng.integers(180, 256, 3), np.uint8)
    image[height // 6 : -height // 6, width // 10 : -width // 10 : 7] = rng.integers(0, 80, 3)
    return image


def encoded(image: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    """The bytes of a picture file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def write_lmdb(folder: Path, values: Mapping[str, bytes]) -> Path:
    """An LMDB with these keys."""
    folder.mkdir(parents=True)
    environment = lmdb.open(str(folder), map_size=1 << 24)
    with environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key.encode(), value)
    environment.close()
    return folder


def ctr_values(records: Sequence[tuple[bytes | None, bytes | None]]) -> dict[str, bytes]:
    """Keys and values of CTR's format; None leaves a key out."""
    values = {"num-samples": str(len(records)).encode()}
    for number, (picture, label) in enumerate(records, 1):
        if picture is not None:
            values[f"image-{number:09d}"] = picture
        if label is not None:
            values[f"label-{number:09d}"] = label
    return values


def write_ctr(folder: Path, count: int, height: int = 64, width: int = 200) -> Path:
    """``count`` sound records."""
    records = [(encoded(bars(height, width, seed)), f"文字{seed}".encode()) for seed in range(count)]
    return write_lmdb(folder, ctr_values(records))


def ramp(size: tuple[int, int], corners: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A grey picture (height, width) with a rectangle ``corners`` (4, 2) in which red grows along the text and green
    from its top to its bottom, both 40 to 215.
    """
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    along, down = corners[1] - corners[0], corners[3] - corners[0]
    u, v = (((x - corners[0, 0]) * a[0] + (y - corners[0, 1]) * a[1]) / (a @ a) for a in (along, down))
    image = np.full((*size, 3), 128.0)
    inside = (u > -0.2) & (u < 1.2) & (v > -0.2) & (v < 1.2)  # so that its own edges are smooth
    for channel, share in ((0, u), (1, v)):
        image[..., channel][inside] = 40 + 175 * share[inside].clip(-0.2, 1.2)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def turned_box(middle: tuple[float, float], width: float, height: float, degrees: float) -> NDArray[np.float64]:
    """Corners (4, 2) of a rectangle whose text runs at ``degrees`` clockwise."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    unit = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, height / 2]
    return unit @ np.array([[c, s], [-s, c]]) + middle


def row(quad: NDArray[np.float64], text: str) -> str:
    """A row of a Real-CE label file."""
    return ",".join(f"{value:.2f}" for value in quad.ravel()) + f",{text}"
