"""Every graph of the bundles that CI has, and the paper's UNet, parsed, built and serialised with tensorrt-rtx."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from runtime.bundle import Bundle
from runtime.engines import EngineCache, Settings, Target, open_library, plan, prepare
from tests.runtime.engines.helpers import needs_rtx

pytestmark = [needs_rtx, pytest.mark.slow]
KNOWN = ("UINT8 data glyph_canvas.atlas is being converted to INT32",)
"""What the library warns of. It has no arithmetic in bytes; the atlas is four times as large in the engine."""


def build_all(bundle: Bundle, cache: EngineCache, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    library = open_library("tensorrt-rtx")
    wanted = plan(bundle, Settings(precision), Target(library, None), cache=cache)
    with caplog.at_level(logging.WARNING, "runtime.engines"):
        found = prepare(wanted)
    assert list(found) == list(bundle.graphs)
    assert all(engine.built and engine.size == len(engine.read()) for engine in found.values())
    odd = [
        record.getMessage()
        for record in caplog.records
        if not any(known in record.msg % record.args for known in KNOWN)
    ]
    assert odd == [], "the library says nothing else against our graphs"


def test_tiny_in_float32(tiny_bundle: Path, cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    build_all(Bundle.open(tiny_bundle), cache, "fp32", caplog)


def test_compact_in_float32(cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    build_all(Bundle.open("compact"), cache, "fp32", caplog)


def test_compact_in_half(cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    bundle = Bundle.open("compact")
    if not all(getattr(graph, "half", None) for graph in bundle.graphs.values()):
        pytest.skip("the shipped bundle has no half graphs")
    build_all(bundle, cache, "fp16", caplog)
