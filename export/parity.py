"""Does the exported bundle compute what torch does? Graph by graph, step by step through the loop, and on the final image.

``python -m export.parity BUNDLE [--checkpoint W]`` measures a bundle anew and prints the table.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.weights import WEIGHTS, round_weights
from runtime.bundle import Bundle
from runtime.executors.onnxruntime import OrtExecutor
from textsr.checkpoint import load_model
from textsr.config import Preset
from textsr.errors import EngineError, TextSRError
from textsr.graphs import Model, example_inputs, graphs
from textsr.loop import Executor, LineBatch, TextSampler, restore
from textsr.resize import bicubic_x4
from textsr.torch_executor import TorchExecutor

logger = logging.getLogger(__name__)

BOUND = 1e-4
"""Largest max|a - b| / max|a| of any floating-point output in float32."""
PSNR_BOUND = 50.0
"""Least PSNR in dB of the final image, codebook indices forced."""
IDENTICAL = 200.0
"""PSNR in dB that stands for equal images."""
BATCHES = (1, 3)
SAMPLERS: tuple[TextSampler, ...] = ("fixed", "categorical")
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Measured:
    """Error of one output. ``where`` is "batch N" or the sampler; ``step`` is the loop's, -1 outside it."""

    where: str
    step: int
    graph: str
    output: str
    error: float

    def __str__(self) -> str:
        place = f"{self.where} text, step {self.step}" if self.step >= 0 else self.where
        return f"graph {self.graph}, output {self.output} ({place}): relative error {self.error:.3g}"


@dataclass(frozen=True)
class Flips:
    """Discrete values that differ, of how many."""

    flipped: int
    total: int


@dataclass(frozen=True)
class FreeRun:
    """The loop left to itself on both executors, per text sampler.

    ``z_0`` is the relative error of the last latent, ``codes`` and ``tokens`` count the flips, ``psnr`` compares the images
    as they come, flips included, and ``psnr_forced`` those decoded from the reference's code vectors (dB, peak 2).
    """

    z_0: float
    codes: Flips
    tokens: Flips
    psnr: float
    psnr_forced: float


