"""What a preset can do without: each switch changes what it says and nothing else, from the preset to the loop."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from textsr.checkpoint import WITHOUT, load_model, read_metadata, save_model, stated_ablations, stated_preset
from textsr.config import ABLATIONS, COMPACT, PAPER, TINY, GlyphConfig, Preset, ablated
from textsr.errors import BundleError, InputError
from textsr.graphs import Model, graphs
from textsr.loop import LineBatch, LoopOutput, restore
from textsr.program import TEXT_BRANCH
from textsr.reading import TextArrays, unseen, used_text
from textsr.torch_executor import TorchExecutor

SMALL = replace(TINY, height=32, width=128, symbols=50, transocr=None)
CHANGED = {
    "cross-attention": {"unet.context_dim"},
    "confidence": {"confidence"},
    "progressive-sampling": set(),
    "text": {"text", "unet.context_dim", "unet.glyph_channels", "glyph"},
    "glyph-canvas": {"unet.glyph_channels", "glyph"},
}


def flat(data: dict[str, Any], before: str = "") -> dict[str, Any]:
    """``{"unet.ch": 1}`` of ``{"unet": {"ch": 1}}``; of the canvas only whether there is one."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        nested = isinstance(value, dict) and name != "glyph"
        found |= flat(value, f"{before}{name}.") if nested else {f"{before}{name}": value}
    return found


def variant(*names: str) -> Model:
    """SMALL without some parts; the same random weights for what two variants share."""
    torch.manual_seed(0)
    model = Model(ablated(SMALL, names))
    for place, (_, parameter) in enumerate(sorted(model.named_parameters())):
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(place))
    if model.preset.glyph is not None:
        atlas = model.glyph_canvas.atlas
        atlas.copy_(torch.randint(0, 256, atlas.shape, generator=torch.Generator().manual_seed(0)))
    return model.eval()


def batch(weights: float = 0.3) -> LineBatch:
    rng, places = np.random.default_rng(0), (np.arange(24, dtype=np.float32) + np.float32(0.5)) / np.float32(24)
    tokens = np.full((1, 24), SMALL.padding)
    tokens[0, :5] = [1, 2, SMALL.padding, 3, 4]
    shares = np.ones((1, 24), np.float32)
    shares[0, :5] = [weights, weights, 0, weights, weights]
    lq, image = (rng.uniform(-1, 1, (1, 3, h, w)).astype(np.float32) for h, w in ((8, 32), (32, 128)))
    seen = places[None], np.full((1, 24), 0.04, np.float32), *unseen((1, 24))
    return LineBatch(lq, image, **vars(TextArrays(tokens, shares, *seen)), keys=[b"a"], windows=[0])


def run(model: Model, lines: LineBatch, **options: Any) -> LoopOutput:
    return restore(TorchExecutor(graphs(model)), model.preset, lines, steps=2, **options)


def latent(model: Model, lines: LineBatch) -> NDArray[np.float32]:
    """The last z_0 of the loop: the codebook, which follows, hides small differences."""
    seen: list[Any] = []
    run(model, lines, observer=lambda _step, graph, _inputs, outputs: seen.append((graph, outputs)))
    return next(outputs["z_prev"].numpy() for graph, outputs in reversed(seen) if graph == "unet_step")


@pytest.mark.parametrize("whole", [COMPACT, TINY], ids=lambda preset: preset.name)
@pytest.mark.parametrize("name", ABLATIONS)
def test_a_switch_changes_what_it_says_and_nothing_else(whole: Preset, name: str) -> None:
    before, after = flat(asdict(whole)), flat(asdict(ablated(whole, [name])))
    changed = CHANGED[name]
    if whole.unet.painted_channels and "unet.glyph_channels" in changed:  # what is painted are the canvas's glyphs
        changed = changed | {"unet.painted_channels"}
    assert {key for key in before if before[key] != after[key]} == changed
    assert ablated(ablated(whole, [name]), []) == ablated(whole, [name])


def test_nothing_left_out_is_the_preset_itself() -> None:
    assert ablated(PAPER, ()) == PAPER
    assert ablated(PAPER, ["cross-attention"]).unet.context_dim is None
    assert ablated(COMPACT, ["text"]) == ablated(COMPACT, ["text", "cross-attention", "glyph-canvas"])


def test_what_cannot_be_left_out_is_told() -> None:
    with pytest.raises(InputError, match="without colour: choose of cross-attention, confidence"):
        ablated(TINY, ["colour"])
    with pytest.raises(InputError, match="paper has no glyph canvas"):
        ablated(PAPER, ["glyph-canvas"])
    with pytest.raises(InputError, match="without text there is no cross-attention"):
        replace(TINY, text=False)
    for part in ({"glyph": None}, {"glyph": GlyphConfig()}, {"unet": replace(TINY.unet, painted_channels=2)}):
        with pytest.raises(InputError, match="painted_channels needs prior_channels equal to it"):
            replace(TINY, **part)


