"""Executors that are wrong in a known way, for tests of what finds that out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export.build import write_graph
from export.folder import digest, write_manifest
from export.half import to_half
from export.weights import WEIGHTS, layout
from runtime.bundle import Bundle
from tests.export.helpers import traced_graphs
from textsr.loop import Executor

Change = Callable[[str, dict[str, Any], dict[str, Any]], dict[str, Any]]


class Changed:
    """An executor over another one: ``before`` changes the inputs of a run, ``after`` its outputs, as host arrays."""

    def __init__(self, executor: Executor, *, before: Change | None = None, after: Change | None = None) -> None:
        self.name = "changed"
        self.put, self.get = executor.put, executor.get
        self._executor, self._before, self._after = executor, before, after

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        taken = {name: self.get(value).copy() for name, value in inputs.items()}
        taken = self._before(graph, taken, {}) if self._before else taken
        outputs = self._executor.run(graph, {name: self.put(value) for name, value in taken.items()})
        given = {name: self.get(value).copy() for name, value in outputs.items()}
        given = self._after(graph, taken, given) if self._after else given
        return {name: self.put(value) for name, value in given.items()}


def with_half_graphs(folder: Path, out: Path) -> Path:
    """A copy of a float32 bundle with half graphs, every block in half precision; nothing is searched or proven."""
    shutil.copytree(folder, out)
    manifest = dict(Bundle.open(folder, verify=False).manifest)
    for name, graph in traced_graphs(folder).items():
        path = out / f"{name}.half.onnx"
        write_graph(path, to_half(graph).graph, layout(out / WEIGHTS))
        manifest["graphs"][name]["half"] = path.name
        manifest["files"][path.name] = digest(path)
    write_manifest(out, manifest)
    return out


def with_other_weights(folder: Path, out: Path, weight: str, factor: float) -> Path:
    """A copy of a float32 bundle with one weight multiplied."""
    shutil.copytree(folder, out)
    manifest = dict(Bundle.open(folder, verify=False).manifest)
    place = layout(out / WEIGHTS)[weight]
    values = np.memmap(out / WEIGHTS, np.float32, "r+", place.offset, place.shape)
    values *= np.float32(factor)
    values.flush()
    manifest["files"][WEIGHTS] = digest(out / WEIGHTS)
    write_manifest(out, manifest)
    return out
