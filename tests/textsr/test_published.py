"""Published state dicts into networks: what is understood, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.textsr import vectors
from textsr.checkpoint import CONSTRUCTED, from_published, state
from textsr.checkpoint.published import KINDS, unwrapped
from textsr.config import TINY, ScheduleConfig
from textsr.errors import BundleError, InputError

SMALL = replace(
    TINY,
    name="small paper",
    glyph=None,
    unet=replace(TINY.unet, glyph_channels=0, prior_channels=0, painted_channels=0),
    schedule=ScheduleConfig(),
)
"""What `paper` consists of, in the sizes of ``tiny``."""
OLD, NEW = "axial_pos_emb.weights_0", "axial_pos_emb.weights.0"


def tensors(kind: str) -> dict[str, Tensor]:
    """A published state dict of that kind: plain ResShift for the UNet."""
    return {name: tensor for name, tensor in _filled(kind).items() if not name.startswith("text_blocks.")}


@cache
def _filled(kind: str) -> dict[str, Tensor]:
    return state(vectors.fill(KINDS[kind].build(SMALL)))


def equal(net: torch.nn.Module, expected: dict[str, Tensor]) -> bool:
    held = net.state_dict()
    return all(torch.equal(held[name], tensor.float()) for name, tensor in expected.items())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_loads_under_every_wrapping(kind: str) -> None:
    plain = tensors(kind)
    section = KINDS[kind].section or "state_dict"
    wrappings: list[dict[str, Any]] = [
        plain,
        {"state_dict": plain, "epoch": 3},
        {f"module.{name}": tensor for name, tensor in plain.items()},
        {"state_dict": {f"_orig_mod.module.{name}": tensor for name, tensor in plain.items()}},
        {section: {f"module._orig_mod.{name}": tensor for name, tensor in plain.items()}, "other": {}},
    ]
    for wrapping in wrappings:
        net = from_published(kind, wrapping, SMALL)
        assert not net.training
        assert equal(net, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_constructed_may_be_there_or_not_and_is_not_read(kind: str) -> None:
    plain = tensors(kind)
    built = KINDS[kind].build(SMALL)
    made = {name: tensor for name, tensor in built.state_dict().items() if name.endswith(CONSTRUCTED)}
    wrong = {name: torch.full_like(tensor, 7) for name, tensor in made.items()}
    net = from_published(kind, {**plain, **wrong, "input_blocks.1.1.blocks.1.attn_mask": torch.zeros(3)}, SMALL)
    assert equal(net, plain)
    assert equal(net, {name: tensor for name, tensor in made.items() if "num_batches" not in name})


def test_half_precision_is_raised_to_single() -> None:
    half = {name: tensor.half() for name, tensor in tensors("difftsr-mom").items()}
    net = from_published("difftsr-mom", half, SMALL)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert equal(net, half)


def test_both_spellings_of_the_axial_positions() -> None:
    plain = tensors("difftsr-tdm")
    assert any(NEW in name for name in plain)
    old = {name.replace("axial_pos_emb.weights.", "axial_pos_emb.weights_"): value for name, value in plain.items()}
    assert any(OLD in name for name in old)
    assert equal(from_published("difftsr-tdm", old, SMALL), plain)


def test_new_cross_attention_changes_nothing_until_trained() -> None:
    net = from_published("resshift-unet", tensors("resshift-unet"), SMALL)
    z_t, lq, text = torch.randn(1, 4, 32, 128), torch.rand(1, 3, 32, 128), torch.randn(1, 24, 16)
    with torch.no_grad():
        expected = net(z_t, torch.tensor([7]), lq)
        assert expected.std() > 0.01
        assert torch.equal(net(z_t, torch.tensor([7]), lq, text), expected)
    trained = tensors("resshift-unet") | {
        name: torch.ones_like(value) * 0.1
        for name, value in net.state_dict().items()
        if name.startswith("text_blocks.")
    }
    with torch.no_grad():
        again = from_published("resshift-unet", trained, SMALL)(z_t, torch.tensor([7]), lq, text)
    assert not torch.allclose(again, expected)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_whatever_does_not_fit_is_named(kind: str, data: st.DataObject) -> None:
    wrong = tensors(kind)
    names = sorted(wrong)
    missing, misshapen = data.draw(st.lists(st.sampled_from(names), min_size=2, max_size=2, unique=True))
    extra = data.draw(st.text("abc.", min_size=1, max_size=9).map(lambda text: f"x{text}"))
    del wrong[missing]
    wrong[misshapen] = torch.zeros(*wrong[misshapen].shape, 2)
    wrong[extra] = torch.zeros(1)
    with pytest.raises(BundleError) as caught:
        from_published(kind, wrong, SMALL)
    message = str(caught.value)
    assert all(name in message for name in (missing, misshapen, extra, kind))


def test_half_a_text_block_is_not_taken_for_none() -> None:
    wrong = tensors("resshift-unet")
    block = state(KINDS["resshift-unet"].build(SMALL))
    name = next(name for name in block if name.startswith("text_blocks."))
    with pytest.raises(BundleError, match=r"missing \d+ \['text_blocks"):
        from_published("resshift-unet", {**wrong, name: block[name]}, SMALL)


def test_what_is_no_state_dict_is_refused() -> None:
    with pytest.raises(InputError, match="unknown kind 'resnet': choose one of resshift-unet, vqgan-f4"):
        from_published("resnet", {})
    with pytest.raises(BundleError, match="'epoch' is a int, not a tensor"):
        from_published("transocr", {"epoch": 3}, SMALL)
    with pytest.raises(BundleError, match="two tensors come to have the name 'a'"):
        unwrapped({"a": torch.zeros(1), "module.a": torch.zeros(1)})


def test_a_prefix_is_taken_off_only_in_front() -> None:
    found = unwrapped({"module.inner.module.weight": torch.zeros(1), "modules.x": torch.zeros(1)})
    assert set(found) == {"inner.module.weight", "modules.x"}
