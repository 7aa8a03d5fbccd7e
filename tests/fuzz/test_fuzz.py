"""Any bytes as a picture, and both harnesses under atheris for a bounded time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import try_image, whole_pictures
from textsr.errors import InputError
from textsr.images import decode_image

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 12
"""That each harness runs; its start takes a few more."""
WHOLE = whole_pictures()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A whole picture's file with bytes changed, put in, taken out or cut off; most of them at its head."""
    data = bytearray(WHOLE[draw(st.sampled_from(sorted(WHOLE)))])
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.one_of(st.integers(0, min(200, len(data))), st.integers(0, len(data))))
        data[place : place + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck), database=None)
@given(st.one_of(damaged(), st.binary(max_size=100)))
def test_any_bytes_as_a_picture(data: bytes) -> None:
    try_image(data)


@pytest.mark.slow
@settings(deadline=None, max_examples=1500, suppress_health_check=list(HealthCheck), database=None)
@given(damaged())
def test_many_bytes_as_a_picture(data: bytes) -> None:
    try_image(data)


def test_whole_pictures_are_read() -> None:
    for name, data in WHOLE.items():
        try:
            assert decode_image(data).shape in {(16, 40, 3), (40, 16, 3)}, name
        except InputError as error:
            pytest.fail(f"{name}: {error}")


@pytest.mark.slow
@pytest.mark.parametrize("harness", ["bundle", "images"])
def test_atheris_finds_nothing(harness: str, tiny_bundle: Path, tmp_path: Path) -> None:
    """At most `SECONDS`, half a GiB and a minute an input, for machines with other work; a fixed seed. What it finds is
    left in ``tmp_path``.

    A shell stands between: libFuzzer judges memory by ``ru_maxrss``, which begins with the peak of the process that
    starts it, and this one may have run a test at ``paper`` size before."""
    pytest.importorskip("atheris", reason="atheris has no wheel here")
    arguments = [str(tiny_bundle)] if harness == "bundle" else []
    limits = [f"-max_total_time={SECONDS}", "-rss_limit_mb=512", "-timeout=60", "-report_slow_units=60", "-seed=1"]
    fuzzer = [sys.executable, "-m", f"tests.fuzz.{harness}", *arguments, *limits, f"-artifact_prefix={tmp_path}/"]
    command = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *fuzzer]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    found = [path.name for path in tmp_path.iterdir()]
    assert (done.returncode, found) == (0, []), done.stderr[-3000:]
    assert "Done " in done.stderr
