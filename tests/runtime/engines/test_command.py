"""``python -m export.engines``: plan, build, refuse, interrupt; exit statuses and what is printed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from export.engines import INTERRUPTED, built_table, main, plan_table
from runtime.bundle import Bundle
from runtime.engines import EngineCache, Settings, plan, prepare
from tests.runtime.engines.helpers import HERE_RTX, QuickBuilder, needs_rtx, planned, small_bundle

ROOT = Path(__file__).resolve().parents[3]
Captured = pytest.CaptureFixture[str]


def test_the_plan_in_words(bundle: Bundle, cache: EngineCache, quick: QuickBuilder) -> None:
    wanted, _ = planned(bundle, cache)
    lines = plan_table(wanted).splitlines()
    assert lines == [
        f"bundle   {bundle.path} (tiny, fp32)",
        "library  tensorrt-rtx 1.7.1.116",
        "gpu      portable (built without regard to a GPU)",
        "batches  1, 8, 32",
        f"cache    {cache.folder}",
        "",
        "small  missing  -  none in the cache",
    ]
    prepare(wanted)
    (cache.folder / "foreign.engine").write_bytes(b"")
    lines = plan_table(planned(bundle, cache, Settings(batches=(1,)))[0]).splitlines()
    assert lines[-2:] == ["small  stale  -  built for other shapes", "not ours, never read: foreign.engine"]


def test_the_table_of_engines(tmp_path: Path, cache: EngineCache, quick: QuickBuilder) -> None:
    bundle = small_bundle(tmp_path / "two", "one", "two")
    prepare(plan(bundle, None, HERE_RTX, cache=cache, graphs=["two"]))
    found = prepare(plan(bundle, None, HERE_RTX, cache=cache))
    assert built_table(list(found.values())).splitlines() == [
        "graph           layers  seconds  MiB",
        "one             3       0.2      0.0",
        "two             3       0.2      0.0  ready",
        "built now, all          0.2      0.0",
    ]


@needs_rtx
def test_from_dry_run_to_ready(tiny_bundle: Path, tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "cache"
    words = [str(tiny_bundle), "--engine", "tensorrt-rtx", "--cache", str(folder), "--for-gpu", "portable"]
    words += ["--graphs", "recognizer_encoder", "--batch", "2,1"]
    assert main([*words, "--dry-run"]) == 0
    assert "recognizer_encoder  missing" in capsys.readouterr().out
    assert main([*words, "--refuse"]) == 1
    assert "recognizer_encoder is missing: none in the cache" in capsys.readouterr().err
    assert not folder.exists()
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "batches  1, 2" in out
    assert "built now, all" in out
    assert main([*words, "--refuse"]) == 0
    assert "recognizer_encoder  ready  " in capsys.readouterr().out
    words[words.index("portable")] = "NVIDIA RTX A2000,8.6,580.1 (CUDA 13.0)"
    assert main([*words, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "gpu      NVIDIA RTX A2000,8.6,580.1 (CUDA 13.0)" in out
    assert "recognizer_encoder  ready  " in out


@needs_rtx
def test_wrong_usage_is_told(tiny_bundle: Path, tmp_path: Path, capsys: Captured) -> None:
    words = [str(tiny_bundle), "--engine", "tensorrt-rtx", "--cache", str(tmp_path / "cache"), "--dry-run"]
    for extra, status, told in (
        (["--batch", "1,x"], 2, "give numbers with commas between"),
        (["--batch", "0"], 2, "from 1 to 4096"),
        (["--graphs", "nothing"], 2, "has no graph nothing"),
        (["--for-gpu", "RTX"], 2, "write NAME,CAPABILITY,DRIVER"),
    ):
        assert main([*words, *extra]) == status
        assert told in capsys.readouterr().err
    assert main([str(tmp_path), "--dry-run"]) == 1
    assert "is not a bundle" in capsys.readouterr().err
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache").chmod(0o777)
    assert main(words) == 1
    assert "may be written by other users" in capsys.readouterr().err


@needs_rtx
@pytest.mark.slow
def test_the_interrupt_key_ends_a_build_and_keeps_what_is_done(tiny_bundle: Path, tmp_path: Path) -> None:
    """The UNet takes the library tens of seconds; it is asked to stop through its progress monitor."""
    folder = tmp_path / "cache"
    words = ["--engine", "tensorrt-rtx", "--cache", str(folder), "--graphs", "recognizer_encoder,unet_step"]
    process = subprocess.Popen(
        [sys.executable, "-m", "export.engines", str(tiny_bundle), "--for-gpu", "portable", *words],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # ignored in what runs in the background
    )  # fmt: skip
    end = time.monotonic() + 120
    while not list(folder.glob("*.engine")) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED, err
    assert err.endswith("export.engines: interrupted; engines that were finished are kept\n")
    assert [path.name.split("-")[1] for path in folder.glob("*.engine")] == ["recognizer_encoder"]
    assert not list(folder.glob(".partial-*"))
