"""Do two executors compute the same? Graph by graph, step by step through the loop, on the final image.

``python -m export.parity BUNDLE [--checkpoint W]`` measures a bundle on ONNX Runtime against torch, on every graph and
batch; ``python -m export.parity A B`` has any two executors restore the same lines. Both print tables.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from export.lines import DEFAULT_LINES, LINES
from export.plot import plot_errors
from export.report import BOUND, PSNR_BOUND, FreeRun, Measured, ParityReport
from export.source import open_source
from export.trajectory import Call, Codebook, Comparison, in_order, record, run
from export.trajectory_compare import SAMPLERS, compare
from export.trajectory_lines import drawn_lines, folder_lines, open_reader
from export.trajectory_report import TrajectoryReport
from export.trajectory_sides import SYNTAX, Spec, codebook_of, open_side
from export.weights import WEIGHTS, round_weights
from runtime.bundle import Bundle
from runtime.executors.onnxruntime import OrtExecutor
from textsr.checkpoint import load_model
from textsr.config import Preset
from textsr.config import preset as named_preset
from textsr.errors import BundleError, InputError, TextSRError
from textsr.graphs import Model, example_inputs, graphs
from textsr.images import atomic
from textsr.loop import Executor, LineBatch
from textsr.resize import bicubic_x4
from textsr.torch_executor import TorchExecutor

logger = logging.getLogger(__name__)

BATCHES = (1, 3)


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
        middles=rng.uniform(0.4, 0.6, shape).astype(np.float32),
        heights=rng.uniform(0.6, 1.1, shape).astype(np.float32),
        contrasts=rng.uniform(-0.8, 0.8, (*shape, 3)).astype(np.float32),
        softness=rng.uniform(6, 28, (count, 1)).astype(np.float32),
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
    preset, lines = bundle.preset, example_lines(bundle.preset)
    reference, codebook = TorchExecutor(graphs(model)), codebook_of(model)
    alone: list[Measured] = []
    stepped: list[tuple[int, list[Measured]]] = []
    with tqdm(desc="parity", unit="run", disable=None) as bar:
        comparison = Comparison(bar)
        samplers = SAMPLERS if bundle.samples_text else SAMPLERS[:1]
        passes = [record(reference, preset, lines, codebook, sampler, steps, bar) for sampler in samplers]
        calls = [call for one in passes for call in one.fed()]
        bar.total = 3 * len(calls) + len(BATCHES) * len(bundle.graphs)
        for name in bundle.graphs:
            single = candidate or OrtExecutor(bundle, "cpu")
            for batch in BATCHES:
                call = _alone(reference, model, codebook, name, batch)
                alone += comparison.compare(call, run(single, name, call.inputs))
            stepped += comparison.again(single, calls, name)
            del single
        other = candidate or OrtExecutor(bundle, "cpu")
        free: dict[str, FreeRun] = {}
        for one in passes:
            free[one.sampler] = comparison.beside(other, preset, lines, one, force_tokens=False).told
    report = ParityReport(reference.name, other.name, BOUND, PSNR_BOUND, tuple(alone), in_order(stepped))
    return replace(report, flips=comparison.flips, free=free)


def _alone(reference: Executor, model: Model, codebook: Codebook, graph: str, batch: int) -> Call:
    """The graph on random inputs; the decoder on random code vectors."""
    inputs = example_inputs(model, graph, batch)
    if graph == "vqgan_decoder":
        preset = model.preset
        shape = (batch, codebook.groups, *preset.latent_shape[1:])
        inputs = {"z_0": codebook.vectors(np.random.default_rng(0).integers(0, preset.vqgan.codes, shape))}
    return Call(f"batch {batch}", -1, graph, inputs, run(reference, graph, inputs))


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


def measured(spec: str, checkpoint: Path | None, steps: int | None) -> ParityReport:
    """`measure` of a bundle given by folder or name, against its own weights or those of ``checkpoint``."""
    bundle = Bundle.open(spec)
    model = _reference(bundle, checkpoint)
    round_weights(model, bundle.precision)
    return measure(bundle, model, steps=steps)


def compared(
    a: str, b: str, *, steps: int | None, folder: Path | None = None, count: int | None = None, sampler: str = "both"
) -> TrajectoryReport:
    """Two sides on drawn lines, or on the pictures of a folder (`export.trajectory_sides.SYNTAX`).

    :raises TextSRError: a side cannot be opened, the sides cannot be compared, or there are no pictures.
    """
    if count is not None and count < 1:
        raise InputError(f"--count must be at least 1, not {count}")
    specs, reader = (Spec.parse(a), Spec.parse(b)), open_reader()
    one = open_side(specs[0])
    try:
        other = open_side(specs[1])
        try:
            preset, alphabet = one.preset, one.alphabet
            count = count or LINES.get(preset.name, DEFAULT_LINES)
            lines = folder_lines(folder, preset, alphabet, count) if folder else drawn_lines(preset, alphabet, count)
            samplers = [name for name in SAMPLERS if sampler in ("both", name)]
            return compare(one, other, lines, steps=steps, samplers=samplers, reader=reader)
        finally:
            other.close()
    finally:
        one.close()


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = argparse.ArgumentParser(
        prog="python -m export.parity",
        description="A alone: a bundle on ONNX Runtime against torch. A and B: candidate B against reference A, on the "
        "same lines, noise and uniforms.\n\n" + SYNTAX,
        epilog="exit status: 0 parity holds; 1 it does not, or something cannot be run; 2 wrong usage",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("a", metavar="A", help="a bundle's folder or shipped name; with B: the reference")
    add("b", metavar="B", nargs="?", help="the candidate")
    add("--checkpoint", type=Path, metavar="W", help="without B: reference weights; default: the bundle's own")
    add("--steps", type=int, help="steps of the loop; default: all")
    add("--lines", type=Path, metavar="DIR", help="with B: pictures of lines; default: lines are drawn")
    add("--count", type=int, help="with B: lines to restore, in one batch; default: 2, of paper 1")
    add("--text-sampler", default="both", choices=["both", *SAMPLERS], help="with B; default: both")
    add("--json", type=Path, metavar="FILE", help="write everything measured")
    add("--plot", type=Path, metavar="FILE", help="draw the errors by step and graph (needs matplotlib)")
    return made


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code: 0 where parity holds."""
    made = parser()
    args = made.parse_args(argv)
    if args.b is None and args.lines is not None:
        made.error("--lines needs B: a bundle alone is measured on random inputs")
    if args.b is not None and args.checkpoint is not None:
        made.error("--checkpoint is for a bundle alone: give the checkpoint as A, as in W@torch")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    report: ParityReport | TrajectoryReport
    try:
        if args.b is None:
            report = measured(args.a, args.checkpoint, args.steps)
        else:
            report = compared(
                args.a, args.b, steps=args.steps, folder=args.lines, count=args.count, sampler=args.text_sampler
            )
        if args.json is not None:
            with atomic(args.json) as stream:
                stream.write(json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False).encode())
        if args.plot is not None:
            plot_errors(report, args.plot)
    except TextSRError as error:
        sys.stderr.write(f"export.parity: {error}\n")
        return 1
    sys.stdout.write(report.table() + "\n")
    if report.failures():
        sys.stdout.write("\n" + report.failed() + "\n")
    return 1 if report.failures() else 0


if __name__ == "__main__":
    sys.exit(main())
