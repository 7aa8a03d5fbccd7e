"""CUDA's libraries out of wheels: ONNX Runtime is told to look there, once, before a session on CUDA."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.executors import onnxruntime as ours
from textsr.device import Device
from textsr.errors import TextSRError


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    ours.find_cuda_libraries.cache_clear()
    yield
    ours.find_cuda_libraries.cache_clear()


def test_before_a_session_on_cuda_and_not_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    calls: list[str] = []

    def preload() -> None:
        calls.append("preload")
        print("Failed to load libcudnn.so.9")

    assert hasattr(ours.ort, "preload_dlls")
    monkeypatch.setattr(ours.ort, "preload_dlls", preload)
    for device, expected in ((Device("cpu"), 0), (Device("cuda"), 1), (Device("cuda"), 1)):
        with caplog.at_level(logging.INFO), pytest.raises(TextSRError):
            ours.open_session(tmp_path / "none.onnx", device)
        assert len(calls) == expected
    assert "libcudnn.so.9" in caplog.text
    assert capsys.readouterr().out == ""


def test_an_older_onnxruntime_has_no_such_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ours.ort, "preload_dlls")
    ours.find_cuda_libraries()