@dataclass(frozen=True)
class ParityReport:
    """What was measured; goes into bundle.json.

    ``graphs`` has one entry an output and batch size, ``steps`` one an output and step with the reference's tensors fed at
    every step; ``flips`` counts the discrete outputs among these; ``free`` has a loop left to itself for each sampler.
    """

    reference: str
    candidate: str
    bound: float
    psnr_bound: float
    graphs: tuple[Measured, ...]
    steps: tuple[Measured, ...]
    flips: Mapping[str, Flips] = field(default_factory=dict)
    free: Mapping[str, FreeRun] = field(default_factory=dict)

    @property
    def worst(self) -> Measured:
        """The largest error of all."""
        return max((*self.graphs, *self.steps), key=lambda measured: measured.error)

    def failures(self) -> list[str]:
        """What is out of bounds, in the order of running: graphs first, then steps, then the image."""
        found = [str(entry) for entry in (*self.graphs, *self.steps) if not entry.error <= self.bound]
        for sampler, run in self.free.items():
            if not run.psnr_forced >= self.psnr_bound:
                found.append(f"final image ({sampler} text): {run.psnr_forced:.1f} dB, at least {self.psnr_bound:g} needed")
        return found

    def require(self) -> None:
        """Raises EngineError that says which graph and step moved first, and by how much, when parity fails."""
        found = self.failures()
        if found:
            raise EngineError(
                f"{self.candidate} does not compute what {self.reference} does (bound {self.bound:g}): {found[0]}"
                + (f"; and {len(found) - 1} more" if len(found) > 1 else ""))

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        data = asdict(self)
        return {**data, "graphs": [asdict(entry) for entry in self.graphs], "steps": [asdict(entry) for entry in self.steps]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ParityReport:
        """The inverse of `to_json`."""
        return cls(
            **{key: data[key] for key in ("reference", "candidate", "bound", "psnr_bound")},
            graphs=tuple(Measured(**entry) for entry in data["graphs"]),
            steps=tuple(Measured(**entry) for entry in data["steps"]),
            flips={key: Flips(**entry) for key, entry in data["flips"].items()},
            free={key: FreeRun(**{**entry, "codes": Flips(**entry["codes"]), "tokens": Flips(**entry["tokens"])})
                  for key, entry in data["free"].items()},
        )

    def table(self) -> str:
        """The largest error a graph, alone and in the loop, and the loops left to themselves."""
        alone, looped = _largest(self.graphs), _largest(self.steps)
        lines = [f"{self.reference} against {self.candidate}; bound {self.bound:g}", "",
                 f"{'graph':<20}{'alone':>10}{'in loop':>10}"]
        for name in alone:
            inside = f"{looped[name]:10.1e}" if name in looped else f"{'-':>10}"
            lines.append(f"{name:<20}{alone[name]:10.1e}{inside}")
        lines += ["", *(f"flips of {name}: {flips.flipped} of {flips.total}" for name, flips in self.flips.items())]
        for sampler, run in self.free.items():
            lines.append(
                f"{sampler} text, left to itself: z_0 {run.z_0:.1e}, codes flipped {run.codes.flipped} of {run.codes.total}, "
                f"tokens flipped {run.tokens.flipped} of {run.tokens.total}, image {run.psnr:.1f} dB, "
                f"codes forced {run.psnr_forced:.1f} dB")
        return "\n".join(lines)


def _largest(entries: tuple[Measured, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in entries:
        found[entry.graph] = max(found.get(entry.graph, 0.0), entry.error)
    return found


def relative_error(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """max|a - b| / max|a|; infinite where shapes differ or a value is not finite."""
    if reference.shape != other.shape or not (np.isfinite(reference).all() and np.isfinite(other).all()):
        return float("inf")
    scale = float(np.abs(reference).max(initial=0.0))
    worst = float(np.abs(reference.astype(np.float64) - other).max(initial=0.0))
    return worst / scale if scale > 0 else (0.0 if worst == 0 else float("inf"))


def psnr(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """PSNR in dB of images in [-1,1] (peak 2), at most `IDENTICAL`; 0 where a value is not finite."""
    if not np.isfinite(other).all():
        return 0.0
    error = float(np.mean((reference.astype(np.float64) - other) ** 2))
    return min(10 * float(np.log10(4 / error)), IDENTICAL) if error > 0 else IDENTICAL


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
        """The decoder's latent replaced by the reference's code vectors, which every executor finds again: codes forced."""
        with torch.inference_mode():
            vectors, _ = self.model.vqgan.quantize(torch.tensor(inputs["z_0"]))
        return {"z_0": vectors.numpy()}


def run(executor: Executor, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """A graph from host arrays to host arrays."""
    outputs = executor.run(graph, {name: executor.put(value) for name, value in inputs.items()})
    return {name: executor.get(value) for name, value in outputs.items()}


def count_flips(expected: NDArray[Any], found: NDArray[Any]) -> Flips:
    """How many integers differ."""
    return Flips(int((expected != found).sum()), int(expected.size))


def example_lines(preset: Preset, count: int = 1, seed: int = 0) -> LineBatch:
    """Smooth coloured lines with random text: input for parity, not for judging quality."""
    rng = np.random.default_rng(seed)
    channels, height, width = 3, preset.height // 4, preset.width // 4
    places = np.arange(width, dtype=np.float32) / width + np.arange(height, dtype=np.float32)[:, None] / height
    phase, pitch = rng.uniform(0, 6, (count, channels, 1, 1)), rng.uniform(3, 40, (count, channels, 1, 1))
    lq = np.clip(np.sin(places * pitch + phase) * 0.7 + rng.normal(0, 0.1, (count, channels, height, width)), -1, 1)
    lq = lq.astype(np.float32)
    image = np.stack([bicubic_x4(line.transpose(1, 2, 0)).transpose(2, 0, 1) for line in lq])
    shape = (count, preset.max_chars)
    centres = np.tile((np.arange(preset.max_chars) + 0.5) / preset.max_chars, (count, 1)).astype(np.float32)
    return LineBatch(
        lq=lq, image=np.ascontiguousarray(image, dtype=np.float32), tokens=rng.integers(0, preset.symbols, shape),
        weights=rng.uniform(0.2, 1, shape).astype(np.float32), centres=centres,
        widths=np.full(shape, 0.9 / preset.max_chars, np.float32),
        keys=[f"parity {number}".encode() for number in range(count)], windows=[0] * count,
    )


def measure(bundle: Bundle, model: Model, *, steps: int | None = None, candidate: Executor | None = None) -> ParityReport:
    """Compare a bundle on ONNX Runtime (or ``candidate``) with the torch model, whose weights are rounded as the bundle's.

    :param steps: steps of the loop, all of the preset's by default.
    :raises EngineError: a graph cannot be loaded or run.
    """
    reference = TorchExecutor(graphs(model))
    other = candidate or OrtExecutor(bundle, "cpu")
    comparison = _Comparison(model, reference, other)
    alone = [entry for name in bundle.graphs for batch in BATCHES
             for entry in comparison.both(f"batch {batch}", -1, name, example_inputs(model, name, batch))]
    lines, stepped, free = example_lines(bundle.preset), [], {}
    for sampler in SAMPLERS if bundle.samples_text else SAMPLERS[:1]:
        entries, free[sampler] = _loop(comparison, bundle.preset, lines, sampler, steps)
        stepped += entries
    return ParityReport(reference.name, other.name, BOUND, PSNR_BOUND, tuple(alone), tuple(stepped), comparison.flips, free)


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
    images = [run(executor, "vqgan_decoder", forced)["image"] for executor in (comparison.reference, comparison.candidate)]
    return entries, FreeRun(
        z_0=relative_error(last["reference"], last["candidate"]),
        codes=count_flips(expected.codes, found.codes),
        tokens=count_flips(expected.tokens, found.tokens),
        psnr=psnr(expected.image, found.image),
        psnr_forced=psnr(images[0], images[1]),
    )


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code: 0 where parity holds."""
    parser = argparse.ArgumentParser(prog="python -m export.parity", description="Measure a bundle against torch.")
    parser.add_argument("bundle", help="folder, or the name of a shipped bundle")
    parser.add_argument("--checkpoint", type=Path, metavar="W", help="reference weights; default: the bundle's own")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        bundle = Bundle.open(args.bundle)
        model = load_model(args.checkpoint or bundle.path / WEIGHTS, bundle.preset)
        round_weights(model, bundle.precision)
        report = measure(bundle, model)
    except TextSRError as error:
        sys.stderr.write(f"export.parity: {error}\n")
        return 1
    sys.stdout.write(report.table() + "\n")
    for failure in report.failures():
        sys.stdout.write(f"FAILED: {failure}\n")
    return 1 if report.failures() else 0


if __name__ == "__main__":
    sys.exit(main())
