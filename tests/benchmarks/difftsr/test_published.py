"""DiffTSR's own networks against the golden vectors, its parameter counts, and what a wrong state dict is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.difftsr import FULL, SMALL, DiffTSR, KLAutoencoder, from_published, image_denoiser
from tests.textsr import golden
from textsr.errors import BundleError, InputError


def listed(name: str) -> dict[str, Tensor]:
    """The recipe's state dict under the published names."""
    lines = (golden.FOLDER / f"keys_{name}.tsv").read_text(encoding="utf-8").split("\n")
    weight = golden.recipe().weight
    shapes = {key: tuple(map(int, shape.split("x"))) for key, shape, _ in (row.split("\t") for row in lines if row)}
    return {key: torch.from_numpy(np.asarray(weight(key, shape))) for key, shape in shapes.items()}


@golden.needs_golden
@pytest.mark.slow
@torch.no_grad()
def test_image_denoiser_equals_published() -> None:
    vectors = golden.load("difftsr_idm")
    idm = from_published("difftsr-idm", {"IDM_Unet": listed("difftsr_idm")})
    x, context = golden.normal("idm.x", 1, 6, 32, 128), golden.normal("idm.context", 1, 24, 160)
    golden.assert_close(idm(x, torch.from_numpy(vectors["t"]), context), vectors["eps"])


@golden.needs_golden
@pytest.mark.slow
@torch.no_grad()
def test_autoencoder_equals_published() -> None:
    vectors = golden.load("difftsr_vae")
    vae = from_published("difftsr-vae", {f"module.{key}": value for key, value in listed("difftsr_vae").items()})
    assert isinstance(vae, KLAutoencoder)
    decoded = vae.decode(golden.normal("vae.z", 1, 3, 32, 128))
    golden.assert_close(decoded[..., ::4, ::4], vectors["decoded"])
    assert float(decoded.mean()) == pytest.approx(float(vectors["mean"]), abs=1e-5)
    assert float(decoded.std()) == pytest.approx(float(vectors["std"]), rel=1e-4)


def test_parameters_at_full_size() -> None:
    with torch.device("meta"):
        idm, vae = image_denoiser(FULL), KLAutoencoder(FULL.preset.vqgan)
    assert sum(p.numel() for p in idm.parameters()) == 874_024_003
    assert sum(p.numel() for p in vae.parameters()) == 55_312_063
    assert not list(idm.buffers())  # they are made empty and then filled: a constructed buffer would be lost
    assert not list(vae.buffers())


def states() -> dict[str, dict[str, Tensor]]:
    """The small networks' state dicts by section of DiffTSR.ckpt."""
    model = DiffTSR.random(1, SMALL)
    nets = {"IDM_Unet": model.idm, "TDM_Decoder": model.tdm, "MoM_module": model.mom, "VAE_model": model.vae}
    return {name: net.state_dict() for name, net in nets.items()}


@pytest.mark.parametrize(
    ("kind", "section"),
    [
        ("difftsr-idm", "IDM_Unet"),
        ("difftsr-vae", "VAE_model"),
        ("difftsr-mom", "MoM_module"),
        ("difftsr-tdm", "TDM_Decoder"),
    ],
)
def test_every_way_a_file_may_be_wrapped(kind: str, section: str) -> None:
    sections = states()
    plain = sections[section]
    prefixed = {f"module._orig_mod.{key}": tensor for key, tensor in plain.items()}
    wrapped: list[Mapping[str, Any]] = [plain, sections, {"state_dict": plain}, prefixed]
    for state_dict in wrapped:
        net = from_published(kind, state_dict, SMALL)
        assert not net.training
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, plain[name]), name


def test_the_recogniser_too() -> None:
    model = DiffTSR.random(1, SMALL)
    assert model.transocr is not None
    state_dict = {f"module.{k}": v for k, v in model.transocr.state_dict().items()}
    net = from_published("transocr", state_dict, SMALL)
    assert all(torch.equal(net.state_dict()[k], v) for k, v in model.transocr.state_dict().items())


@pytest.mark.parametrize(("kind", "section"), [("difftsr-idm", "IDM_Unet"), ("difftsr-vae", "VAE_model")])
def test_what_does_not_fit_is_named(kind: str, section: str) -> None:
    state_dict = states()[section]
    last, first = list(state_dict)[-1], next(iter(state_dict))
    cases: list[tuple[dict[str, Tensor], str]] = [
        ({k: v for k, v in state_dict.items() if k != last}, f"missing 1 \\['{last}'\\]"),
        ({**state_dict, "extra.weight": torch.zeros(1)}, r"unexpected 1 \['extra.weight'\]"),
        ({**state_dict, first: torch.zeros(2, 2)}, f"other shapes 1 .*{first} \\(2, 2\\) not"),
    ]
    for wrong, message in cases:
        with pytest.raises(BundleError, match=message) as caught:
            from_published(kind, wrong, SMALL)
        assert kind in str(caught.value)
    with pytest.raises(BundleError, match="int, not a tensor"):
        from_published(kind, {**state_dict, "epoch": 3}, SMALL)


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"difftsr-idm, difftsr-vae, .*transocr"):
        from_published("unet", {}, SMALL)


@torch.no_grad()
def test_encoding_is_the_mean_or_a_sample() -> None:
    vae = DiffTSR.random(2, SMALL).vae
    image, noise = torch.rand(2, 3, 32, 128), torch.randn(2, 3, 8, 32)
    moments = vae.quant_conv(vae.encoder(image))
    assert moments.shape == (2, 6, 8, 32)
    torch.testing.assert_close(vae.encode(image), moments[:, :3])
    deviation = torch.sqrt(torch.exp(torch.clip(moments[:, 3:], -30, 20)))
    torch.testing.assert_close(vae.encode(image, noise), moments[:, :3] + deviation * noise)
    torch.testing.assert_close(vae.encode(image, torch.zeros_like(noise)), vae.encode(image))
    assert vae.quant_conv.bias is not None
    vae.quant_conv.bias[3:] = 100.0  # far outside what the log-variance is clipped to
    torch.testing.assert_close(vae.encode(image, noise) - vae.encode(image), np.exp(10) * noise, rtol=1e-4, atol=1.0)
    assert vae.decode(noise).shape == (2, 3, 32, 128)
