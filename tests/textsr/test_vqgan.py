"""The autoencoder: published keys and vectors at paper size, its quantiser, independence of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.textsr import vectors
from textsr.config import COMPACT, PAPER, TINY, VQGANConfig
from textsr.networks.attention import count_parameters
from textsr.networks.vqgan import VQGAN, Quantizer


def tiny(cfg: VQGANConfig = TINY.vqgan) -> VQGAN:
    vqgan = vectors.fill(VQGAN(cfg))
    assert isinstance(vqgan, VQGAN)
    return vqgan


def test_parameters_at_paper_size() -> None:
    with torch.device("meta"):
        assert count_parameters(VQGAN(PAPER.vqgan)) == 55_322_782


def nearest(z: np.ndarray, book: np.ndarray) -> np.ndarray:
    """Codes (B,h,w) of z (B,c,h,w), each distance on its own, in float64."""
    distances = np.square(z.astype(np.float64)[:, None] - book.astype(np.float64)[None, :, :, None, None]).sum(2)
    return distances.argmin(1)


@pytest.mark.parametrize("groups", [1, 2, 4])
@torch.no_grad()
def test_quantiser_takes_the_nearest_code_of_each_group(groups: int) -> None:
    torch.manual_seed(groups)
    quantizer = Quantizer(VQGANConfig(z_channels=8, codes=32, codebook_groups=groups))
    z = torch.randn(3, 8, 5, 7)
    quantised, codes = quantizer(z)
    assert codes.shape == (3, groups, 5, 7)
    assert codes.dtype == torch.int64
    books = quantizer.codebooks().numpy()
    assert books.shape == (groups, 32, 8 // groups)
    for group, part in enumerate(z.chunk(groups, dim=1)):
        expected = nearest(part.numpy(), books[group])
        np.testing.assert_array_equal(codes[:, group], expected)
        ours = quantised.chunk(groups, dim=1)[group]
        np.testing.assert_array_equal(ours.permute(0, 2, 3, 1), books[group][expected])
    assert torch.equal(quantizer(quantised)[1], codes)


@torch.no_grad()
def test_groups_of_a_product_codebook_do_not_see_each_other() -> None:
    quantizer = Quantizer(VQGANConfig(z_channels=8, codes=64, codebook_groups=2))
    z, other = torch.randn(2, 2, 8, 4, 6)
    mixed = torch.cat([z[:, :4], other[:, 4:]], 1)
    codes = quantizer(mixed)[1]
    assert torch.equal(codes[:, 0], quantizer(z)[1][:, 0])
    assert torch.equal(codes[:, 1], quantizer(other)[1][:, 1])


@torch.no_grad()
def test_far_latents_are_quantised_as_exactly_as_near_ones() -> None:
    """|z|^2 is left out of the distance, so that it cannot swallow the differences between codes."""
    quantizer = Quantizer(VQGANConfig(z_channels=4, codes=16))
    z = 100 + 0.5 * torch.randn(1, 4, 8, 8)
    quantizer.embedding.weight.copy_(100 + torch.randn(16, 4))
    expected = nearest(z.numpy(), quantizer.codebooks()[0].numpy())
    assert (quantizer(z)[1][:, 0].numpy() == expected).mean() > 0.98


def test_gradients_pass_the_quantiser_straight_through() -> None:
    vqgan = tiny()
    z = torch.randn(1, 4, 4, 8, requires_grad=True)
    probe = torch.randn(1, 3, 16, 32)
    (vqgan.decode(z) * probe).sum().backward()
    quantised = vqgan.quantize(z)[0].detach().requires_grad_()
    (vqgan.decode_codes(quantised) * probe).sum().backward()
    assert z.grad is not None
    assert quantised.grad is not None
    torch.testing.assert_close(z.grad, quantised.grad)
    assert z.grad.abs().sum() > 0


@pytest.mark.parametrize("cfg", [TINY.vqgan, COMPACT.vqgan], ids=["tiny", "compact"])
@torch.no_grad()
def test_a_line_does_not_depend_on_its_batch(cfg: VQGANConfig) -> None:
    vqgan = tiny(cfg)
    image: Tensor = torch.rand(3, 3, 32, 64) * 2 - 1
    together = vqgan.encode(image)
    assert together.shape == (3, cfg.z_channels, 8, 16)
    codes = vqgan.quantize(together)[0]
    decoded = vqgan.decode_codes(codes)
    assert decoded.shape == image.shape
    for place in range(3):
        one = slice(place, place + 1)
        torch.testing.assert_close(vqgan.encode(image[one]), together[one], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(vqgan.decode_codes(codes[one]), decoded[one], rtol=1e-5, atol=1e-5)
