"""Building blocks shared by the networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding, cosines then sines, frequencies exp(-ln(10000) k / (dim/2)).

    t: (B,) or () float or integer steps. Returns (B or 1, dim) float32. Source: Ho et al. 2020, in the layout of ADM.
    """
    half = dim // 2
    t = t[None] if t.dim() == 0 else t
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(10000.0) / half))
    angles = t.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def traced(x: Tensor) -> bool:
    """Whether ``x`` passes through a trace that is to hold formulas (export, shapes alone), and not through a
    computation or what torch.compile makes of one."""
    if torch.compiler.is_dynamo_compiling():
        return torch.compiler.is_exporting()
    return torch.compiler.is_compiling() or type(x) is not Tensor or x.is_meta


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax attention of already scaled queries: (..., N, d), (..., M, d), (..., M, e) -> (..., N, e).

    ``bias`` broadcasts to (..., N, M) and is added before the softmax, which runs in float32. Inference takes torch's
    fused kernel, which never holds the (N, M) scores; exported graphs and training have the formula itself.
    """
    if not torch.is_grad_enabled() and not traced(q):
        return _fused(q, k, v, None if bias is None else bias.to(q.dtype))
    scores = q @ k.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    return scores.float().softmax(dim=-1).to(v.dtype) @ v


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`attention` by torch's kernel. It takes four dimensions and leaves more of them to the formula, one kernel launch
    after the other, so those before the heads are made one."""
    lead = q.shape[:-3]
    if len(lead) > 1:
        if mask is not None and mask.dim() > 2:
            shared = mask.dim() == 3  # of the heads alone: the kernel broadcasts it
            mask = mask[None] if shared else mask.expand(*q.shape[:-1], k.shape[-2]).flatten(0, len(lead) - 1)
        q, k, v = (part.flatten(0, len(lead) - 1) for part in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, mask, scale=1.0)
    return out.unflatten(0, lead) if len(lead) > 1 else out


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C,2H,2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
