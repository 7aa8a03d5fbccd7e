"""The published networks, loaded as a researcher loads them, return what they returned where they were published.

At full size where the golden vectors stand beside the checkout; at small sizes, against committed vectors, everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.textsr import golden, published_small, vectors
from textsr.checkpoint import from_published
from textsr.networks.categorical import posterior
from textsr.schedule import CategoricalSchedule


def network(kind: str, name: str) -> Any:
    """The published network of that kind with the recipe's weights."""
    return from_published(kind, golden.published_state(name))


@golden.needs_golden
@pytest.mark.slow
@torch.no_grad()
def test_unet_square_and_wide_with_and_without_untrained_text() -> None:
    given, unet = golden.load("resshift_unet"), network("resshift-unet", "resshift_unet")
    for form, name, size in (("square", "", (64, 64)), ("wide", "_wide", (32, 128))):
        x, lq = (golden.normal(f"unet.{part}{name}", 1, 3, *size) for part in ("x", "lq"))
        t = torch.from_numpy(given[f"{form}_t"].reshape(1))
        assert t.dtype == torch.int64
        plain = unet(x, t, lq)
        golden.assert_close(plain, given[form])
        # New cross-attention starts at nothing, whatever the text says.
        assert torch.equal(unet(x, t.float(), lq, torch.randn(1, 24, 160)), plain)


@golden.needs_golden
@pytest.mark.slow
@torch.no_grad()
def test_autoencoder() -> None:
    given, vqgan = golden.load("vqgan_f4"), network("vqgan-f4", "vqgan_f4")
    encoded = vqgan.encode(torch.tanh(golden.normal("vqgan.image", 1, 3, 128, 512)))
    golden.assert_close(encoded, given["encoded"])
    z = 0.02 * golden.normal("vqgan.z", 1, 3, 32, 128)
    np.testing.assert_array_equal(vqgan.quantize(z)[1].flatten(), given["code_indices"])
    decoded = vqgan.decode(z)
    golden.assert_close(decoded[..., ::2, ::2], given["decoded"])
    assert decoded.mean().item() == pytest.approx(float(given["decoded_mean"]), abs=1e-5)
    assert decoded.std().item() == pytest.approx(float(given["decoded_std"]), rel=1e-5)


@golden.needs_golden
@torch.no_grad()
def test_mom() -> None:
    given, mom = golden.load("difftsr_mom"), network("difftsr-mom", "difftsr_mom")
    tokens = golden.integers("mom.tokens", (2, 24), 6736)
    latents = [golden.normal(name, 2, 3, 32, 128) for name in ("mom.z_lr", "mom.z_t")]
    i_cond, c_cond = mom(tokens, *latents, torch.from_numpy(given["t"]))
    golden.assert_close(i_cond, given["i_cond"])
    golden.assert_close(c_cond, given["c_cond"])
    again = mom(tokens, *latents, torch.from_numpy(given["t"]).float(), torch.ones(2, 24))
    assert torch.equal(again[0], i_cond)
    assert torch.equal(again[1], c_cond)


@golden.needs_golden
@pytest.mark.slow
@torch.no_grad()
def test_tdm_and_posterior() -> None:
    given, after = golden.load("difftsr_tdm"), golden.load("difftsr_posterior")
    tdm, context = network("difftsr-tdm", "difftsr_tdm"), golden.normal("tdm.context", 2, 16, 768)
    tokens = golden.integers("tdm.tokens", (2, 24), 6736)
    logits = tdm(tokens, torch.from_numpy(given["t"]), context)
    assert logits.shape == (2, 6736, 24)
    assert torch.equal(tdm(tokens, torch.from_numpy(given["t"]).float(), context), logits)
    golden.assert_close(logits[:, :64], given["logits_first64"])
    np.testing.assert_allclose(logits.logsumexp(1), given["logsumexp"], atol=2e-6)
    np.testing.assert_array_equal(logits.argmax(1), given["argmax"])
    for t in (0, 1, 50, 199, 600, 999):
        constants = CategoricalSchedule(6736).step_constants(t, t - 1, frozen_last=True)
        logs = posterior(tokens, logits, torch.from_numpy(constants))
        # One unit in the last place of a float32 logarithm near 16 is 2e-6.
        np.testing.assert_allclose(logs[..., :64].transpose(1, 2), after[f"posterior_t{t}_first64"], atol=4e-5)
        # Beside the 1 of a sure token the sum's small terms are rounded away, the more the fewer lanes a processor sums
        # in: with 8 (AVX2) our float32 is 1.3e-5 from float64, the vectors are 1e-6 from it.
        np.testing.assert_allclose(
            logs.gather(2, tokens[..., None])[..., 0], after[f"posterior_t{t}_at_token"], atol=2e-5
        )
        np.testing.assert_array_equal(logs.argmax(2), after[f"posterior_t{t}_argmax"])


@golden.needs_golden
@torch.no_grad()
def test_transocr() -> None:
    given, ocr = golden.load("transocr"), network("transocr", "transocr")
    prefix = golden.integers("transocr.prefix", (2, 8), 7937)
    prefix[:, 0] = 0
    image = torch.sigmoid(golden.normal("transocr.image", 2, 3, 32, 256))
    logits, features = ocr(image, prefix), ocr.encode(image)
    assert logits.shape == tuple(given["shape"])
    golden.assert_close(features.mean(1), given["feature_mean"])
    golden.assert_close(logits[..., :64], given["logits_first64"])
    np.testing.assert_array_equal(logits.argmax(2), given["argmax"])
    np.testing.assert_allclose(logits.logsumexp(2), given["logsumexp"], rtol=1e-5)
    golden.assert_close(ocr.step(features, prefix)[:, :64], given["logits_first64"][:, -1])


def test_small_networks_return_the_committed_vectors() -> None:
    vectors.assert_equal_to(published_small.FILE, published_small.compute())
