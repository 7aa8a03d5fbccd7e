"""Image files in and out: what a person sees in a viewer, as RGB; written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import secrets
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from textsr.errors import InputError

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff"})
"""Suffixes (lower case) that a folder is searched for. A file named outright may be called anything."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF")
MAX_PIXELS = 1 << 24
"""Largest picture read (16.8 million pixels); a text line has some ten thousand."""
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
    Image.DecompressionBombError,
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
    except MemoryError as error:
        raise InputError("does not fit in memory") from error
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"cannot be read: {error.strerror}") from error
        raise InputError(f"is damaged or cut short: {error}") from error


def load_image(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The picture as RGB (h, w, 3) uint8: rotated as EXIF says, transparency on white, 16 bits scaled to 8.

    :raises InputError: not there, empty, no picture in a known format, over ``max_pixels``, damaged or cut short.
    """
    with _damage_told():
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError("is no file")
        if status.st_size == 0:
            raise InputError("is empty")
        with Image.open(path, formats=FORMATS) as picture:
            return _decode(picture, max_pixels)


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """`load_image` for the bytes of a file. Raises InputError in the same cases."""
    with _damage_told(), Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        return _decode(picture, MAX_PIXELS)


def image_size(source: Path | bytes) -> tuple[int, int]:
    """Height and width that the picture in a file, or in its bytes, will have; its pixels are not decoded.

    Raises InputError where it is no picture. One that is cut short may still have a size.
    """
    with (
        _damage_told(),
        Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as picture,
    ):
        # Asked for EXIF, Pillow would decode a PNG that has none; the size of a TIFF is the turned one already.
        asked = picture.format != "TIFF" and (picture.format != "PNG" or "exif" in picture.info)
        tags = picture.getexif() if asked else {}
        turned = tags.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        width, height = picture.size
        return (width, height) if turned else (height, width)


def _decode(picture: Image.Image, max_pixels: int) -> NDArray[np.uint8]:
    width, height = picture.size
    if width * height > max_pixels:
        raise InputError(
            f"has {width} x {height} pixels, the limit is {max_pixels}: cut the text out first, or shrink it"
        )
    if getattr(picture, "n_frames", 1) > 1:
        logger.info("%s: has several pictures, the first is used", getattr(picture, "filename", "image"))
    picture.load()
    try:
        picture = ImageOps.exif_transpose(picture)
    except _DAMAGED as error:
        logger.warning("%s: EXIF cannot be read (%s), so it is not rotated", getattr(picture, "filename", ""), error)
    return np.ascontiguousarray(np.asarray(_to_rgb(picture), dtype=np.uint8))


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        picture = _to_grey(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _to_grey(picture: Image.Image) -> Image.Image:
    """Integers of 16 bits fill 0..65535, floats 0..1 or 0..255."""
    values = np.nan_to_num(np.asarray(picture).astype(np.float64))
    top = values.max(initial=0.0)
    if picture.mode == "F":
        scale = 255.0 if top <= 1 else 1.0
    else:
        scale = 255 / 65535 if picture.mode.startswith("I;") or top > 255 else 1.0
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears at ``path`` only once it is written whole: temporary name in the same folder, then rename.

    :raises InputError: the folder cannot be made or written to.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def save_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes RGB (h, w, 3) uint8 as PNG, whole or not at all. Raises InputError when it cannot be written."""
    with atomic(path) as stream:
        Image.fromarray(image).save(stream, format="PNG")
