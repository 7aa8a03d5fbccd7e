"""Reading and writing of image files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime.helpers import draw_line
from textsr.errors import InputError
from textsr.images import atomic, decode_image, image_size, load_image, save_png

RAMP = np.arange(0, 240, dtype=np.uint8).reshape(10, 24)


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [("png", 0), ("bmp", 0), ("tiff", 0), ("webp", 12), ("jpg", 12)], ids=lambda value: value
)
def test_formats(tmp_path: Path, suffix: str, tolerance: int) -> None:
    line = draw_line()
    path = tmp_path / f"line.{suffix}"
    Image.fromarray(line).save(path, quality=95) if suffix in ("jpg", "webp") else Image.fromarray(line).save(path)
    loaded = load_image(path)
    assert loaded.shape == line.shape
    assert loaded.dtype == np.uint8
    assert np.abs(loaded.astype(int) - line).mean() <= tolerance


def test_contents_decide_and_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really.png"
    Image.fromarray(draw_line()).save(path, format="JPEG")
    assert load_image(path).shape == (24, 120, 3)


def test_grey_and_palette(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "grey.png")
    assert (load_image(tmp_path / "grey.png") == RAMP[:, :, None]).all()
    Image.fromarray(RAMP).convert("RGB").quantize(256).save(tmp_path / "palette.png")
    assert np.abs(load_image(tmp_path / "palette.png").astype(int) - RAMP[:, :, None]).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_are_scaled(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / f"deep.{suffix}")
    assert (load_image(tmp_path / f"deep.{suffix}") == RAMP[:, :, None]).all()


def test_floats(tmp_path: Path) -> None:
    for name, scale in {"shares": 255, "levels": 1}.items():
        Image.fromarray((RAMP / scale).astype(np.float32)).save(tmp_path / f"{name}.tiff")
        assert np.abs(load_image(tmp_path / f"{name}.tiff").astype(int) - RAMP[:, :, None]).max() <= 1


def test_transparency_is_put_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 8, 4), np.uint8)
    rgba[:, :4, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "clear.png")
    loaded = load_image(tmp_path / "clear.png")
    assert (loaded[:, :4] == 0).all()
    assert (loaded[:, 4:] == 255).all()


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    picture = Image.fromarray(np.repeat([[0, 1]], 4, axis=0).astype(np.uint8))
    picture = picture.convert("P")
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.save(tmp_path / "clear.png", transparency=1)
    loaded = load_image(tmp_path / "clear.png")
    assert loaded[0].tolist() == [[10, 20, 30], [255, 255, 255]]


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_rotation(tmp_path: Path, orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    line = draw_line()
    Image.fromarray(line).save(tmp_path / "turned.png", exif=exif)
    assert (load_image(tmp_path / "turned.png") == np.rot90(line, turns)).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_bytes_and_size_agree_with_the_file(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(draw_line()).save(path, exif=exif)
    loaded = load_image(path)
    np.testing.assert_array_equal(decode_image(path.read_bytes()), loaded)
    assert image_size(path) == image_size(path.read_bytes()) == loaded.shape[:2]


def test_the_size_of_no_picture_is_an_error(tmp_path: Path) -> None:
    for read in (image_size, decode_image):
        with pytest.raises(InputError, match="is no picture in a known format"):
            read(b"no picture")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        image_size(tmp_path / "absent.png")
    Image.fromarray(draw_line()).save(tmp_path / "line.jpg")
    short = (tmp_path / "line.jpg").read_bytes()[:700]
    assert image_size(short) == draw_line().shape[:2]  # a header is enough
    with pytest.raises(InputError, match="is damaged or cut short"):
        decode_image(short)


def huge_png(path: Path, width: int = 100_000, height: int = 100_000) -> Path:
    """A few bytes that promise an enormous picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)))
    return path


def test_bad_files_are_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "renamed.png").write_bytes(b"this is text, whatever its name says" * 10)
    Image.fromarray(draw_line()).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(draw_line()).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:800])
    huge_png(tmp_path / "huge.png")
    huge_png(tmp_path / "large.png", 9000, 9000)
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    reasons = {
        "empty.png": "empty", "renamed.png": "no picture", "cut.png": "cut short", "cut.jpg": "cut short",
        "huge.png": "far more than", "large.png": "limit", "loop.png": "cannot be read", "absent.png": "cannot be read",
        "": "is no file",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(InputError, match=reason):
            load_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "bmp"])
def test_damage_anywhere_is_refused_or_survived(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"line.{suffix}"
    Image.fromarray(draw_line()).save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 400), 6):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            assert load_image(path).ndim == 3
        except InputError:
            continue


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.png"
    save_png(target, draw_line())
    assert (load_image(target) == draw_line()).all()
    before = target.read_bytes()

    def write_half() -> None:
        with atomic(target) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["out.png"]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        save_png(tmp_path / "file" / "out.png", draw_line())
