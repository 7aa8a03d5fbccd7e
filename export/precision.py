"""Half graphs for a bundle: finds each graph's keep-list, and proves errors, images, ranges and FLOP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite

import numpy as np
from tqdm import tqdm

from export.emulate import EVALUATOR, PlainExecutor, emulated
from export.half import FLOAT, HALF, MOVES, element_types
from export.halfreport import Budget, GraphEvidence, HalfReport, ImageEvidence
from export.recording import Guard, Material, Recording, Weights, run_loop
from export.report import count_flips, psnr, relative_error
from export.search import Found, Search, floats
from export.trace import TracedGraph
from runtime.bundle import Bundle
from runtime.executors.onnxruntime import OrtExecutor
from textsr.config import Preset
from textsr.describe import Cost
from textsr.errors import EngineError

ROUNDS = 4
"""Times that the graphs' own budget is set, half as large each time, until the image keeps its own."""
LISTED = 5
"""Largest tensors of a graph that bundle.json lists."""


def find_half(
    preset: Preset,
    traced: Mapping[str, TracedGraph],
    weights: Weights,
    material: Material,
    recording: Recording,
    budget: Budget | None = None,
) -> tuple[dict[str, TracedGraph], HalfReport]:
    """The typed half graphs of a preset, and their evidence.

    :param traced: the float32 graphs, weights as inputs.
    :param weights: a graph's weights by name, rounded to half precision already (`export.recording.WeightsFile`).
    :param recording: of the float32 graphs on ``material`` (`export.recording.record_reference`).
    :raises EngineError: a value is not finite or an image is black, naming graph and node; or a budget cannot be kept.
    """
    budget = budget or Budget()
    searches = {name: Search(traced[name], recording.calls[name], weights) for name in traced}
    found, images = _settle(preset, searches, recording, weights, material, budget)
    graphs = {name: _evidence(found[name], len(recording.calls[name])) for name in found}
    report = HalfReport(
        budget=budget,
        evaluator=EVALUATOR,
        lines=material.source,
        steps=material.steps or preset.schedule.steps,
        graphs=graphs,
        images=images,
        share={sampler: _share(preset, graphs, sampled=sampler == "categorical") for sampler in images},
    )
    report.require()
    return {name: entry.graph.graph for name, entry in found.items()}, report


def checked_on_cpu(bundle: Bundle, recording: Recording, report: HalfReport) -> HalfReport:
    """The report with the errors of the bundle's half graphs as files, on ONNX Runtime's CPU, on recorded inputs.

    Its kernels round less than the emulation, so this proves files and weights, not ranges.

    :raises EngineError: a graph cannot be loaded or run, or its error is beyond the budget.
    """
    half, graphs = bundle.in_half(), dict(report.graphs)
    for name in tqdm(graphs, desc="half on the CPU", unit="graph", disable=None):
        executor, error = OrtExecutor(half, "cpu"), 0.0  # an executor each: one graph's weights at a time
        for call in (recording.calls[name][0], recording.calls[name][-1]):
            found = executor.run(name, call.inputs)
            error = max(error, *(relative_error(value, found[key]) for key, value in floats(call.outputs).items()))
        if not error <= report.budget.error:
            raise EngineError(f"graph {name} in half precision, as written: error {error:.3g} on {executor.name}")
        graphs[name] = replace(graphs[name], on_cpu=error)
    return replace(report, graphs=graphs)


def _settle(
    preset: Preset,
    searches: Mapping[str, Search],
    recording: Recording,
    weights: Weights,
    material: Material,
    budget: Budget,
) -> tuple[dict[str, Found], dict[str, ImageEvidence]]:
    """Keep-lists under the budget, or under ever smaller ones until the images keep theirs; the last where none do."""
    found, images = dict[str, Found](), dict[str, ImageEvidence]()
    for number in range(ROUNDS):
        bar = tqdm(searches.items(), desc="half", unit="graph", disable=None)
        before, found = found, {name: search.run(budget.error / 2**number) for name, search in bar}
        if {name: entry.keep for name, entry in before.items()} != {name: entry.keep for name, entry in found.items()}:
            images = _images(preset, found, recording, weights, material)
        if all(image.psnr >= budget.psnr for image in images.values()):
            break
    return found, images


def _images(
    preset: Preset, found: Mapping[str, Found], recording: Recording, weights: Weights, material: Material
) -> dict[str, ImageEvidence]:
    """The loop left to itself in half precision, for each text sampler."""
    models = {name: emulated(entry.graph.graph.model) for name, entry in found.items()}
    executor, images = PlainExecutor("half", models, weights), dict[str, ImageEvidence]()
    for sampler, expected in tqdm(sorted(recording.outputs.items()), desc="images", unit="loop", disable=None):
        guard = Guard(found, weights)
        restored = run_loop(executor, preset, material, sampler, guard)
        alone = executor.run("vqgan_decoder", {"z_0": recording.latents[sampler]})["image"]
        images[sampler] = ImageEvidence(
            psnr=psnr(expected.image, restored.image),
            psnr_forced=psnr(expected.image, alone),
            z_0=relative_error(recording.latents[sampler], guard.latent),
            codes=count_flips(expected.codes, restored.codes),
            tokens=count_flips(expected.tokens, restored.tokens),
        )
    return images


def _evidence(found: Found, runs: int) -> GraphEvidence:
    model = found.graph.graph.model
    types = element_types(model)
    moves = {node.name for node in model.graph.node if node.op_type in MOVES}  # they repeat what they read
    halves = {name for name, kind in types.items() if kind == HALF}
    kinds = [{types.get(name) for name in (*node.input, *node.output)} for node in model.graph.node]
    casts = sum(node.op_type == "Cast" for node in model.graph.node)
    return GraphEvidence(
        keep=found.keep,
        because_of_range=found.because_of_range,
        error=found.error,
        error_all_half=_number(found.error_all_half),
        alone={name: _number(error) for name, error in found.alone.items()},
        tried=found.tried,
        runs=runs,
        largest=tuple(entry for entry in found.ranges if entry.tensor in halves and entry.node not in moves)[:LISTED],
        largest_sum=found.largest_sum,
        macs=found.macs,
        nodes={
            "half": len(found.graph.half),
            "float": sum(FLOAT in kind and HALF not in kind for kind in kinds),
            "casts": casts,
        },
    )


def _number(error: float) -> float | None:
    """JSON knows no infinity."""
    return error if isfinite(error) else None


def _share(preset: Preset, graphs: Mapping[str, GraphEvidence], *, sampled: bool) -> float:
    """Share of a line's multiply-adds on half operands, over all the preset's steps."""
    cost = Cost(preset, {}, {})
    calls = {name: cost.calls(name, preset.schedule.steps, sampled) for name in graphs}
    half, total = (
        sum(calls[name] * getattr(entry.macs, part) for name, entry in graphs.items()) for part in ("half", "total")
    )
    return float(np.divide(half, total))
