"""The categorical posterior against a plain NumPy one, and draws from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from textsr.networks.categorical import categorical_step, draw, posterior
from textsr.schedule import CategoricalSchedule

SYMBOLS = 50


def reference(tokens: np.ndarray, logits: np.ndarray, constants: np.ndarray) -> np.ndarray:
    """normalise over K { [abar_s c_pred + (1 - abar_s) / K] * [alpha c_t + (1 - alpha) / K] } as probabilities."""
    logits = logits.transpose(0, 2, 1).astype(np.float64)
    predicted = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    alpha, other, reached, rest = np.exp(constants.astype(np.float64))
    product = (reached * predicted + rest) * (alpha * np.eye(logits.shape[-1])[tokens] + other)
    return product / product.sum(-1, keepdims=True)


@pytest.mark.parametrize(("t", "s"), [(199, 187), (12, 0), (999, 998), (50, 3)])
def test_posterior(t: int, s: int) -> None:
    generator = np.random.default_rng(t)
    tokens = generator.integers(0, SYMBOLS, (2, 24))
    logits = generator.normal(0, 4, (2, SYMBOLS, 24)).astype(np.float32)
    constants = CategoricalSchedule(SYMBOLS).step_constants(t, s)
    ours = posterior(torch.from_numpy(tokens), torch.from_numpy(logits), torch.from_numpy(constants))
    np.testing.assert_allclose(ours.exp().numpy(), reference(tokens, logits, constants), atol=2e-6)


def test_last_step_is_the_prediction_alone() -> None:
    tokens, logits = torch.randint(0, SYMBOLS, (1, 24)), torch.randn(1, SYMBOLS, 24)
    constants = torch.from_numpy(CategoricalSchedule(SYMBOLS).step_constants(0, -1))
    logs = posterior(tokens, logits, constants)
    torch.testing.assert_close(logs, logits.log_softmax(1).transpose(1, 2), atol=1e-5, rtol=1e-5)
    frozen = torch.from_numpy(CategoricalSchedule(SYMBOLS).step_constants(0, -1, frozen_last=True))
    assert torch.equal(posterior(tokens, logits, frozen).argmax(-1), tokens)


def test_draws_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.25, 0.25, 0.0])
    uniforms = (torch.arange(10_000) + 0.5)[None] / 10_000
    tokens = draw(probabilities.log().expand(1, 10_000, 5), uniforms)
    counts = torch.bincount(tokens[0], minlength=5)
    assert (counts - 10_000 * probabilities).abs().max() <= 1


def test_the_ends_of_the_range() -> None:
    logs = torch.full((1, 2, 6736), -60.0)
    logs[0, :, 4000] = 0.0
    uniforms = torch.tensor([[0.0, float(np.nextafter(np.float32(1), np.float32(0)))]])
    assert draw(logs, uniforms)[0, 1] == 4000
    flat = torch.full((1, 2, 6736), -float(np.log(6736)))
    first, last = draw(flat, uniforms)[0].tolist()
    assert first == 0
    assert 6700 < last < 6736


def test_step_returns_both() -> None:
    tokens, logits = torch.randint(0, SYMBOLS, (3, 24)), torch.randn(3, SYMBOLS, 24)
    constants = torch.from_numpy(CategoricalSchedule(SYMBOLS).step_constants(199, 187))
    previous, logs = categorical_step(tokens, logits, constants, torch.rand(3, 24))
    assert previous.dtype == torch.int64
    assert previous.shape == (3, 24)
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones(3, 24))
