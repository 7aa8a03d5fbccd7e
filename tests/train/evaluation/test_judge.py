"""Which judge reads: by name, by default PP-OCRv4."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from textsr.errors import BundleError, InputError
from train.evaluation import judge


def test_judges_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "Judge", lambda threads: ("pp-ocrv4", threads))
    monkeypatch.setattr(judge, "TransOCRJudge", lambda bundle, threads: (bundle, threads))
    opened: list[object] = [judge.open_judge("pp-ocrv4", 2), judge.open_judge("transocr:some/bundle", 3)]
    assert opened == [("pp-ocrv4", 2), ("some/bundle", 3)]
    with pytest.raises(InputError, match="pp-ocrv6"):
        judge.open_judge("pp-ocrv6")


def test_a_missing_judge_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"extra \[train\]"):
        judge.open_judge("pp-ocrv4")


def test_transocr_reads_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(images: list[np.ndarray]) -> list[SimpleNamespace]:
        assert len(images) == 1
        return [SimpleNamespace(text=str(images[0].shape))]

    opened = SimpleNamespace(path=Path("models/paper"))
    monkeypatch.setattr("runtime.bundle.Bundle.open", lambda bundle: opened)
    monkeypatch.setattr("runtime.executors.open_executor", lambda bundle, device, threads: "executor")
    monkeypatch.setattr("runtime.transocr.open_transocr", lambda bundle, executor: SimpleNamespace(read=read))
    found = judge.open_judge("transocr:models/paper")
    assert found(np.zeros((4, 8, 3), np.uint8)) == "(4, 8, 3)"
    assert found.name.startswith("TransOCR of paper")


@pytest.mark.slow
def test_transocr_of_a_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    found = judge.open_judge(f"transocr:{tiny_bundle}", 1)
    line = np.random.default_rng(0).integers(0, 256, (32, 120, 3), dtype=np.uint8)
    assert found(line) == found(line.copy())
    with pytest.raises(BundleError):
        judge.open_judge(f"transocr:{tmp_path}")
