"""Backgrounds and colours of rendered lines."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, UnidentifiedImageError

LOG = logging.getLogger(__name__)

DEFAULT_PICTURES = ("/usr/share/doc/opencv-doc/examples/data", "/usr/share/backgrounds")
UNSUITABLE = (
    "text",
    "notes",
    "digits",
    "sudoku",
    "plate",
    "ela_",
    "chessboard",
    "left",
    "right",
    "letter",
    "imageText",
    "mask",
    "pic",
    "aloeGT",
    "board",
    "chart",
    "cards",
    "box.",
)
"""Parts of names of OpenCV's sample pictures that hold writing, charts or calibration patterns."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
LARGEST = 1024  # pixels of the longer side of a background picture


def load_pictures(folders: Iterable[str | Path] = DEFAULT_PICTURES, most: int = 200) -> list[Image.Image]:
    """Colour pictures of at least 160x160 pixels found in the folders, reduced to at most 1024; may be empty."""
    pictures: list[Image.Image] = []
    for folder in map(Path, folders):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp") or len(pictures) >= most:
                continue
            if "opencv-doc" in path.parts and any(part in path.name for part in UNSUITABLE):
                continue
            try:
                with Image.open(path) as image:
                    picture = image.convert("RGB")
            except (UnidentifiedImageError, OSError) as error:
                LOG.warning("background %s cannot be read: %s", path, error)
                continue
            picture.thumbnail((LARGEST, LARGEST))
            if min(picture.size) >= 160:
                pictures.append(picture)
    return pictures


def plain(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """One colour; signs are often white, black, red, blue, green or yellow."""
    return Image.new("RGB", size, tuple(int(value) for value in _colour(rng)))


def gradient(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A smooth change between two to four colours at the corners."""
    first = _colour(rng)
    near = np.clip(first + rng.normal(0, 40, (4, 3)), 0, 255)
    if rng.random() < 0.4:
        near = near[[0, 0, 1, 1]] if rng.random() < 0.5 else near[[0, 1, 0, 1]]
    small = Image.fromarray(near.reshape(2, 2, 3).astype(np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC, box=(0.5, 0.5, 1.5, 1.5))


def picture(rng: np.random.Generator, size: tuple[int, int], pictures: Sequence[Image.Image]) -> Image.Image:
    """A crop of a picture, enlarged or reduced, sometimes blurred."""
    image = pictures[int(rng.integers(len(pictures)))]
    zoom = min(np.exp(rng.uniform(np.log(0.25), np.log(1.3))), image.width / size[0], image.height / size[1])
    w, h = size[0] * zoom, size[1] * zoom
    x, y = rng.uniform(0, image.width - w + 1e-6), rng.uniform(0, image.height - h + 1e-6)
    x, y = min(x, image.width - w), min(y, image.height - h)
    crop = image.resize(size, Image.Resampling.BILINEAR, box=(max(x, 0.0), max(y, 0.0), x + w, y + h))
    if rng.random() < 0.4:
        crop = crop.filter(ImageFilter.GaussianBlur(rng.uniform(1, 6)))
    return crop


def background(rng: np.random.Generator, size: tuple[int, int], pictures: Sequence[Image.Image]) -> Image.Image:
    """Plain colour (35%), gradient (25%) or picture (40%; gradient if there are none), of ``size`` = (w, h)."""
    roll = rng.random()
    if roll < 0.35:
        return plain(rng, size)
    if roll < 0.6 or not pictures:
        return gradient(rng, size)
    return picture(rng, size, pictures)


SIGNS = np.array(
    [
        (250, 250, 250),
        (20, 20, 20),
        (190, 20, 25),
        (20, 60, 150),
        (15, 110, 60),
        (235, 200, 30),
        (240, 240, 225),
        (215, 215, 215),
        (240, 130, 20),
        (90, 60, 40),
    ],
    np.float32,
)


def _colour(rng: np.random.Generator) -> np.ndarray:
    """(3,) float32 in 0..255."""
    if rng.random() < 0.5:
        return np.clip(SIGNS[rng.integers(len(SIGNS))] + rng.normal(0, 10, 3), 0, 255).astype(np.float32)
    colour = rng.uniform(0, 255, 3)
    return (colour.mean() + (colour - colour.mean()) * rng.uniform(0.2, 1)).astype(np.float32)  # few things are garish


def luma(colour: np.ndarray) -> float:
    """Brightness in 0..1 of a colour in 0..255."""
    return float(np.asarray(colour, np.float32) @ LUMA) / 255


def ink_colour(rng: np.random.Generator, behind: np.ndarray, contrast: float) -> np.ndarray:
    """A colour (3,) in 0..255 that differs from ``behind`` (3,) by at least ``contrast`` in brightness (0..1).

    ``contrast`` at most 0.48, so that black or white always does.
    """
    base = luma(behind)
    for _ in range(8):
        colour = _colour(rng)
        if abs(luma(colour) - base) >= contrast:
            return colour
    goal = base + contrast * 1.02 if base < 0.5 else base - contrast * 1.02
    shift = (goal - luma(colour)) * 255
    moved = np.clip(colour + shift, 0, 255)
    if abs(luma(moved) - base) >= contrast:
        return moved
    return np.full(3, 255.0 if base < 0.5 else 0.0, np.float32)


def calm(image: Image.Image, behind: np.ndarray, ink: np.ndarray) -> Image.Image:
    """Reduces a background's contrast towards its mean until its texture cannot hide the ink."""
    grey = np.asarray(image.resize((max(image.width // 4, 4), 32), Image.Resampling.BOX).convert("L"), np.float32) / 255
    spread, gap = float(grey.std()), abs(luma(ink) - luma(behind))
    allowed = gap * 0.33
    if spread <= allowed:
        return image
    flat = Image.new("RGB", image.size, tuple(int(value) for value in behind))
    return Image.blend(flat, image, allowed / spread)
