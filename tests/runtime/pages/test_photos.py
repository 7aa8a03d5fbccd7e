"""Real photos, where TEXTSR_PHOTOS names a folder of them; they are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.pages import Pages
from runtime.pages.geometry import homography, inverted, project, rectangle, sides
from runtime.result import enlarged
from tests.runtime.pages.stand_ins import PaintingRestorer
from textsr.images import SUFFIXES, load_image

FOLDER = os.environ.get("TEXTSR_PHOTOS", "")


def harsh(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of more contrast, shifted, and tinted."""
    return np.clip(1.4 * (image - 128.0) + np.array((160, 128, 90)), 0, 255).astype(np.uint8)


@pytest.mark.slow
def test_photos() -> None:
    """Of each photo only what lies in a found line changes, however wrong the line is; and not its mean colour."""
    photos = sorted(path for path in Path(FOLDER).glob("*") if path.suffix.lower() in SUFFIXES) if FOLDER else []
    if not photos:
        pytest.skip("no photos: name a folder of them with TEXTSR_PHOTOS")
    pytest.importorskip("rapidocr", reason="the extra [ocr] is not installed")
    pages = Pages(PaintingRestorer(harsh))
    found = 0
    for path in photos:
        image = load_image(path)
        image = image[:: -(-max(image.shape[:2]) // 600), :: -(-max(image.shape[:2]) // 600)]
        before, page = enlarged(image, 4), pages(image)
        found += len(page.lines)
        rows, columns = np.nonzero((before != page.image).any(axis=2))
        points = (np.column_stack([columns, rows]) + 0.5) / 4
        outside = np.ones(len(points), dtype=bool)
        for line in page.lines:
            height, width = sides(line.corners)
            at = project(inverted(homography(rectangle(width, height), line.corners)), points)
            outside &= ~((at > -0.01) & (at < np.array((width, height)) + 0.01)).all(axis=1)
        assert not outside.any(), path.name
        change = page.image.mean(axis=(0, 1)) - before.mean(axis=(0, 1))
        assert np.abs(change).max() < 2, path.name
    assert found > len(photos)
