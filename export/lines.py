"""Lines of text to measure ranges and errors on: drawn from the shipped glyph atlas, so that there are always some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from export.recording import Material
from export.source import Source
from runtime.bundle import Bundle
from runtime.executors.onnxruntime import OrtExecutor
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
from textsr.loop import LineBatch
from textsr.noise import image_key
from textsr.reading import LineReading, is_wide

TEXTS = ("地铁2号线 人民广场站", "Opening hours 9:30-18:00", "上海市黄浦区南京东路328号", "SALE 50% off today")
"""What the drawn lines read: Chinese and Latin, dense and sparse; the lines are drawn in this order."""
STEPS: dict[str, int | None] = {"paper": 1}
"""Steps of the loop to measure on, by preset; all where it has no entry. A step of `paper` takes half a minute."""
LINES: dict[str, int] = {"paper": 1}
"""Lines to draw, by preset; `DEFAULT_LINES` where it has no entry."""
DEFAULT_LINES = 2
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


def drawn(source: Source) -> Material:
    """The first of `TEXTS`, each with its text."""
    preset, texts = source.model.preset, TEXTS[: LINES.get(source.model.preset.name, DEFAULT_LINES)]
    images = [draw(text, source.alphabet, seed) for seed, text in enumerate(texts)]
    readings = [LineText(text).reading(image) for text, image in zip(texts, images, strict=True)]
    told = {"source": "drawn from the shipped glyph atlas, shaded, blurred, with noise", "texts": list(texts)}
    lines = _batch(images, readings, preset, source.alphabet)
    return Material(lines, told, STEPS.get(preset.name), source.symbols)


def pictures(folder: Path, bundle: Bundle, source: Source) -> Material:
    """The pictures of a folder, read by the bundle's recogniser where it is installed.

    :raises InputError: there is no picture, or one cannot be read.
    """
    found = collect([str(folder)])
    if not found.items:
        raise InputError(f"{folder}: holds no pictures to measure on")
    images = [load_image(item.path) for item in found.items]
    reader = open_reader(bundle, OrtExecutor(bundle, "cpu"))
    readings: Sequence[LineReading | None] = reader.read(images) if reader else [None] * len(images)
    told = {
        "source": "pictures of a folder",
        "files": [item.path.name for item in found.items],
        "sha256": [image_key(image).hex() for image in images],
        "texts": [reading.text if reading else "" for reading in readings],
    }
    lines = _batch(images, readings, source.model.preset, source.alphabet)
    return Material(lines, told, STEPS.get(bundle.preset.name), source.symbols)


def _batch(
    images: Sequence[NDArray[np.uint8]], readings: Sequence[LineReading | None], preset: Preset, alphabet: Alphabet
) -> LineBatch:
    fitted = [fit_line(image, preset) for image in images]
    return line_batch(fitted, [image_key(image) for image in images], readings, alphabet, preset)
