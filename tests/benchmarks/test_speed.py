"""The recogniser's share of a line's cost."""

from __future__ import annotations

import pytest

from benchmarks import flops
from textsr import describe
from textsr.config import preset


def test_the_recogniser_is_counted_where_the_preset_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    which = preset("compact")
    own, cost = describe.measure(which), flops.measure(which)
    assert cost.trained == own.trained == sum(own.parameters.values())
    assert cost.line(18) - own.line(18) == pytest.approx(cost.gflop[flops.RECOGNIZER])
    assert cost.line(18) == pytest.approx(134.2, abs=0.1)
    assert cost.line(18, sampled=True) == pytest.approx(151.7, abs=0.1)
    assert flops.main([]) == 0
    assert "| 18 steps | 134.23 | 151.72 |" in capsys.readouterr().out


def test_a_preset_with_a_recogniser_of_its_own() -> None:
    cost = flops.measure(preset("tiny"))
    assert cost == describe.measure(preset("tiny"))
    assert cost.line(2) - cost.line(1) == pytest.approx(cost.gflop["unet_step"])