def test_networks_lack_what_was_left_out() -> None:
    whole = {name: tuple(p.shape) for name, p in Model(SMALL).named_parameters()}
    blocks = {name for name in whole if name.startswith("unet.text_blocks.")}
    first = "unet.input_blocks.0.0.weight"
    assert blocks
    for names, gone, narrower in [
        (["cross-attention"], blocks, set()),
        (["confidence"], set(), set()),
        (["progressive-sampling"], set(), set()),
        (["text"], blocks, {first}),
        (["glyph-canvas"], set(), {first}),
    ]:
        shapes = {name: tuple(p.shape) for name, p in Model(ablated(SMALL, names)).named_parameters()}
        assert whole.keys() - shapes.keys() == gone, names
        assert {name for name in shapes if shapes[name] != whole[name]} == narrower, names
    assert set(graphs(variant("text"))).isdisjoint({"glyph_canvas", "painted_encoder", *TEXT_BRANCH})
    assert "painted_encoder" not in graphs(variant("glyph-canvas"))


readings = st.lists(st.tuples(st.integers(0, SMALL.padding), st.floats(0, 1, width=32)), max_size=24)


@given(readings)
def test_text_as_the_model_is_given_it(pairs: list[tuple[int, float]]) -> None:
    tokens, weights = np.array([t for t, _ in pairs], np.int64), np.array([w for _, w in pairs], np.float32)
    plain = used_text(tokens, weights, SMALL)
    assert plain[0] is tokens
    assert plain[1] is weights
    shown, sure = used_text(tokens, weights, ablated(SMALL, ["confidence"]))
    assert sure.dtype == np.float32
    np.testing.assert_array_equal(shown, tokens)
    np.testing.assert_array_equal(sure, [1 if t != SMALL.padding else w for t, w in pairs])
    blank, nothing = used_text(tokens, weights, ablated(SMALL, ["text"]))
    assert (blank == SMALL.padding).all()
    assert (nothing == 0).all()
    assert blank.shape == nothing.shape == tokens.shape


def test_without_confidence_a_doubt_changes_nothing() -> None:
    whole, sure = variant(), variant("confidence")
    one, other = (latent(sure, batch(weight)) for weight in (0.1, 0.9))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, latent(whole, batch(1.0)))
    assert not np.array_equal(latent(whole, batch(0.1)), latent(whole, batch(0.9)))


@pytest.mark.parametrize(("names", "reads"), [(["text"], False), (["glyph-canvas"], True), (["cross-attention"], True)])
def test_text_reaches_the_picture_by_what_is_left(names: list[str], reads: bool) -> None:
    model, lines = variant(*names), batch()
    other = replace(lines, tokens=np.where(lines.tokens == 1, 7, lines.tokens))
    assert (not np.array_equal(latent(model, lines), latent(model, other))) == reads
    moved = replace(lines, centres=lines.centres[:, ::-1].copy())
    canvas = names == ["cross-attention"]
    assert (not np.array_equal(latent(model, lines), latent(model, moved))) == canvas


def test_what_has_no_text_has_none_to_sample() -> None:
    with pytest.raises(InputError, match="trained without text"):
        run(variant("text"), batch(), text_sampler="categorical")
    assert run(variant("cross-attention"), batch(), text_sampler="categorical").tokens.shape == (1, 24)


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_checkpoint_states_what_it_was_trained_without(name: str, tmp_path: Path) -> None:
    path, model = tmp_path / "model.safetensors", variant(name)
    save_model(model, path, {WITHOUT: name})
    metadata = read_metadata(path)
    assert stated_ablations(metadata) == (name,)
    shape = stated_preset(SMALL, metadata)
    assert shape == model.preset
    loaded = load_model(path, shape)
    assert isinstance(loaded, Model)
    np.testing.assert_array_equal(run(loaded, batch()).image, run(model, batch()).image)


def test_default_steps_are_stated() -> None:
    assert stated_preset(SMALL, {"default_steps": "4"}) == replace(SMALL, default_steps=4)
    for wrong in ("0", "19", "four", "-1", ""):
        with pytest.raises(BundleError, match="is not from 1 to 18"):
            stated_preset(SMALL, {"default_steps": wrong})


def test_metadata_without_a_known_part() -> None:
    assert stated_preset(SMALL, {}) == SMALL
    assert stated_ablations({}) == ()
    assert stated_preset(SMALL, {WITHOUT: "text,confidence"}) == ablated(SMALL, ["text", "confidence"])
    with pytest.raises(BundleError, match="trained without colour: choose of"):
        stated_preset(SMALL, {WITHOUT: "colour"})
