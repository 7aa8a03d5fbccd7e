"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_bundle() -> Path:
    """Folder of a bundle of the tiny preset with seeded random weights, read only (`tests.tiny.build`)."""
    pytest.importorskip("torch", reason="a tiny bundle is built with torch")
    from tests.tiny import build

    return build()
