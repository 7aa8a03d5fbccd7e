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

from export.folder import digests, replacing, write_manifest
from export.manifest import describe
from export.parity import measure
from export.report import ParityReport
from export.source import open_source
from export.trace import EXPORT_BATCH, TracedGraph, io_spec, trace
from export.weights import PRECISIONS, WEIGHTS, attach, inline_bytes, layout, round_weights, save_weights
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
) -> Path:
    """Export every graph of a preset, prove that it computes what torch does, and write the bundle.

    Nothing appears under ``out`` before parity holds, and then all of it at once; a bundle there is replaced.

    :param preset: paper, compact or tiny.
    :param checkpoint: safetensors file, or None for random weights (``tiny`` only).
    :param precision: how the weights are stored, fp32 or fp16; the arithmetic is float32 in both.
    :param seed: of the random weights.
    :param traced: graphs traced before (`trace_graphs`) to save the time; they hold no weights.
    :returns: the bundle's folder.
    :raises InputError: an argument cannot be used, or ``out`` holds something that is not a bundle.
    :raises BundleError: the checkpoint cannot be read or does not fit the preset.
    :raises EngineError: a graph cannot be exported, or parity fails; the message names graph, step and error.
    """
    config = named_preset(preset)
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    source = open_source(config, checkpoint, seed)
    model = source.model
    round_weights(model, precision)
    with replacing(Path(out)) as folder:
        specs = write_graphs(folder, traced or trace_graphs(model), model, precision, source.metadata)
        files = digests(folder)
        manifest = describe(source, graphs=specs, precision=precision, files=files)
        write_manifest(folder, manifest)
        report = measure(Bundle.open(folder, verify=False), model)  # hashed a moment ago
        report.require()
        write_manifest(folder, {**manifest, "parity": report.to_json()})
    return Path(out)


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
        whole = attach(graph, stored)
        own = inline_bytes(whole)
        if own > GRAPH_LIMIT:
            raise EngineError(f"graph {name} has {own} bytes of tensors, more than {GRAPH_LIMIT}: it holds weights")
        path.write_bytes(whole.SerializeToString(deterministic=True))
        try:
            onnx.checker.check_model(path, full_check=True)
        except onnx.checker.ValidationError as error:
            raise EngineError(f"graph {name} is not valid ONNX: {error}") from error
        specs[name] = {"file": path.name, **io_spec(graph.model, graph.weights)}
    return specs


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
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS, help="how weights are stored; default: fp32")
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
            preset=args.preset, checkpoint=checkpoint, out=args.out, precision=args.precision, seed=args.seed
        )
    except TextSRError as error:
        sys.stderr.write(f"export.build: {error}\n")
        return 1
    bundle = Bundle.open(out, verify=False)
    sys.stdout.write(ParityReport.from_json(bundle.manifest["parity"]).table() + "\n\n")
    for path in sorted(out.iterdir()):
        sys.stdout.write(f"{path.stat().st_size / 1024:10.1f} KiB  {path.name}\n")
    sys.stdout.write(f"{out / MANIFEST} written: preset {args.preset}, weights in {args.precision}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
