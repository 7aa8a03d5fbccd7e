"""What bundle.json says: preset, alphabet, schedule, graphs, precision, hashes, parity and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from export.source import Source
from runtime.bundle import FORMAT
from textsr.checkpoint.stated import ALPHABET, SYMBOLS
from textsr.config import Preset
from textsr.schedule import ResidualShiftSchedule

LICENCE = "Apache-2.0"
TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "polygraphy")


def describe(
    source: Source, *, graphs: Mapping[str, Mapping[str, Any]], precision: str, files: Mapping[str, str]
) -> dict[str, Any]:
    """The object that bundle.json holds, parity still to be filled in; `runtime.bundle` reads it.

    :param graphs: by name, each with ``file``, ``inputs`` and ``outputs``.
    :param files: SHA-256 by file name.
    """
    preset = source.model.preset
    described: dict[str, Any] = {
        "format": FORMAT,
        "preset": asdict(preset),
        "precision": precision,
        "precision_policy": {
            "weights": "float16" if precision == "fp16" else "float32",
            "arithmetic": "float32",
            "casts": "after each weight, folded when the graph is loaded" if precision == "fp16" else None,
        },
        "recognizer": "transocr" if source.symbols else "rapidocr",
        "schedule": _schedule(preset),
        "codebook": {
            "groups": preset.vqgan.codebook_groups,
            "codes": preset.vqgan.codes,
            "channels": preset.vqgan.z_channels // preset.vqgan.codebook_groups,
            "tensor": "vqgan.quantize.embedding.weight",
        },
        "graphs": dict(graphs),
        "files": dict(files),
        "parity": None,
        "provenance": provenance(source.metadata),
        "alphabet": json.loads(source.alphabet.to_json()),
    }
    if source.symbols:
        described["recognizer_symbols"] = "".join(source.symbols)
    return described


def provenance(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Licence, the checkpoint's own words (JSON in them read), and the versions of the tools that made the bundle."""
    elsewhere = ("format", ALPHABET, SYMBOLS)
    words = {key: _value(text) for key, text in sorted(metadata.items()) if key not in elsewhere}
    words.setdefault("licence", LICENCE)
    return {**words, "tools": {tool: version(tool) for tool in TOOLS}}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _schedule(preset: Preset) -> dict[str, Any]:
    schedule = ResidualShiftSchedule.from_config(preset.schedule)
    return {**asdict(preset.schedule), "kind": "residual-shift", "sqrt_etas": [float(x) for x in schedule.sqrt_etas]}
