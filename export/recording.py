"""The float32 loop, recorded: what half graphs are measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from tqdm import tqdm

from export.emulate import Arrays, PlainExecutor, emulated
from export.flops import one_line
from export.ranges import find_constant, find_fault
from export.search import Call, Found
from export.trace import TracedGraph
from textsr.config import Preset
from textsr.errors import EngineError
from textsr.loop import LineBatch, LoopOutput, TextSampler, restore
from textsr.recognition import TransOCRReader

PICTURES = {"vqgan_encoder": "z_y", "painted_encoder": "z_painted", "unet_step": "z0_hat", "vqgan_decoder": "image"}
"""Outputs that are pictures: the same value everywhere means a black one."""
Weights = Callable[[str], Arrays]
"""A graph's weights by name."""


@dataclass(frozen=True)
class Material:
    """What half graphs are measured on: ``steps`` None for all; ``source`` tells of the lines in bundle.json.

    ``symbols``: those of the preset's own recogniser, where it has one.
    """

    lines: LineBatch
    source: Mapping[str, Any]
    steps: int | None = None
    symbols: Sequence[str] = ()


@dataclass
class Recording:
    """Every run of each graph; for each text sampler what the loop gave, and the latent that it decoded."""

    calls: dict[str, list[Call]] = field(default_factory=dict)
    outputs: dict[TextSampler, LoopOutput] = field(default_factory=dict)
    latents: dict[TextSampler, NDArray[np.float32]] = field(default_factory=dict)


class WeightsFile:
    """The weights of one graph after another from a safetensors file, in float32 (uint8 as it is)."""

    def __init__(self, path: Path, traced: Mapping[str, TracedGraph]) -> None:
        self._path, self._traced = path, traced

    def __call__(self, graph: str) -> dict[str, NDArray[Any]]:
        """By name. The numbers are those of the file, so rounded to half precision where it stores that."""
        found = {}
        with safe_open(self._path, framework="numpy") as file:
            for name in self._traced[graph].weights:
                value = file.get_tensor(name)
                found[name] = value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value
        return found


class _Recorder:
    """An executor that keeps the inputs and outputs of every run."""

    def __init__(self, executor: PlainExecutor) -> None:
        self.executor, self.name = executor, executor.name
        self.put, self.get = executor.put, executor.get
        self.calls: dict[str, list[Call]] = {}

    def run(self, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        outputs = self.executor.run(graph, inputs)
        self.calls.setdefault(graph, []).append(Call(dict(inputs), outputs))
        return outputs


class Guard:
    """An observer of a loop in the emulation: no value but finite ones, no picture that is the same everywhere."""

    def __init__(self, found: Mapping[str, Found], weights: Weights) -> None:
        self._found, self._weights = found, weights
        self.latent: NDArray[np.float32] = np.zeros(0, np.float32)

    def __call__(self, step: int, graph: str, inputs: Arrays, outputs: Arrays) -> None:
        """Raises EngineError that names graph and node, and the step."""
        if graph == "vqgan_decoder":
            self.latent = inputs["z_0"]
        picture = outputs.get(PICTURES.get(graph, ""))
        lines = [] if picture is None else list(picture)
        black = [place for place, line in enumerate(lines) if line.max() == line.min()]
        if not black and all(np.isfinite(value).all() for value in outputs.values()):
            return
        model, weights = emulated(self._found[graph].graph.graph.model), self._weights(graph)
        fault = find_fault(model, inputs, weights)
        if fault is None and black:
            fault = find_constant(model, PICTURES[graph], one_line(model, inputs, black[0]), weights)
        where = f"graph {graph}, node {fault.node}: {fault.what}" if fault else f"graph {graph}: a black line"
        raise EngineError(f"{where} in half precision" + (f", step {step}" if step >= 0 else ""))


def record_reference(
    preset: Preset, traced: Mapping[str, TracedGraph], weights: Weights, material: Material
) -> Recording:
    """Runs the float32 loop, once for each text sampler that the graphs can do, and the recogniser on its images.

    Graphs of both are kept from fixed text, whose few runs of the text condition stand for those of every step.
    """
    recorder, found = _Recorder(plain(traced, weights)), Recording()
    samplers: tuple[TextSampler, ...] = ("categorical", "fixed") if "text_step" in traced else ("fixed",)
    for sampler in tqdm(samplers, desc="float32", unit="loop", disable=None):
        recorder.calls = {}
        found.outputs[sampler] = run_loop(recorder, preset, material, sampler)
        found.latents[sampler] = recorder.calls["vqgan_decoder"][-1].inputs["z_0"]
        found.calls |= recorder.calls
    if "recognizer_step" in traced:
        assert preset.transocr is not None
        recorder.calls = {}
        pictures = ((found.outputs["fixed"].image.transpose(0, 2, 3, 1) + 1) * 127.5).round().astype(np.uint8)
        TransOCRReader(recorder, preset.transocr, material.symbols).read(list(pictures))
        found.calls |= recorder.calls
    return found


def plain(traced: Mapping[str, TracedGraph], weights: Weights) -> PlainExecutor:
    """An executor of traced graphs as they are."""
    return PlainExecutor("float32", {name: graph.model for name, graph in traced.items()}, weights)


def run_loop(
    executor: Any, preset: Preset, material: Material, sampler: TextSampler, observer: Guard | None = None
) -> LoopOutput:
    """`textsr.loop.restore` on the material."""
    return restore(executor, preset, material.lines, steps=material.steps, text_sampler=sampler, observer=observer)
