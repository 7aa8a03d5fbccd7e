"""The bundle of the preset ``tiny`` that tests share. ``python -m tests.tiny`` makes it ahead of them."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".cache" / "tests"
"""Where the bundle is kept between runs: exporting it takes a minute."""


def built_by() -> str:
    """A digest of all that decides what the bundle is: the code that makes it, and the packages that code stands on."""
    found = hashlib.sha256()
    for package in ("torch", "onnx", "onnxscript", "onnx_ir", "polygraphy", "numpy"):
        found.update(f"{package} {metadata.version(package)}\n".encode())
    reading = [ROOT / "runtime" / name for name in ("bundle.py", "manifest.py")]
    for path in sorted([*ROOT.glob("textsr/**/*"), *ROOT.glob("export/**/*"), *reading]):
        if path.is_file() and path.suffix != ".pyc":
            found.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def build() -> Path:
    """The bundle's folder, to be read only: seeded random weights, built once for a state of the code, by one of the
    processes that want it."""
    from export.build import build_bundle

    KEPT.mkdir(parents=True, exist_ok=True)
    folder = KEPT / f"tiny-{built_by()}"
    with (KEPT / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "bundle.json").is_file():
            for old in KEPT.glob("tiny-*"):
                if time.time() - old.stat().st_mtime > 3 * 86400:
                    shutil.rmtree(old)
            build_bundle(preset="tiny", checkpoint=None, out=folder, precision="fp32")
    return folder


if __name__ == "__main__":
    sys.stdout.write(f"{build().relative_to(ROOT)}\n")
