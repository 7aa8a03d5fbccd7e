"""What a run was made with: command, commit, versions, device. Nothing that tells where on a machine files lie."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from runtime.executors.openvino import import_quietly, multiplies_in

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "numpy", "torch", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx", "cuda-bindings",
)  # fmt: skip


def openvino_precisions() -> tuple[str, ...]:
    """What OpenVINO multiplies in here; nothing where it is not installed."""
    try:
        return multiplies_in(import_quietly().Core())
    except ImportError:
        return ()


def command(arguments: Sequence[str], module: str = "benchmarks.latency") -> str:
    """The command line of ``module``; of paths outside the project only the last name."""
    shown = []
    for word in arguments:
        option, sign, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
        shown.append(option + sign + (Path(value).name if os.path.isabs(value) else value))
    return shlex.join(["python", "-m", module, *shown])


def commit() -> str:
    """The commit measured, with + where files that are tracked were changed; empty outside a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=ROOT, capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if changed.returncode else "")


def versions() -> dict[str, str]:
    """Of Python and of the packages that run graphs, those that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def device(name: str) -> dict[str, Any]:
    """Name, kind and size of a device (cpu, cuda or cuda:N)."""
    if name == "cpu":
        return {"kind": "cpu", "name": f"{cpu_name()}, {os.cpu_count()} cores", "cores": os.cpu_count()}
    found = torch.cuda.get_device_properties(torch.device(name))
    capability = f"{found.major}.{found.minor}"
    return {"kind": "cuda", "name": found.name, "memory_bytes": found.total_memory, "capability": capability}


def cpu_name(info: Path = Path("/proc/cpuinfo")) -> str:
    """As the processor calls itself."""
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if match:
            return re.sub(r"\((R|TM)\)", "", match.group(1)).strip()
    return platform.processor() or platform.machine()


def tf32() -> dict[str, bool]:
    """Whether torch may round float32 to TF32 in products and convolutions; both as torch sets them."""
    return {"matrix products": torch.backends.cuda.matmul.allow_tf32, "convolutions": torch.backends.cudnn.allow_tf32}
