"""Write a bundle: ``python -m export.build --precision fp32|fp16 [--preset compact] [--checkpoint W] --out DIR``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from tqdm import tqdm

from export.folder import digest, digests, replacing, write_manifest
from export.halfreport import from_json
from export.lines import drawn, pictures
from export.manifest import describe
from export.parity import measure
from export.precision import checked_on_cpu, find_half
from export.recording import WeightsFile, record_reference
from export.report import ParityReport
from export.source import Source, open_source
from export.trace import EXPORT_BATCH, TracedGraph, io_spec, trace
from export.weights import PRECISIONS, WEIGHTS, StoredTensor, attach, inline_bytes, layout, round_weights, save_weights
from runtime.bundle import MANIFEST, SHIPPED, Bundle
from textsr.checkpoint import state
from textsr.config import PRESETS
from textsr.config import preset as named_preset
from textsr.errors import EngineError, InputError, TextSRError
from textsr.graphs import Model, example_inputs, graphs

logger = logging.getLogger(__name__)

GRAPH_LIMIT = 1 << 20
"""Bytes of tensors that a graph may hold itself: more means that weights were copied into it. The nodes of `paper`'s
UNet alone take half a mebibyte more."""


def build_bundle(
    *,
    preset: str,
    checkpoint: Path | None,
    out: Path,
    precision: str = "fp32",
    seed: int = 0,
    traced: Mapping[str, TracedGraph] | None = None,
    lines: Path | None = None,
) -> Path:
    """Export every graph of a preset, prove that it computes what torch does, and write the bundle.

    In fp16 it holds each graph twice: with float32 arithmetic on weights that are cast up, for CPUs, and typed in half
    precision (`export.precision`), for GPUs; the evidence for the latter is under ``half`` in bundle.json.

    Nothing appears under ``out`` before parity holds, and then all of it at once; a bundle there is replaced.

    :param preset: paper, compact or tiny.
    :param checkpoint: safetensors file, or None for random weights (``tiny`` only).
    :param precision: how the weights are stored, fp32 or fp16; with fp16 there are half graphs too.
    :param seed: of the random weights.
    :param traced: graphs traced before (`trace_graphs`) to save the time; they hold no weights.
    :param lines: folder of pictures to measure half precision on; by default lines are drawn (`export.lines`).
    :returns: the bundle's folder.
    :raises InputError: an argument cannot be used, or ``out`` holds something that is not a bundle.
    :raises BundleError: the checkpoint cannot be read or does not fit the preset.
    :raises EngineError: a graph cannot be exported, or parity fails, or half precision keeps no budget; the message
        names graph and step or node, and the error.
    """
    config = named_preset(preset)
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    source = open_source(config, checkpoint, seed)
    model = source.model
    round_weights(model, precision)
    with replacing(Path(out)) as folder:
        traced = traced or trace_graphs(model)
        specs = write_graphs(folder, traced, model, precision, source.metadata)
        files = digests(folder)
        manifest = describe(source, graphs=specs, precision=precision, files=files)
        write_manifest(folder, manifest)
        report = measure(Bundle.open(folder, verify=False), model)  # hashed a moment ago
        report.require()
        manifest["parity"] = report.to_json()
        if precision == "fp16":
            add_half(folder, manifest, traced, source, lines)
        write_manifest(folder, manifest)
    return Path(out)


def add_half(
    folder: Path, manifest: dict[str, Any], traced: Mapping[str, TracedGraph], source: Source, lines: Path | None
) -> None:
    """Find and write the typed half graphs, prove them as files, and tell of them in ``manifest``.

    :raises EngineError: see `export.precision.find_half`.
    """
    preset, weights, stored = source.model.preset, WeightsFile(folder / WEIGHTS, traced), layout(folder / WEIGHTS)
    material = drawn(source) if lines is None else pictures(lines, Bundle.open(folder, verify=False), source)
    recording = record_reference(preset, traced, weights, material)
    halves, report = find_half(preset, traced, weights, material, recording)
    for name, graph in halves.items():
        path = folder / f"{name}.half.onnx"
        write_graph(path, graph, stored)
        manifest["graphs"][name]["half"] = path.name
        manifest["files"][path.name] = digest(path)
    manifest["precision_policy"]["half_graphs"] = "float16 but for what half.graphs lists under keep"
    write_manifest(folder, manifest)
    report = checked_on_cpu(Bundle.open(folder, verify=False), recording, report)
    manifest["half"] = report.to_json()


def trace_graphs(model: Model) -> dict[str, TracedGraph]:
    """Every graph of the model as ONNX without weights. They do not depend on the weights' values or precision."""
    weights = state(model)
    modules = graphs(model)
    return {
        name: trace(name, module, example_inputs(model, name, EXPORT_BATCH), weights)
        for name, module in tqdm(modules.items(), desc="export", unit="graph", disable=None)
    }


