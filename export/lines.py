"""Lines of text to measure ranges and errors on: drawn from the shipped glyph atlas, so that there are always some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from runtime.bundle import Bundle
from runtime.restorer import open_reader
from textsr.alphabet import Alphabet
from textsr.atlas import SIZE, load_atlas
from textsr.batch import line_batch
from textsr.config import Preset
from textsr.errors import InputError
from textsr.fit import fit_line
from textsr.images import load_image
from textsr.inputs import collect
from textsr.linetext import LineText
from textsr.loop import Executor, LineBatch
from textsr.noise import image_key
from textsr.reading import LineReading, is_wide

TEXTS = ("地铁2号线 人民广场站", "Opening hours 9:30-18:00", "上海市黄浦区南京东路328号", "SALE 50% off today")
"""What the drawn lines read: Chinese and Latin, dense and sparse; the lines are drawn in this order."""
_LOOKS = (((250, 246, 235), (25, 25, 40)), ((20, 60, 120), (240, 240, 240)), ((200, 30, 30), (255, 225, 80)))
"""Colours of paper and ink."""


def draw(text: str, alphabet: Alphabet, seed: int) -> NDArray[np.uint8]:
    """A small, blurred, noisy picture (32, w, 3) uint8 of ``text``; characters outside the alphabet are blank."""
    atlas, (tokens, _) = load_atlas(), alphabet.encode(text, len(text))
    cells = []
    for character, token in zip(text, tokens, strict=True):
        glyph = Image.fromarray(atlas[min(token, len(atlas) - 1)])
        cells.append(np.asarray(glyph.resize((SIZE if is_wide(character) else SIZE // 2, SIZE))))
    ink = np.pad(np.concatenate(cells, axis=1), 8)[..., None] / 255
    paper, pen = (np.array(colour, np.float64) for colour in _LOOKS[seed % len(_LOOKS)])
    rng = np.random.default_rng(seed)
    left, right = rng.uniform(0.8, 1.0, 2)
    shade = np.linspace(left, right, ink.shape[1])[None, :, None]
    picture = Image.fromarray(((paper + (pen - paper) * ink) * shade).astype(np.uint8))
    small = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 1.6)))
    small = small.resize((round(picture.width * 32 / picture.height), 32), Image.Resampling.BICUBIC)
    noisy = np.asarray(small, np.float64) + rng.normal(0, 6, (small.height, small.width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def drawn_lines(preset: Preset, alphabet: Alphabet, count: int) -> LineBatch:
    """The first ``count`` of `TEXTS` as the loop takes them, each with its text."""
    images = [draw(text, alphabet, seed) for seed, text in enumerate(TEXTS[:count])]
    readings = [LineText(text).reading(image) for text, image in zip(TEXTS, images, strict=False)]
    return _batch(images, readings, preset, alphabet)


def folder_lines(folder: Path, bundle: Bundle, executor: Executor) -> LineBatch:
    """The pictures of a folder as the loop takes them, read by the bundle's recogniser where it is installed.

    :raises InputError: there is no picture, or one cannot be read.
    """
    found = collect([str(folder)])
    if not found.items:
        raise InputError(f"{folder}: holds no pictures to measure on")
    images = [load_image(item.path) for item in found.items]
    reader = open_reader(bundle, executor)
    readings: Sequence[LineReading | None] = reader.read(images) if reader else [None] * len(images)
    return _batch(images, readings, bundle.preset, bundle.alphabet)


def _batch(
    images: Sequence[NDArray[np.uint8]], readings: Sequence[LineReading | None], preset: Preset, alphabet: Alphabet
) -> LineBatch:
    fitted = [fit_line(image, preset) for image in images]
    return line_batch(fitted, [image_key(image) for image in images], readings, alphabet, preset)
