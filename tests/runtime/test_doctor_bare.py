"""The doctor in processes of their own: what it imports, and what it says where next to nothing is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.runtime.doctor_schema import SCHEMA, check

ROOT = Path(__file__).resolve().parents[2]


def test_torch_is_not_imported_unless_it_is_tested() -> None:
    code = (
        "import sys; from runtime.doctor import diagnose; found = diagnose(device='cpu', self_test=False); "
        "print(found.ok, [name for name in ('torch', 'rapidocr', 'cv2', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"


def bare(folder: Path, *packages: str) -> Path:
    """A folder with links to the installed ``packages`` and all that they need, and nothing else."""
    left, known = list(packages), set()
    while left:
        name = left.pop()
        if name in known:
            continue
        known.add(name)
        found = metadata.distribution(name)
        for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
            link, target = folder / top, Path(str(found.locate_file(top)))
            if not link.exists():
                link.symlink_to(target)
        needs = [need for need in found.requires or () if ";" not in need]
        left += [
            need.split("[")[0].split("(")[0].split("<")[0].split(">")[0].split("=")[0].strip(" !~") for need in needs
        ]
    return folder


def run_bare(folder: Path) -> tuple[int, dict[str, Any]]:
    code = (
        f"import sys, runpy; sys.path[:0] = [{str(ROOT)!r}, {str(folder)!r}]; "
        "sys.argv = ['doctor', '--json', '--steps', '1']; runpy.run_module('runtime.doctor', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=folder, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    check(found, SCHEMA)
    return done.returncode, found


def test_on_a_bare_install(tmp_path: Path) -> None:
    """NumPy, Pillow, ONNX Runtime and tqdm alone, as restoring needs them."""
    status, found = run_bare(bare(tmp_path, "numpy", "pillow", "onnxruntime", "tqdm"))
    assert status == 0
    there = {library["name"] for library in found["libraries"] if library["version"]}
    assert there == {"numpy", "pillow", "onnxruntime"}
    assert found["trials"][0]["passed"]
    torch = next(trial for trial in found["trials"] if (trial["executor"], trial["device"]) == ("torch", "cpu"))
    assert "No module named 'torch'" in torch["reason"]
    assert any("rapidocr is not installed" in told for told in found["warnings"])


def test_without_onnxruntime_that_is_a_finding(tmp_path: Path) -> None:
    status, found = run_bare(bare(tmp_path, "numpy", "pillow", "tqdm"))
    assert status == 1
    assert "No module named 'onnxruntime'" in found["onnxruntime"]["problem"]
    assert found["onnxruntime"]["problem"] in found["warnings"]
    assert any("pip install" in advice["command"] for advice in found["advice"])


def test_what_is_left_of_an_uninstalled_onnxruntime(tmp_path: Path) -> None:
    folder = bare(tmp_path, "numpy", "pillow", "tqdm")
    (folder / "onnxruntime" / "capi").mkdir(parents=True)
    status, found = run_bare(folder)
    assert status == 1
    assert "the rest of an uninstalled package" in found["onnxruntime"]["problem"]
