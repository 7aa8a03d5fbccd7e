"""The judge judges: nothing that trains, tunes or selects may come near it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
JUDGE = "train.evaluation.judge"
PACKAGE = "rapidocr_onnxruntime"
EVALUATES = ("train.evaluate", "train.evaluation")


def _modules() -> dict[str, Path]:
    files = [path for package in ("train", "textsr", "runtime") for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def _imported(path: Path) -> set[str]:
    """Every name that could be a module: imports anywhere in the file, and modules named in strings."""
    inside, found = list(path.relative_to(ROOT).with_suffix("").parts), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level] if node.level else []
            module = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def _reach(start: str, graph: dict[str, set[str]]) -> set[str]:
    """All modules that importing ``start`` can lead to."""
    found, waiting = {start}, [start]
    while waiting:
        new = (graph[waiting.pop()] & graph.keys()) - found
        found |= new
        waiting += new
    return found


@cache
def _graph() -> dict[str, set[str]]:
    return {name: _imported(path) for name, path in _modules().items()}


def test_no_module_of_training_or_restoring_leads_to_the_judge() -> None:
    graph = _graph()
    apart = [name for name in graph if not name.startswith(EVALUATES)]
    assert {"train.run", "train.harness", "train.diffusion", "runtime.restorer"} <= set(apart)
    wrong = {name: sorted(_reach(name, graph) & {JUDGE}) for name in apart if JUDGE in _reach(name, graph)}
    assert not wrong


def test_the_judges_package_is_named_by_the_judge_alone() -> None:
    naming = [name for name, imported in _graph().items() if any(PACKAGE in other for other in imported)]
    assert naming == [JUDGE]


def test_the_evaluation_does_lead_to_it() -> None:
    assert JUDGE in _reach("train.evaluate", _graph())
