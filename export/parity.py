"""Does the exported bundle compute what torch does? Graph by graph, step by step through the loop, on the final image.

``python -m export.parity BUNDLE [--checkpoint W]`` measures a bundle anew and prints the table.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.report import (
    BOUND,
    PSNR_BOUND,
    Flips,
    FreeRun,
    Measured,
    ParityReport,
    count_flips,
    psnr,
    relative_error,
)
from export.source import open_source
from export.weights import WEIGHTS, round_weights
from runtime.bundle import Bundle
from runtime.executors.onnxruntime import OrtExecutor
from textsr.checkpoint import load_model
from textsr.config import Preset
from textsr.config import preset as named_preset
from textsr.errors import BundleError, TextSRError
from textsr.graphs import Model, example_inputs, graphs
from textsr.loop import Executor, LineBatch, TextSampler, restore
from textsr.resize import bicubic_x4
from textsr.torch_executor import TorchExecutor

logger = logging.getLogger(__name__)

BATCHES = (1, 3)
SAMPLERS: tuple[TextSampler, ...] = ("fixed", "categorical")
Arrays = Mapping[str, NDArray[Any]]


class _Comparison:
    """Runs the candidate on the reference's tensors and keeps the errors."""

    def __init__(self, model: Model, reference: Executor, candidate: Executor) -> None:
        self.model, self.reference, self.candidate = model, reference, candidate
        self.flips: dict[str, Flips] = {}

    def both(self, where: str, step: int, graph: str, inputs: Arrays) -> list[Measured]:
        """The graph on both executors."""
        inputs = self.quantised(inputs) if graph == "vqgan_decoder" else inputs
        return self.against(where, step, graph, inputs, run(self.reference, graph, inputs))

    def against(self, where: str, step: int, graph: str, inputs: Arrays, expected: Arrays) -> list[Measured]:
        """The graph on the candidate, against what the reference gave for the same inputs."""
        found = run(self.candidate, graph, inputs)
        entries = []
        for name, value in expected.items():
            if np.issubdtype(value.dtype, np.integer):
                self.count(f"{graph}.{name}", value, found[name])
            else:
                entries.append(Measured(where, step, graph, name, relative_error(value, found[name])))
        return entries

    def count(self, name: str, expected: NDArray[Any], found: NDArray[Any]) -> None:
        """Add to the flips of a discrete output."""
        before, now = self.flips.get(name, Flips(0, 0)), count_flips(expected, found)
        self.flips[name] = Flips(before.flipped + now.flipped, before.total + now.total)

    def quantised(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The decoder's latent replaced by the reference's code vectors, which every executor finds again."""
        with torch.inference_mode():
            vectors, _ = self.model.vqgan.quantize(torch.tensor(inputs["z_0"]))
        return {"z_0": vectors.numpy()}


def run(executor: Executor, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """A graph from host arrays to host arrays."""
    outputs = executor.run(graph, {name: executor.put(value) for name, value in inputs.items()})
    return {name: executor.get(value) for name, value in outputs.items()}


def example_lines(preset: Preset, count: int = 1, seed: int = 0) -> LineBatch:
    """Smooth coloured lines with random text: input for parity, not for judging quality."""
    rng = np.random.default_rng(seed)
    channels, height, width = 3, preset.height // 4, preset.width // 4
    places = np.arange(width, dtype=np.float32) / width + np.arange(height, dtype=np.float32)[:, None] / height
    phase, pitch = rng.uniform(0, 6, (count, channels, 1, 1)), rng.uniform(3, 40, (count, channels, 1, 1))
    waves = np.sin(places * pitch + phase) * 0.7 + rng.normal(0, 0.1, (count, channels, height, width))
    lq = np.clip(waves, -1, 1).astype(np.float32)
    image = np.stack([bicubic_x4(line.transpose(1, 2, 0)).transpose(2, 0, 1) for line in lq])
    shape = (count, preset.max_chars)
    centres = np.tile((np.arange(preset.max_chars) + 0.5) / preset.max_chars, (count, 1)).astype(np.float32)
    return LineBatch(
        lq=lq,
        image=np.ascontiguousarray(image, dtype=np.float32),
        tokens=rng.integers(0, preset.symbols, shape),
        weights=rng.uniform(0.2, 1, shape).astype(np.float32),
        centres=centres,
        widths=np.full(shape, 0.9 / preset.max_chars, np.float32),
        keys=[f"parity {number}".encode() for number in range(count)],
        windows=[0] * count,
    )


def measure(
    bundle: Bundle, model: Model, *, steps: int | None = None, candidate: Executor | None = None
) -> ParityReport:
    """Compare a bundle on ONNX Runtime (or ``candidate``) with the torch model.

    :param model: with its weights rounded as the bundle stores them (`export.weights.round_weights`).
    :param steps: steps of the loop, all of the preset's by default.
    :raises EngineError: a graph cannot be loaded or run.
    """
    reference = TorchExecutor(graphs(model))
    other = candidate or OrtExecutor(bundle, "cpu")
    comparison = _Comparison(model, reference, other)
    alone = [
        entry
        for name in bundle.graphs
        for batch in BATCHES
        for entry in comparison.both(f"batch {batch}", -1, name, example_inputs(model, name, batch))
    ]
    lines, free = example_lines(bundle.preset), dict[str, FreeRun]()
    stepped: list[Measured] = []
    for sampler in SAMPLERS if bundle.samples_text else SAMPLERS[:1]:
        entries, free[sampler] = _loop(comparison, bundle.preset, lines, sampler, steps)
        stepped += entries
    steps_measured = tuple(stepped)
    return ParityReport(
        reference.name, other.name, BOUND, PSNR_BOUND, tuple(alone), steps_measured, comparison.flips, free
    )


def _loop(
    comparison: _Comparison, preset: Preset, lines: LineBatch, sampler: TextSampler, steps: int | None
) -> tuple[list[Measured], FreeRun]:
    """The reference's loop with the candidate run beside it on the same tensors, then the candidate's own loop."""
    entries: list[Measured] = []
    last: dict[str, NDArray[Any]] = {}

    def beside(step: int, graph: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        get = comparison.reference.get
        arrays = {name: get(value) for name, value in inputs.items()}
        if graph == "vqgan_decoder":
            last["reference"] = arrays["z_0"]
            entries.extend(comparison.both(sampler, step, graph, arrays))
        else:
            entries.extend(comparison.against(sampler, step, graph, arrays, {n: get(v) for n, v in outputs.items()}))

    def keep(step: int, graph: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        if graph == "vqgan_decoder":
            last["candidate"] = comparison.candidate.get(inputs["z_0"])

    expected = restore(comparison.reference, preset, lines, steps=steps, text_sampler=sampler, observer=beside)
    found = restore(comparison.candidate, preset, lines, steps=steps, text_sampler=sampler, observer=keep)
    forced = comparison.quantised({"z_0": last["reference"]})
    executors = (comparison.reference, comparison.candidate)
    images = [run(executor, "vqgan_decoder", forced)["image"] for executor in executors]
    return entries, FreeRun(
        z_0=relative_error(last["reference"], last["candidate"]),
        codes=count_flips(expected.codes, found.codes),
        tokens=count_flips(expected.tokens, found.tokens),
        psnr=psnr(expected.image, found.image),
        psnr_forced=psnr(images[0], images[1]),
    )


def _reference(bundle: Bundle, checkpoint: Path | None) -> Model:
    """The torch model of the bundle's weights, or of the checkpoint that it is to be compared with."""
    if checkpoint is None:
        model = load_model(bundle.path / WEIGHTS, bundle.preset)
        assert isinstance(model, Model)
        return model
    model = open_source(named_preset(bundle.preset.name), checkpoint).model
    if model.preset != bundle.preset:
        raise BundleError(f"{checkpoint} states another schedule or recogniser than the bundle {bundle.path} has")
    return model


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code: 0 where parity holds."""
    parser = argparse.ArgumentParser(prog="python -m export.parity", description="Measure a bundle against torch.")
    parser.add_argument("bundle", help="folder, or the name of a shipped bundle")
    parser.add_argument("--checkpoint", type=Path, metavar="W", help="reference weights; default: the bundle's own")
    parser.add_argument("--steps", type=int, help="steps of the loop; default: all")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        bundle = Bundle.open(args.bundle)
        model = _reference(bundle, args.checkpoint)
        round_weights(model, bundle.precision)
        report = measure(bundle, model, steps=args.steps)
    except TextSRError as error:
        sys.stderr.write(f"export.parity: {error}\n")
        return 1
    sys.stdout.write(report.table() + "\n")
    for failure in report.failures():
        sys.stdout.write(f"FAILED: {failure}\n")
    return 1 if report.failures() else 0


if __name__ == "__main__":
    sys.exit(main())
