"""Attention: the fused kernel of inference is the formula that is exported and trained."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textsr.networks.layers import attention

SIZES = st.integers(1, 40)


@settings(max_examples=40, deadline=None)
@given(
    SIZES, SIZES, st.sampled_from([1, 8, 32]), st.lists(st.integers(1, 3), max_size=3), st.booleans(), st.integers(0, 9)
)
def test_fused_equals_the_formula(n: int, m: int, width: int, lead: list[int], biased: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(*lead, side, width, generator=generator) for side in (n, m, m))
    bias = torch.randn(n, m, generator=generator).mul(10) if biased else None
    if bias is not None:
        bias[:, 1:] -= 100 * (torch.rand(n, m - 1, generator=generator) < 0.3).float()  # as the windows' masks
    expected = attention(q, k, v, bias)
    with torch.no_grad():
        torch.testing.assert_close(attention(q, k, v, bias), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lead", [(3, 2), (2, 3, 2)])
@pytest.mark.parametrize("of_windows", [False, True])
def test_fused_equals_the_formula_in_windows(lead: tuple[int, ...], of_windows: bool) -> None:
    """(B, windows, heads, n, d), with a bias of the heads alone or, where windows are masked, of each window too."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(*lead, 16, 8) for _ in range(3))
    bias = torch.randn(*(lead[-2:] if of_windows else lead[-1:]), 16, 16)
    expected = attention(q, k, v, bias)
    with torch.no_grad():
        torch.testing.assert_close(attention(q, k, v, bias), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_softmax_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 300, 32) for _ in range(3))
    exact = attention(q.to(dtype).double(), k.to(dtype).double(), v.to(dtype).double())
    with torch.no_grad():
        half = attention(q.to(dtype), k.to(dtype), v.to(dtype))
    assert half.dtype is dtype
    torch.testing.assert_close(half.double(), exact, rtol=0, atol=4 * torch.finfo(dtype).eps)


def test_training_reaches_the_bias() -> None:
    bias = torch.zeros(5, 5, requires_grad=True)
    attention(torch.randn(2, 5, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 8), bias).sum().backward()
    assert bias.grad is not None
    assert bool(bias.grad.any())
