"""Picture files that are odd, damaged or hostile, made from nothing, by name; for every door that takes pictures."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.runtime.helpers import draw_line

Chunk = tuple[bytes, bytes]
Tag = tuple[int, int, int, int]
"""Of a TIFF: number, type (3: 16 bits, 4: 32 bits, 7: bytes), count, value or place."""


def encoded(image: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as a file."""
    stream = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(stream, format=kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG's chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, data: bytes, extra: Iterable[Chunk] = ()) -> bytes:
    """A PNG of raw rows, each with its filter's byte. ``colour``: 0 grey, 2 RGB, 3 palette."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in chunks)


def tiff(tags: Iterable[Tag], data: bytes, place: int, length: int) -> bytes:
    """A TIFF of one strip or tile: ``place`` and ``length`` are the tags that say where its data is."""
    tags = list(tags)
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags = sorted([*tags, (place, 4, 1, start), (length, 4, 1, len(data))])
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data


def grey_tiff(side: int, **more: int) -> list[Tag]:
    """Tags of a deflated grey TIFF of ``side`` x ``side`` pixels."""
    plain = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1}
    return [(number, 4, 1, value) for number, value in plain.items()]


def resized_jpeg(width: int, height: int) -> bytes:
    """A JPEG whose header says another size than its data has."""
    whole = encoded(draw_line(), "JPEG")
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", height, width) + whole[at + 4 :]


def many_scans(count: int) -> bytes:
    """A progressive JPEG with ``count`` scans more than it needs, a dozen bytes each."""
    whole = encoded(np.zeros((1000, 1000), np.uint8), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * count + whole[-2:]


def floats(change: float, place: float | None = None) -> bytes:
    """A float TIFF of a line as shares 0..1 times ``change``; its first pixel is ``place``."""
    values = (draw_line().mean(axis=2) / 255 * change).astype(np.float32)
    if place is not None:
        values[0, 0] = place
    return encoded(values, "TIFF")


def exif(orientation: int) -> Image.Exif:
    """Metadata that say how the picture lies."""
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def frames(kind: str, **options: Any) -> bytes:
    """Three pictures in one file, of shades 10, 100 and 200."""
    pictures = [Image.fromarray(np.full((20, 40, 3), shade, np.uint8)) for shade in (10, 100, 200)]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)


PIXELS = b"\0" + bytes(6)
BOMB = zlib.compress(bytes(4 << 20), 9)


def refused() -> dict[str, tuple[bytes, str]]:
    """Files that give an InputError, with what it says."""
    line, rgb = draw_line(), (2, 1, 8, 2, PIXELS)
    whole, jpeg = encoded(line, "PNG"), encoded(line, "JPEG")
    side = 4096
    tiles = [*grey_tiff(16), (322, 4, 1, side), (323, 4, 1, side)]
    return {
        "empty": (b"", "is empty|no picture"),
        "text": (b"this is text, whatever its name says", "no picture"),
        "gif": (encoded(line, "GIF"), "no picture in a known format"),
        "zip": (b"PK\x03\x04" + bytes(60), "no picture"),
        "png of no pixels": (png(0, 0, 8, 2, b""), "no picture"),
        "png cut": (whole[:-100], "cut short"),
        "png without its end": (whole[:-12], "cut short"),
        "png with a flipped byte": (whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], "damaged"),
        "jpeg cut": (jpeg[:700], "cut short"),
        "jpeg that says it is huge": (resized_jpeg(65000, 65000), "far more than"),
        "jpeg that says it is large": (resized_jpeg(9000, 9000), "9000 x 9000 pixels"),
        "jpeg of no rows": (resized_jpeg(120, 0), "no picture"),
        "jpeg of many scans": (many_scans(300), "scans"),
        "png that says it is huge": (png(100_000, 100_000, 8, 2, PIXELS), "far more than"),
        "png of 81 million pixels": (png(9000, 9000, 1, 0, b"\0"), "9000 x 9000 pixels"),
        "tiff of a large tile": (tiff(tiles, zlib.compress(bytes(side**2), 9), 324, 325), "4096 x 4096 pixels a tile"),
        "text bomb": (png(*rgb, [(b"zTXt", b"a\0\0" + BOMB)]), "too large"),
        "many text bombs": (png(*rgb, [(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))] * 70), "memory"),
        "profile bomb": (png(*rgb, [(b"iCCP", b"a\0\0" + BOMB)]), "too large"),
        "float with NaN": (floats(1, np.nan), "finite"),
        "float with infinity": (floats(1, np.inf), "finite"),
        "float to 65535": (floats(65535), "0 to 255"),
        "float below black": (floats(-1), "0 to 1"),
        "integers of 32 bits": (encoded((line[..., 0].astype(np.int32) << 20), "TIFF"), "65535"),
        "integers below black": (encoded(line[..., 0].astype(np.int32) - 100, "TIFF"), "65535"),
    }  # fmt: skip


def read() -> dict[str, tuple[bytes, tuple[int, int], float, float]]:
    """Files that are read: their height and width, and the shades of the first and of the last pixel, to within 3."""
    wide = np.full((20, 40, 3), 60, np.uint8)
    wide[-1, -1] = 200
    two = (1, 2)
    clear = (b"tRNS", struct.pack(">HHH", 1, 2, 3))
    clear_16 = (b"tRNS", struct.pack(">HHH", 258, 515, 772))
    deep_rgb = b"\0" + struct.pack(">6H", 258, 515, 772, 2570, 2570, 2570)
    deep = b"\0" + struct.pack(">2H", 258, 40000)
    cmyk = Image.fromarray(np.full((20, 40, 3), 60, np.uint8)).convert("CMYK")
    strip = [*grey_tiff(16), (278, 4, 1, 20000)]
    spare = [(b"iCCP", b"a\0\0" + zlib.compress(b"no profile"))]
    return {
        "png": (encoded(wide, "PNG"), (20, 40), 60, 200),
        "one pixel": (png(1, 1, 8, 0, b"\0\x07"), (1, 1), 7, 7),
        "animated png": (frames("PNG"), (20, 40), 10, 10),
        "animated png with another picture": (frames("PNG", default_image=True), (20, 40), 10, 10),
        "animated webp": (frames("WEBP", lossless=True), (20, 40), 10, 10),
        "pages": (frames("TIFF"), (20, 40), 10, 10),
        "mpo": (frames("MPO"), (20, 40), 10, 10),
        "cmyk jpeg": (encoded(cmyk, "JPEG"), (20, 40), 60, 60),
        "cmyk tiff": (encoded(cmyk, "TIFF"), (20, 40), 60, 60),
        "floats a little above 1": (floats(1.02), (24, 120), 234, 234),
        "floats to 255": (floats(255), (24, 120), 229, 229),
        "a clear colour": (png(2, 1, 8, 2, b"\0\1\2\3\x09\x09\x09", [clear]), two, 255, 9),
        "a clear colour of 16 bits": (
            png(2, 1, 16, 2, deep_rgb, [clear_16]), two, 255, 10,
        ),
        "a clear grey of 16 bits": (png(2, 1, 16, 0, deep, [(b"tRNS", struct.pack(">H", 258))]), two, 255, 156),
        "a palette with clear entries": (
            png(2, 1, 8, 3, b"\0\0\1", [(b"PLTE", bytes([5, 5, 5, 9, 9, 9])), (b"tRNS", b"\0")]), two, 255, 9,
        ),
        "a palette too short": (png(2, 1, 8, 3, b"\0\0\xfa", [(b"PLTE", bytes([5, 5, 5]))]), two, 5, 0),
        "more rows than it says": (png(2, 1, 8, 2, PIXELS + bytes(8 << 20)), two, 0, 0),
        "a strip longer than it says": (tiff(strip, BOMB, 273, 279), (16, 16), 0, 0),
        "a profile that is none": (png(2, 1, 8, 2, PIXELS, spare), two, 0, 0),
        "an orientation that is none": (encoded(wide, "PNG", exif=exif(77)), (20, 40), 60, 200),
        "turned": (encoded(wide, "PNG", exif=exif(6)), (40, 20), 60, 60),
        "jpeg with fewer rows than it says": (resized_jpeg(120, 96), (96, 120), 231, 128),
    }  # fmt: skip


def every() -> dict[str, bytes]:
    """All of these files."""
    return {name: entry[0] for name, entry in refused().items()} | {name: entry[0] for name, entry in read().items()}
