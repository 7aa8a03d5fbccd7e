"""Reference glyphs of the alphabet: small grey bitmaps, two pixels a byte."""

from __future__ import annotations

import lzma
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textsr.errors import InputError

SIZE = 48
"""Side of a bitmap: one em of the font, the baseline at 88% of the height."""

FILE = "atlas.xz"
"""The asset: the packed bitmaps of the shipped alphabet, compressed with LZMA."""


def pack(bitmaps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, 48, 48) of 0..15 to (n, 48 * 24): the left pixel of each pair in the high half of its byte."""
    flat = bitmaps.reshape(len(bitmaps), -1)
    return np.asarray((flat[:, 0::2] << 4) | flat[:, 1::2], dtype=np.uint8)


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The inverse of `pack`: (n, 48 * 24) to (n, 48, 48) of 0..15."""
    pairs = np.stack([packed >> 4, packed & 15], axis=-1)
    return pairs.reshape(len(packed), SIZE, SIZE)


def save_atlas(path: Path, bitmaps: NDArray[np.uint8]) -> None:
    """Writes (n, 48, 48) bitmaps of 0..15."""
    path.write_bytes(lzma.compress(pack(bitmaps).tobytes(), preset=9 | lzma.PRESET_EXTREME))


def read_atlas(path: Path | None = None) -> NDArray[np.uint8]:
    """Packed bitmaps (n, 48 * 24) of an atlas file; default: the shipped one. Raises InputError when damaged."""
    try:
        data = path.read_bytes() if path else (resources.files("textsr") / "assets" / FILE).read_bytes()
        return np.frombuffer(lzma.decompress(data), dtype=np.uint8).reshape(-1, SIZE * SIZE // 2)
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise InputError(f"the glyph atlas {path or FILE} cannot be read: {error}") from error


@lru_cache(maxsize=1)
def load_packed() -> NDArray[np.uint8]:
    """The shipped atlas with a blank bitmap for padding at its end: uint8 (6736, 48 * 24), not to be written to."""
    packed = read_atlas()
    packed = np.concatenate([packed, np.zeros((1, packed.shape[1]), dtype=np.uint8)])
    packed.setflags(write=False)
    return packed


def load_atlas() -> NDArray[np.uint8]:
    """The shipped atlas as grey bitmaps: uint8 (6736, 48, 48), 0 paper to 255 ink; the last is blank."""
    return unpack(load_packed()) * np.uint8(17)
