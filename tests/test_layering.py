"""Who may import whom, read from the sources; and that the runtime loads no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("textsr", "export", "runtime", "train", "benchmarks")
ALLOWED = {
    "textsr": {"textsr"},
    "runtime": {"runtime", "textsr"},
    "export": {"export", "runtime", "textsr"},
    "train": {"train", "runtime", "textsr"},
    "benchmarks": set(PACKAGES),
}
TORCH = {"torch", "torchvision", "safetensors", "timm", "einops"}
TORCH_FILES = {"textsr/graphs.py", "textsr/torch_executor.py", "textsr/describe.py"}
"""Files of textsr, beside the folders below, that may import torch."""
TORCH_FOLDERS = {"networks", "checkpoint", "reference"}
TORCH_MODULES = tuple(f"textsr.{folder}" for folder in TORCH_FOLDERS)


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere, relative ones resolved."""
    inside = list(path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level] if node.level else []
            module = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            names = [f"{module}.{alias.name}" for alias in node.names]
            parts = [name for name in names if is_module(name)]  # "from package import module" is no use of the package
            yield from parts
            if len(parts) < len(names):
                yield module


def is_module(name: str) -> bool:
    """Whether a full name is one of our files or folders."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path)
        if name.split(".")[0] in PACKAGES and name.split(".")[0] not in ALLOWED[package]
    ]
    assert not wrong


def torch_free() -> list[Path]:
    """Files that must do without torch: all of runtime, and textsr but for its torch part."""
    files = [path for path in sources("textsr") if path.parent.name not in TORCH_FOLDERS]
    files = [path for path in files if path.relative_to(ROOT).as_posix() not in TORCH_FILES]
    return [*files, *sources("runtime")]


def test_the_torch_free_part_imports_no_torch() -> None:
    wrong = []
    for path in torch_free():
        for name in imported(path):
            module = f"{name.replace('.', '/')}.py"
            if name.split(".")[0] in TORCH or module in TORCH_FILES or name.startswith(TORCH_MODULES):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_nothing_imports_the_tests() -> None:
    wrong = [
        path for package in PACKAGES for path in sources(package) for name in imported(path) if name.startswith("tests")
    ]
    assert not wrong


def test_import_cycles_between_modules_of_textsr_and_runtime_are_absent() -> None:
    files = [*sources("textsr"), *sources("runtime")]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    graph = {name: {other for other in imported(path) if other in names} for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in graph[name]:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_importing_runtime_loads_no_torch() -> None:
    code = (
        "import sys, runtime, runtime.infer, runtime.recognizer, runtime.transocr; "
        "print([name for name in ('torch', 'onnx', 'cv2', 'rapidocr') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