def write_graphs(
    folder: Path, traced: Mapping[str, TracedGraph], model: Model, precision: str, metadata: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Write the weights once and the graphs that point into them; returns what bundle.json says of the graphs.

    :raises EngineError: a graph holds more than `GRAPH_LIMIT` or is not valid ONNX.
    """
    save_weights(model, folder / WEIGHTS, precision, metadata)
    stored = layout(folder / WEIGHTS)
    specs = {}
    for name, graph in traced.items():
        path = folder / f"{name}.onnx"
        write_graph(path, graph, stored)
        specs[name] = {"file": path.name, **io_spec(graph.model, graph.weights)}
    return specs


def write_graph(path: Path, graph: TracedGraph, stored: Mapping[str, StoredTensor]) -> None:
    """Write a graph that points into the weights beside it.

    :raises EngineError: it holds more than `GRAPH_LIMIT` or is not valid ONNX.
    """
    whole = attach(graph, stored)
    own = inline_bytes(whole)
    if own > GRAPH_LIMIT:
        raise EngineError(f"graph {graph.name} has {own} bytes of tensors, more than {GRAPH_LIMIT}: it holds weights")
    path.write_bytes(whole.SerializeToString(deterministic=True))
    try:
        onnx.checker.check_model(path, full_check=True)
    except onnx.checker.ValidationError as error:
        raise EngineError(f"graph {graph.name} is not valid ONNX: {error}") from error


def shipped_weights(preset: str) -> Path | None:
    """Weights of the bundle that the package ships for ``preset``; None where there is none."""
    path = SHIPPED / preset / WEIGHTS
    return path if path.is_file() else None


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export.build",
        description="Export a model to ONNX, prove it equal to torch, and write it as a bundle.",
    )
    parser.add_argument("--preset", default="compact", choices=sorted(PRESETS), help="default: compact")
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=PRECISIONS,
        help="how weights are stored; fp16 adds graphs that compute in half precision; default: fp32",
    )
    parser.add_argument(
        "--lines", type=Path, metavar="DIR", help="pictures to measure half precision on; default: lines are drawn"
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="W",
        help="safetensors file; default: the weights shipped for the preset, random ones for tiny",
    )
    parser.add_argument("--out", type=Path, default=Path("build"), metavar="DIR", help="default: build")
    parser.add_argument("--seed", type=int, default=0, help="of random weights; default: 0")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _arguments(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    checkpoint = args.checkpoint or shipped_weights(args.preset)
    try:
        out = build_bundle(
            preset=args.preset,
            checkpoint=checkpoint,
            out=args.out,
            precision=args.precision,
            seed=args.seed,
            lines=args.lines,
        )
    except TextSRError as error:
        sys.stderr.write(f"export.build: {error}\n")
        return 1
    bundle = Bundle.open(out, verify=False)
    sys.stdout.write(ParityReport.from_json(bundle.manifest["parity"]).table() + "\n\n")
    if "half" in bundle.manifest:
        sys.stdout.write(from_json(bundle.manifest["half"]).table() + "\n\n")
    for path in sorted(out.iterdir()):
        sys.stdout.write(f"{path.stat().st_size / 1024:10.1f} KiB  {path.name}\n")
    sys.stdout.write(f"{out / MANIFEST} written: preset {args.preset}, weights in {args.precision}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
