"""Does the exported bundle compute what torch does? Graph by graph, step by step through the loop, on the final image.

``python -m export.parity BUNDLE [--checkpoint W]`` measures a bundle anew and prints the table.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

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


@dataclass(frozen=True)
class _Call:
    """A run of a graph in a loop, on host arrays."""

    sampler: TextSampler
    step: int
    graph: str
    inputs: Arrays
    outputs: Arrays


class _Comparison:
    """Runs candidates on the reference's tensors and keeps the errors, the flips and the decoded images."""

    def __init__(self, model: Model, reference: Executor, bar: tqdm[Any]) -> None:
        self.model, self.reference, self.bar = model, reference, bar
        self.flips: dict[str, Flips] = {}
        self.forced: dict[str, float] = {}

    def alone(self, candidate: Executor, graph: str, batch: int) -> list[Measured]:
        """The graph on random inputs, on both executors."""
        inputs = example_inputs(self.model, graph, batch)
        inputs = self.quantised(inputs) if graph == "vqgan_decoder" else inputs
        expected, found = run(self.reference, graph, inputs), run(candidate, graph, inputs)
        return self._compare(f"batch {batch}", -1, graph, expected, found)

    def again(self, candidate: Executor, call: _Call) -> list[Measured]:
        """The graph on the inputs of a loop, against what the reference gave; the decoder on code vectors."""
        inputs, expected = call.inputs, call.outputs
        if call.graph == "vqgan_decoder":
            inputs = self.quantised(inputs)
            expected = run(self.reference, call.graph, inputs)
        found = run(candidate, call.graph, inputs)
        if call.graph == "vqgan_decoder":
            self.forced[call.sampler] = psnr(expected["image"], found["image"])
        return self._compare(call.sampler, call.step, call.graph, expected, found)

    def _compare(self, where: str, step: int, graph: str, expected: Arrays, found: Arrays) -> list[Measured]:
        self.bar.update()
        entries = []
        for name, value in expected.items():
            if np.issubdtype(value.dtype, np.integer):
                key, now = f"{graph}.{name}", count_flips(value, found[name])
                before = self.flips.get(key, Flips(0, 0))
                self.flips[key] = Flips(before.flipped + now.flipped, before.total + now.total)
            else:
                entries.append(Measured(where, step, graph, name, relative_error(value, found[name])))
        return entries

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

    The reference runs each loop once. The graphs are then compared one after the other, so that ONNX Runtime holds one
    of them beside the torch model; all of them only for the loops at the end.

    :param model: with its weights rounded as the bundle stores them (`export.weights.round_weights`).
    :param steps: steps of the loop, all of the preset's by default.
    :raises EngineError: a graph cannot be loaded or run.
    """
    reference, lines = TorchExecutor(graphs(model)), example_lines(bundle.preset)
    alone: list[Measured] = []
    stepped: list[tuple[int, list[Measured]]] = []
    loops: list[_Loop] = []
    with tqdm(desc="parity", unit="run", disable=None) as bar:
        comparison = _Comparison(model, reference, bar)
        for sampler in SAMPLERS if bundle.samples_text else SAMPLERS[:1]:
            loops.append(_Loop(reference, bundle.preset, lines, sampler, steps, bar))
        calls = [call for loop in loops for call in loop.calls]
        bar.total = 3 * len(calls) + len(BATCHES) * len(bundle.graphs)
        for name in bundle.graphs:
            single = candidate or OrtExecutor(bundle, "cpu")
            alone += [entry for batch in BATCHES for entry in comparison.alone(single, name, batch)]
            stepped += [(n, comparison.again(single, call)) for n, call in enumerate(calls) if call.graph == name]
            del single
        other = candidate or OrtExecutor(bundle, "cpu")
        free: dict[str, FreeRun] = {
            loop.sampler: loop.beside(_Loop(other, bundle.preset, lines, loop.sampler, steps, bar), comparison.forced)
            for loop in loops
        }
    in_order = tuple(entry for _, entries in sorted(stepped, key=itemgetter(0)) for entry in entries)
    return ParityReport(reference.name, other.name, BOUND, PSNR_BOUND, tuple(alone), in_order, comparison.flips, free)


class _Loop:
    """A loop on one executor, and each of its calls as host arrays."""

    def __init__(
        self,
        executor: Executor,
        preset: Preset,
        lines: LineBatch,
        sampler: TextSampler,
        steps: int | None,
        bar: tqdm[Any],
    ) -> None:
        self.sampler = sampler
        self.calls: list[_Call] = []

        def keep(step: int, graph: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
            taken, given = ({name: executor.get(value) for name, value in side.items()} for side in (inputs, outputs))
            self.calls.append(_Call(sampler, step, graph, taken, given))
            bar.update()

        self.output = restore(executor, preset, lines, steps=steps, text_sampler=sampler, observer=keep)

    @property
    def z_0(self) -> NDArray[np.float32]:
        """The last latent."""
        return self.calls[-1].inputs["z_0"]

    def beside(self, other: _Loop, forced: Mapping[str, float]) -> FreeRun:
        """This loop, the reference's, against another's; ``forced`` as the comparison found it, by sampler."""
        return FreeRun(
            z_0=relative_error(self.z_0, other.z_0),
            codes=count_flips(self.output.codes, other.output.codes),
            tokens=count_flips(self.output.tokens, other.output.tokens),
            psnr=psnr(self.output.image, other.output.image),
            psnr_forced=forced[self.sampler],
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
