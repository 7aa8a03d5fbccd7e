"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a bundle of the tiny preset with seeded random weights."""
    pytest.importorskip("torch", reason="a tiny bundle is built with torch")
    from export.build import build_bundle

    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    build_bundle(preset="tiny", checkpoint=None, out=folder, precision="fp32")
    return folder


def draw_line(text: str = "Hello 42", height: int = 24, width: int = 120) -> NDArray[np.uint8]:
    """A picture (height, width, 3) of a text line in Pillow's own font, dark on light."""
    picture = Image.new("RGB", (width, height), (236, 232, 220))
    font = ImageFont.load_default(max(6, height * 0.7))
    ImageDraw.Draw(picture).text((4, height * 0.1), text, font=font, fill=(30, 30, 80))
    return np.asarray(picture).copy()


@pytest.fixture(scope="session")
def line() -> NDArray[np.uint8]:
    """A text line of 24 x 120 pixels."""
    return draw_line()
