"""Crops through `Lines`: what is restored, what is kept, and that no line is ever lost."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.options import Gate, Options
from runtime.plugins import Lines, detach, wrap
from runtime.plugins.colour import from_rgb, to_rgb
from runtime.plugins.hook import hook
from runtime.restorer import Restorer
from tests.runtime.helpers import draw_line, stub_restorer
from tests.runtime.plugins.stand_ins import ALL, SpyRestorer, spied
from textsr.errors import InputError

Read = tuple[tuple[int, ...], float]
CROPS = [draw_line("Hello 42", 24, 96), draw_line("Bye", 20, 50)]


def by_shape(crops: Sequence[NDArray[Any]]) -> list[Read]:
    """A recogniser that reads a crop's shape, and is surer of high crops."""
    return [(crop.shape, min(1.0, crop.shape[0] / 100)) for crop in crops]


def surer_of_low(crops: Sequence[NDArray[Any]]) -> list[Read]:
    return [(crop.shape, 1 - min(1.0, crop.shape[0] / 100)) for crop in crops]


def score(read: Read) -> float:
    return read[1]


def test_a_wrapped_recogniser_reads_restored_crops() -> None:
    spy, lines = spied()
    assert [read for read, _ in wrap(by_shape, lines)(CROPS)] == [(96, 384, 3), (80, 200, 3)]
    assert len(spy.seen) == 2
    assert lines.counts.restored == lines.counts.lines == lines.counts.readings == 2


def test_what_the_gate_refuses_goes_on_as_the_same_object() -> None:
    _, lines = spied(options=Options(steps=1, gate=Gate(min_height=22, max_detail=None)))
    high, low = lines.restore(CROPS)
    assert high.shape == (96, 384, 3)
    assert low is CROPS[1]
    assert lines.counts.causes == {"too_low": 1}


def test_a_failing_restorer_loses_no_line(caplog: pytest.LogCaptureFixture) -> None:
    spy, lines = spied()
    spy.fails = True
    assert [read for read, _ in wrap(by_shape, lines)(CROPS)] == [crop.shape for crop in CROPS]
    assert lines.counts.failed == 2
    assert lines.counts.restored == 0
    assert "the graph failed" in caplog.text


@pytest.mark.parametrize("options", [{}, {"keep": "better"}, {"below": 0.5}])
def test_a_recogniser_that_fails_on_restored_crops_reads_the_first_ones(options: dict[str, Any]) -> None:
    def choosy(crops: Sequence[NDArray[Any]]) -> list[Read]:
        if any(crop.shape[0] > 50 for crop in crops):
            raise ValueError("too high")
        return by_shape(crops)

    _, lines = spied(**options)
    assert [read for read, _ in wrap(choosy, lines, score=score)(CROPS)] == [crop.shape for crop in CROPS]
    assert (lines.counts.failed, lines.counts.restored) == (2, 0)


def test_the_products_own_errors_come_through() -> None:
    def broken(crops: Sequence[NDArray[Any]]) -> list[Read]:
        raise ValueError("no model")

    with pytest.raises(ValueError, match="no model"):
        wrap(broken, spied()[1])(CROPS)
    with pytest.raises(InputError, match="1 readings for 2 crops"):
        wrap(lambda crops: by_shape(crops)[:1], spied()[1])(CROPS)


def test_only_badly_read_lines_are_restored() -> None:
    spy, lines = spied(below=0.22)
    shapes = [read for read, _ in wrap(by_shape, lines, score=score)(CROPS)]
    assert shapes == [CROPS[0].shape, (80, 200, 3)]
    assert [seen.shape for seen in spy.seen] == [CROPS[1].shape]
    assert (lines.counts.well_read, lines.counts.readings) == (1, 3)


def test_the_surer_reading_is_kept() -> None:
    _, lines = spied(keep="better")
    assert [read for read, _ in wrap(by_shape, lines, score=score)(CROPS)] == [(96, 384, 3), (80, 200, 3)]
    _, lines = spied(keep="better")
    assert [read for read, _ in wrap(surer_of_low, lines, score=score)(CROPS)] == [crop.shape for crop in CROPS]
    assert (lines.counts.kept_first, lines.counts.readings) == (2, 4)


def test_a_passed_deadline_leaves_the_crops() -> None:
    _, lines = spied(options=Options(steps=1, gate=Gate.off(), deadline_ms=1e-6))
    assert [read for read, _ in wrap(by_shape, lines)(CROPS)] == [crop.shape for crop in CROPS]
    assert lines.counts.causes == {"deadline": 2}


def test_crops_without_a_use_go_on() -> None:
    odd: list[Any] = [np.zeros((0, 5, 3), np.uint8), np.zeros((20, 40, 3), np.float32), np.zeros((9, 9, 2), np.uint8)]
    _, lines = spied()
    assert all(one is other for one, other in zip(lines.restore(odd), odd, strict=True))
    assert lines.counts.causes == {"input": 3}
    assert wrap(by_shape, lines)([]) == []


def test_options_are_checked_at_once() -> None:
    restorer = stub_restorer()
    for wrong in ({"below": 2.0}, {"keep": "worse"}, {"options": Options(steps=99)}):
        with pytest.raises(InputError):
            Lines(restorer, **wrong)
    with pytest.raises(InputError, match="score"):
        wrap(by_shape, Lines(restorer, below=0.5))
    with pytest.raises(InputError, match="score"):
        Lines(restorer, keep="better").read(CROPS, by_shape)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (1,), (3,)]), st.sampled_from(["rgb", "bgr"]))
def test_channels_come_back_as_they_were(height: int, width: int, channels: tuple[int, ...], colour: Any) -> None:
    crop = np.random.default_rng(height).integers(0, 256, (height, width, *channels), np.uint8)
    back = from_rgb(to_rgb(crop, colour), crop, colour)
    assert back.dtype == np.uint8
    assert np.array_equal(back, crop)


def test_bgr_crops_are_shown_as_rgb() -> None:
    spy, lines = spied()
    given_rgb = lines.restore(CROPS[:1])[0]
    given_bgr = lines.restore([CROPS[0][:, :, ::-1]], "bgr")[0]
    assert np.array_equal(spy.seen[0], spy.seen[1])
    assert np.array_equal(given_bgr, given_rgb[:, :, ::-1])


def test_counts_hold_over_threads() -> None:
    lines = Lines(SpyRestorer(), ALL)
    threads = [threading.Thread(target=lambda: wrap(by_shape, lines)(CROPS)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (lines.counts.lines, lines.counts.restored) == (8, 8)


def test_hooks_are_put_in_once_and_taken_out() -> None:
    class Product:
        def read(self) -> str:
            return "plain"

    product = Product()
    hook(product, product, "read", lambda original: lambda: f"<{original()}>")
    assert (product.read(), Product().read()) == ("<plain>", "plain")
    with pytest.raises(InputError, match="attached already"):
        hook(product, product, "read", lambda original: original)
    assert detach(product).read() == "plain"
    with pytest.raises(InputError, match="not attached"):
        detach(product)
    with pytest.raises(InputError, match="has no write"):
        hook(product, product, "write", lambda original: original)


def test_no_error_of_any_kind_gets_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise MemoryError("no room")

    _, lines = spied()
    monkeypatch.setattr(Restorer, "__call__", broken)
    assert all(one is other for one, other in zip(lines.restore(CROPS), CROPS, strict=True))
    assert lines.counts.failed == 2
    assert "Traceback" in caplog.text
