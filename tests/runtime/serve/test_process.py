"""The service as a process: its port, its limits over a real connection, and how it ends."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the service needs the extra [serve]")

import httpx2 as httpx

from tests.runtime.serve.helpers import line

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "correct horse battery"


@contextmanager
def running(log: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A service's address, once it is ready, and its process."""
    command = [sys.executable, "-m", "runtime.serve", "--port", "0", "--device", "cpu", "--threads", "1", *options]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stderr=stream, env={**os.environ, "TEXTSR_TOKEN": TOKEN})
    try:
        end = time.monotonic() + 120
        while " ready: " not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        found = re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text())
        assert found is not None
        yield found.group(1), process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_signal_loses_nothing_that_was_accepted(tiny_bundle: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = ("--bundle", str(tiny_bundle), "--no-guard", "--max-batch", "1", "--max-body", "200000")
    headers = {"authorization": f"Bearer {TOKEN}"}
    with running(log, *options) as (address, process), httpx.Client(base_url=address, timeout=120) as client:
        assert client.get("/readyz").json()["preset"] == "tiny"
        assert client.post("/v1/restore", files={"file": line(0)}).status_code == 401
        large = client.post("/v1/restore", files={"file": b"x" * 250_000}, headers=headers)
        assert large.status_code == 413

        def ask(place: int) -> int:
            files = [("file", (f"{number}.png", line(place + number))) for number in range(8)]
            return httpx.post(
                f"{address}/v1/restore", files=files, headers=headers, data={"steps": "18"}, timeout=120
            ).status_code

        def figure(name: str) -> float:
            found = re.search(rf"^{name} (\S+)", client.get("/metrics", headers=headers).text, re.MULTILINE)
            assert found is not None
            return float(found.group(1))

        kept = http.client.HTTPConnection(address.removeprefix("http://"))
        kept.request("GET", "/healthz")
        assert kept.getresponse().read()
        with ThreadPoolExecutor(5) as pool:
            asked = [pool.submit(ask, place) for place in range(5)]
            while figure("textsr_batch_lines_count") + figure("textsr_queue_length") < 40:  # until all are accepted
                time.sleep(0.01)
            assert not all(future.done() for future in asked), "too fast to be stopped amid work"
            process.send_signal(signal.SIGTERM)
            status = 0
            while status != 503 and not all(future.done() for future in asked):
                kept.request("GET", "/readyz")
                answer = kept.getresponse()
                answer.read()
                status = answer.status
            assert [future.result() for future in asked] == [200] * 5
        assert status == 503
        assert process.wait(60) == 0
    told = log.read_text()
    assert "Traceback" not in told
    assert TOKEN not in told


@pytest.mark.slow
def test_wrong_usage_and_what_cannot_be_opened(tmp_path: Path) -> None:
    for options, status, words in (
        (["--max-queue", "0"], 2, "limit queue"),
        (["--token-file", str(tmp_path / "none")], 2, "token file"),
        (["--bundle", str(tmp_path), "--port", "0"], 1, "cannot be opened"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "runtime.serve", *options], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, words in done.stderr) == (status, True), done.stderr
        assert "Traceback" not in done.stderr
