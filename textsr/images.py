"""Image files in and out: what a person sees in a viewer, as RGB; written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from textsr.errors import InputError
from textsr.files import atomic, read_regular
from textsr.pixels import as_array

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff"})
"""Suffixes (lower case) that a folder is searched for. A file named outright may be called anything."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF")
MAX_PIXELS = 1 << 24
"""Largest picture read (16.8 million pixels); a text line has some ten thousand."""
MAX_BYTES = 10 * MAX_PIXELS
"""Largest file read: so many pixels take less in every format, at 16 bits a channel with transparency."""
MAX_SCANS = 200
"""Passes over a progressive JPEG, each of which costs time and may take a dozen bytes; encoders make about ten."""
TILE_PIXELS = 1 << 20
"""Largest tile of a TIFF that is smaller itself; a tile is decoded whole, whatever the picture's size."""
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    ArithmeticError,
    struct.error,
    zlib.error,
)  # what Pillow's decoders raise on damaged files


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    """What Pillow raises for a picture that is none or damaged, as InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked below, oddities of metadata do no harm
            yield
    except UnidentifiedImageError as error:
        raise InputError(f"is no picture in a known format ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"has far more than {MAX_PIXELS} pixels: cut the text line out first") from error
    except MemoryError as error:
        raise InputError("does not fit in memory") from error
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"cannot be read: {error.strerror}") from error
        raise InputError(f"is damaged or cut short: {error}") from error


def load_image(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The picture as RGB (h, w, 3) uint8, of at least one pixel: rotated as EXIF says, transparency on white, 16 bits
    scaled to 8. Of several pictures in one file (animations, pages) the first, which is logged as a warning.

    A PNG's checksums are checked. A JPEG, WebP, TIFF or BMP has none: what is missing or changed inside one shows in
    the picture, as in a viewer, where the decoder does not notice.

    :raises InputError: not there, no file, empty, over `MAX_BYTES`, no picture in a known format, over ``max_pixels``,
        damaged, cut short, or built to take much more time or memory than its size tells.
    """
    with _damage_told():
        data = read_regular(path, MAX_BYTES)
        if not data:
            raise InputError("is empty")
        return _decode(data, max_pixels, str(path))


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """`load_image` for the bytes of a file. Raises InputError in the same cases."""
    with _damage_told():
        return _decode(data, MAX_PIXELS, "the picture")


def image_size(source: Path | bytes) -> tuple[int, int]:
    """Height and width that the picture in a file, or in its bytes, will have; its pixels are not decoded.

    Raises InputError where it is no picture. One that is cut short may still have a size.
    """
    with _damage_told(), _opened(source if isinstance(source, bytes) else read_regular(source, MAX_BYTES)) as picture:
        # Asked for EXIF, Pillow would decode a PNG that has none; the size of a TIFF is the turned one already.
        asked = picture.format != "TIFF" and (picture.format != "PNG" or "exif" in picture.info)
        tags = picture.getexif() if asked else {}
        turned = tags.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        width, height = picture.size
        return (width, height) if turned else (height, width)


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=FORMATS)


def _decode(data: bytes, max_pixels: int, name: str) -> NDArray[np.uint8]:
    with _opened(data) as picture:
        _check(picture, data, max_pixels)
        if picture.format == "PNG":
            picture.verify()  # checksums, which decoding does not look at; nothing can be decoded afterwards
    with _opened(data) as picture:
        if getattr(picture, "is_animated", False):
            logger.warning("%s: has several pictures or pages, the first is taken", name)
        picture.load()
        try:
            picture = ImageOps.exif_transpose(picture)
        except _DAMAGED as error:
            logger.warning("%s: EXIF cannot be read (%s), so it is not rotated", name, error)
        return as_array(picture)


def _check(picture: Image.Image, data: bytes, max_pixels: int) -> None:
    """Raises InputError for what would take more time or memory than a picture of ``max_pixels`` may."""
    width, height = picture.size
    if width * height > max_pixels:
        cut = "cut the text out first, or shrink it"
        raise InputError(f"has {width} x {height} pixels, the limit is {max_pixels}: {cut}")
    if width < 1 or height < 1:
        raise InputError("has no pixels")
    scans = data.count(b"\xff\xda") if picture.format in ("JPEG", "MPO") else 0
    if scans > MAX_SCANS:
        raise InputError(f"is a JPEG of {scans} scans, the limit is {MAX_SCANS}: save it anew")
    tags = getattr(picture, "tag_v2", {}) if picture.format == "TIFF" else {}
    tile = [tags.get(tag, 1) for tag in (_TILE_WIDTH, _TILE_LENGTH)]
    if tile[0] * tile[1] > max(TILE_PIXELS, width * height):
        raise InputError(f"is a TIFF of {tile[0]} x {tile[1]} pixels a tile: save it anew, without tiles")


def save_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes RGB (h, w, 3) uint8 as PNG, whole or not at all. Raises InputError when it cannot be written."""
    with atomic(path) as stream:
        Image.fromarray(image).save(stream, format="PNG")


__all__ = ["FORMATS", "MAX_PIXELS", "SUFFIXES", "atomic", "decode_image", "image_size", "load_image", "save_png"]
