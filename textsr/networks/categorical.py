"""The multinomial posterior of a text step and one draw from it (DiffTSR; Hoogeboom et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_ZERO = -69.07755278982137
"""log 1e-30, the logarithm of a one-hot vector's zeros."""


def posterior(tokens: Tensor, logits: Tensor, constants: Tensor) -> Tensor:
    """Log-probabilities (B,N,K) of the tokens one step earlier.

    normalise over K { [abar_s c_pred + (1 - abar_s) / K] * [alpha c_t + (1 - alpha) / K] }, in logs.
    tokens (B,N) int64; logits (B,K,N) of the clean text; constants (4,) = [log alpha_{t|s}, log((1 - alpha_{t|s}) / K),
    log abar_s, log((1 - abar_s) / K)] from `CategoricalSchedule.step_constants`.
    """
    predicted = F.log_softmax(logits.float(), dim=1).transpose(1, 2)
    log_alpha, log_other, log_reached, log_rest = constants.float()
    known = torch.logaddexp(predicted + log_reached, log_rest)
    same = tokens[..., None] == torch.arange(logits.shape[1], device=tokens.device)
    onehot = torch.where(same, 0.0, LOG_ZERO)
    return F.log_softmax(known + torch.logaddexp(onehot + log_alpha, log_other), dim=-1)


def draw(log_probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Tokens (B,N) int64 by the inverse of the cumulative distribution, one uniform in [0,1) a token.

    The uniform is scaled by the sum that float32 arrives at, and never leads past the last symbol that adds to it.
    """
    cumulative = log_probabilities.exp().cumsum(dim=-1)
    total = cumulative[..., -1:]
    passed = (cumulative <= uniforms[..., None] * total).sum(dim=-1)
    return torch.minimum(passed, (cumulative < total).sum(dim=-1))


def categorical_step(tokens: Tensor, logits: Tensor, constants: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """One text step: (tokens_prev (B,N) int64, log_probabilities (B,N,K)). See `posterior` and `draw`."""
    log_probabilities = posterior(tokens, logits, constants)
    return draw(log_probabilities, uniforms), log_probabilities
