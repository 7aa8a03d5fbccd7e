"""Fixtures shared by all tests."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Folder of a bundle of the tiny preset with seeded random weights: built once a run, read only."""
    pytest.importorskip("torch", reason="a tiny bundle is built with torch")
    from export.build import build_bundle

    base = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # the workers of pytest-xdist share one
        base = base.parent
    folder = base / "tiny-bundle"
    with (base / "tiny-bundle.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "bundle.json").is_file():
            build_bundle(preset="tiny", checkpoint=None, out=folder, precision="fp32")
    return folder
