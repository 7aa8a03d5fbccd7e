"""The paper's model at full size: what it costs in memory, and that its bundle computes what torch does. All slow."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import export.build
import export.parity
from export.build import GRAPH_LIMIT, build_bundle
from export.parity import measure
from export.report import ParityReport
from runtime.bundle import Bundle
from runtime.restorer import Restorer
from tests.runtime.helpers import draw_line
from textsr.checkpoint import load_model, save_model
from textsr.config import PAPER, SCHEDULES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NEEDED_DISK = 6 << 30
MEMORY_LIMIT = 6 << 30
SYMBOLS = "".join(chr(0x4E00 + number) for number in range(7935))

RUN = """
import json, sys
import numpy as np
from tests.memory import peak
from textsr.reference import Reference
reference = Reference.open(sys.argv[1], "paper", "cpu")
loaded = peak()
picture = np.random.default_rng(0).integers(0, 256, (32, 128, 3), dtype=np.uint8)
result = reference([picture], steps=2, text_sampler="categorical")[0]
print(json.dumps({"loaded": loaded, "peak": peak(), "reader": result.reader, "shape": result.raw.shape,
                  "dtype": str(next(reference.executor.graphs["unet_step"].parameters()).dtype)}))
"""
"""Loads a checkpoint, has TransOCR read a line, and restores it in two steps, the text drawn anew in each."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """2 GB of random weights that state DiffTSR's preprocessing and T = 4; made once a run, read only."""
    base = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # the workers of pytest-xdist share one
        base = base.parent
    path = base / "paper.safetensors"
    with (base / "paper.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            free = shutil.disk_usage(base).free
            if free < NEEDED_DISK:
                pytest.skip(f"needs {NEEDED_DISK >> 30} GiB of disk, {base} has {free >> 30}")
            words = {"preset": "paper", "schedule": "4", "recognizer_symbols": SYMBOLS, "initialised": "[]"}
            save_model(load_model(None, PAPER), path, {**words, "transocr_preprocessing": "difftsr"})
    return path


def test_loading_and_running_takes_less_than_6_gib(checkpoint: Path) -> None:
    done = subprocess.run([sys.executable, "-c", RUN, str(checkpoint)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["reader"] == "TransOCR"
    assert told["shape"] == [128, 512, 3]
    assert told["dtype"] == "torch.float32"
    assert checkpoint.stat().st_size < told["loaded"] <= told["peak"] < MEMORY_LIMIT


def test_the_bundle_of_all_graphs_computes_what_torch_does(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of the loop and lines alone; python -m export.build measures batches and all steps."""
    monkeypatch.setattr(export.build, "measure", partial(measure, steps=1))
    monkeypatch.setattr(export.parity, "BATCHES", (1,))
    out = build_bundle(preset="paper", checkpoint=checkpoint, out=tmp_path / "paper")
    bundle = Bundle.open(out, verify=False)
    report = ParityReport.from_json(bundle.manifest["parity"])
    assert report.failures() == []
    assert {entry.graph for entry in report.graphs} == set(bundle.graphs)
    assert {entry.graph for entry in report.steps} == {name for name in bundle.graphs if "recognizer" not in name}
    assert bundle.preset.schedule == SCHEDULES[4]
    assert all(spec.path.stat().st_size < 2 * GRAPH_LIMIT for spec in bundle.graphs.values())
    assert (out / "bundle.json").stat().st_size < 512 * 1024
    result = Restorer.open(bundle, "cpu")([draw_line()], steps=1)[0]
    assert (result.applied, result.reader) == (True, "TransOCR")
    assert result.image.shape == (96, 480, 3)
    shutil.rmtree(out)
