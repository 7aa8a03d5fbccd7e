"""Every graph of the bundles that CI has, and the paper's UNet, parsed, built and serialised with tensorrt-rtx."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest

from runtime.bundle import SHIPPED, Bundle, GraphSpec, TensorSpec
from runtime.engines import EngineCache, Settings, Target, open_library, plan, prepare
from tests.runtime.engines.half import with_half
from tests.runtime.engines.helpers import needs_rtx
from textsr.alphabet import Alphabet
from textsr.config import PAPER

pytestmark = [needs_rtx, pytest.mark.slow]
KNOWN = ("UINT8 data glyph_canvas.atlas is being converted to INT32",)
"""What the library warns of. It has no arithmetic in bytes; the atlas is four times as large in the engine."""


def build_all(bundle: Bundle, cache: EngineCache, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    """Builds every graph with all profiles, for whatever GPU is named portable."""
    wanted = plan(bundle, Settings(precision), Target(open_library("tensorrt-rtx"), None), cache=cache)
    with caplog.at_level(logging.WARNING, "runtime.engines"):
        found = prepare(wanted)
    assert list(found) == list(bundle.graphs)
    assert all(engine.built and engine.size == len(engine.read()) for engine in found.values())
    told = [record.getMessage() for record in caplog.records]
    assert [message for message in told if not any(known in message for known in KNOWN)] == [], "nothing else is odd"


@pytest.mark.parametrize("preset", ["tiny", "compact"])
def test_in_float32(preset: str, tiny_bundle: Path, cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    build_all(Bundle.open(tiny_bundle if preset == "tiny" else preset), cache, "fp32", caplog)


@pytest.mark.parametrize("preset", ["tiny", "compact"])
def test_in_half(
    preset: str, tiny_bundle: Path, tmp_path: Path, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = Bundle.open(tiny_bundle if preset == "tiny" else preset)
    if any(graph.half is None for graph in bundle.graphs.values()):
        bundle = with_half(tiny_bundle if preset == "tiny" else SHIPPED / preset, tmp_path / "half")
    build_all(bundle, cache, "fp16", caplog)


@pytest.fixture
def paper_step(tmp_path: Path) -> Bundle:
    """The paper's UNet step alone, with random weights (153 million, 614 MB). Takes about a minute."""
    torch = pytest.importorskip("torch", reason="the paper's UNet is exported with torch")
    from export.trace import io_spec, trace
    from export.weights import WEIGHTS, attach, layout, save_weights
    from textsr.graphs import Model, UNetStep, example_inputs
    from textsr.networks.unet import UNet

    with torch.device("meta"):
        model = Model(PAPER)
    only = torch.nn.Module()
    only.unet = model.unet = UNet(PAPER.unet)
    inputs = example_inputs(model, "unet_step")
    traced = trace("unet_step", UNetStep(model), inputs, {f"unet.{k}": v for k, v in model.unet.state_dict().items()})
    save_weights(only, tmp_path / WEIGHTS, "fp32", {})
    path = tmp_path / "unet_step.onnx"
    path.write_bytes(attach(traced, layout(tmp_path / WEIGHTS)).SerializeToString())
    sides = io_spec(traced.model, traced.weights)
    inputs_outputs = [
        tuple(TensorSpec(tensor["name"], tuple(tensor["shape"]), tensor["dtype"]) for tensor in sides[side])
        for side in ("inputs", "outputs")
    ]
    graph = GraphSpec("unet_step", path, inputs_outputs[0], inputs_outputs[1])
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    return Bundle(tmp_path, PAPER, Alphabet.load(), {"unet_step": graph}, None, "fp32", files, {}, {})


def test_the_papers_unet(paper_step: Bundle, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = EngineCache(tmp_path_factory.mktemp("paper"))
    wanted = plan(paper_step, Settings(), Target(open_library("tensorrt-rtx"), None), cache=cache)
    (engine,) = prepare(wanted).values()
    weights = sum(path.stat().st_size for path in paper_step.path.glob("*.safetensors"))
    assert weights < engine.size < 1.3 * weights, "the profiles share the weights"
    assert engine.layers > 5000
