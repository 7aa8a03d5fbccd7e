"""Bundles of models that were trained without a part: exported with parity, and run as their checkpoint says."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import export.build
from export.build import build_bundle, trace_graphs
from export.parity import measure
from runtime import Restorer
from runtime.bundle import Bundle
from tests.export.helpers import traced_graphs
from textsr.checkpoint import WITHOUT, save_model
from textsr.config import TINY, ablated
from textsr.errors import InputError
from textsr.graphs import Model, graphs
from textsr.linetext import LineText


@pytest.fixture(autouse=True)
def quick_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of the loop instead of all."""
    monkeypatch.setattr(export.build, "measure", partial(measure, steps=2))


def trained(name: str, folder: Path) -> tuple[Model, Path]:
    """A variant whose text reaches the picture, and its checkpoint."""
    torch.manual_seed(0)
    model = Model(ablated(TINY, [name])).eval()
    torch.nn.init.normal_(model.unet.out[2].weight, std=0.5)  # type: ignore[arg-type]  # 0 at first
    save_model(model, folder / "model.safetensors", {WITHOUT: name})
    return model, folder / "model.safetensors"


def pictures(bundle: Path, texts: list[LineText | str]) -> list[np.ndarray]:
    """A line restored with each of ``texts``."""
    restorer = Restorer.open(bundle, "cpu", threads=1, read_text=False)
    line = np.random.default_rng(0).integers(0, 256, (32, 80, 3), dtype=np.uint8)
    return [restorer([line], [text], steps=2)[0].image for text in texts]


def test_a_bundle_without_confidence(tiny_bundle: Path, tmp_path: Path) -> None:
    model, checkpoint = trained("confidence", tmp_path)
    traced = traced_graphs(tiny_bundle)  # the graphs are those of the whole model
    out = build_bundle(preset="tiny", checkpoint=checkpoint, out=tmp_path / "bundle", traced=traced)
    bundle = Bundle.open(out)
    assert bundle.preset == model.preset
    assert not bundle.preset.confidence
    assert bundle.provenance[WITHOUT] == "confidence"
    doubted, sure = pictures(out, [LineText("ab", (0.1, 0.2)), LineText("ab", (1.0, 1.0))])
    np.testing.assert_array_equal(doubted, sure)
    assert Bundle.open(tiny_bundle).preset.confidence


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text", "glyph-canvas", "cross-attention"])
def test_a_bundle_without_a_part(name: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, checkpoint = trained(name, tmp_path)
    shared = traced_graphs(tiny_bundle)
    monkeypatch.setattr(export.build, "graphs", lambda whole: {"unet_step": graphs(whole)["unet_step"]})
    traced = {graph: shared[graph] for graph in graphs(model)} | trace_graphs(model)
    out = build_bundle(preset="tiny", checkpoint=checkpoint, out=tmp_path / "bundle", traced=traced)
    bundle = Bundle.open(out)
    assert bundle.preset == model.preset
    assert set(bundle.graphs) == set(graphs(model))
    one, other = pictures(out, ["ab", ""])
    assert one.shape == other.shape == (128, 320, 3)
    if name == "text":
        np.testing.assert_array_equal(one, other)
        with pytest.raises(InputError, match="no graphs for the categorical text sampler"):
            Restorer.open(out, "cpu", read_text=False)([one], ["ab"], text_sampler="categorical")
