"""FLOP against hand counts, and the published figures of the baseline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import flops
from benchmarks.latency import TimedExecutor, sample_lines
from textsr.config import preset


def test_count_of_a_convolution() -> None:
    layer = nn.Conv2d(3, 8, 3, padding=1)
    assert flops.count(layer, [torch.zeros(1, 3, 16, 32)]) == pytest.approx(2 * 3 * 8 * 9 * 16 * 32 / 1e9)


def test_count_of_attention() -> None:
    class Attention(nn.Module):
        def forward(self, q: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(q, q, q)

    assert flops.count(Attention(), [torch.zeros(1, 2, 64, 16)]) == pytest.approx(2 * 2 * 2 * 64 * 64 * 16 / 1e9)


def test_baseline() -> None:
    assert flops.difftsr_tflop() == pytest.approx(120.2, abs=0.1)
    assert flops.difftsr_tflop(with_text=True) == pytest.approx(121.8, abs=0.1)


def test_tiny_preset() -> None:
    cost = flops.measure(preset("tiny"))
    assert cost.line(2) - cost.line(1) == pytest.approx(cost.gflop["unet_step"])
    assert cost.line(2, sampled=True) > cost.line(2)
    text = flops.table(cost, 18)
    assert "| unet_step |" in text
    assert "DiffTSR" in text


class _Echo:
    name = "echo:cpu"

    def put(self, array: object) -> object:
        return array

    def get(self, handle: object) -> object:
        return handle

    def run(self, graph: str, inputs: object) -> dict[str, object]:
        return {"y": graph}


def test_timed_executor() -> None:
    timed = TimedExecutor(_Echo())  # type: ignore[arg-type]
    assert timed.run("a", {}) == {"y": "a"}
    timed.run("a", {})
    timed.run("b", {})
    assert set(timed.seconds) == {"a", "b"}
    assert timed.get(timed.put(np.zeros(1))) is not None


def test_lines_without_a_test_set(tmp_path: object) -> None:
    from pathlib import Path

    lines = sample_lines(Path(str(tmp_path)) / "none", 3)
    assert [line.shape for line in lines] == [(32, 128, 3)] * 3
