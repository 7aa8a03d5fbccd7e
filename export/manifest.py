"""What bundle.json says: preset, alphabet, schedule, graphs, precision, hashes, parity and provenance."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from runtime.bundle import FORMAT
from textsr.alphabet import Alphabet
from textsr.config import Preset
from textsr.errors import InputError
from textsr.schedule import ResidualShiftSchedule

LICENCE = "Apache-2.0"
TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "polygraphy")


def describe(
    preset: Preset,
    *,
    graphs: Mapping[str, Mapping[str, Any]],
    precision: str,
    files: Mapping[str, str],
    metadata: Mapping[str, str],
) -> dict[str, Any]:
    """The object that bundle.json holds, parity still to be filled in; `runtime.bundle` reads it.

    :param graphs: by name, each with ``file``, ``inputs`` and ``outputs``.
    :param files: SHA-256 by file name.
    :param metadata: what the checkpoint says of itself.
    :raises InputError: the alphabet or the recogniser's symbols do not fit the preset.
    """
    described: dict[str, Any] = {
        "format": FORMAT,
        "preset": asdict(preset),
        "precision": precision,
        "precision_policy": {
            "weights": "float16" if precision == "fp16" else "float32",
            "arithmetic": "float32",
            "casts": "after each weight, folded when the graph is loaded" if precision == "fp16" else None,
        },
        "recognizer": "rapidocr" if preset.transocr is None else "transocr",
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
        "provenance": provenance(metadata),
        "alphabet": _alphabet(preset),
    }
    if preset.transocr is not None:
        described["recognizer_symbols"] = _recognizer_symbols(preset, metadata)
    return described


def provenance(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Licence, the checkpoint's own words (JSON in them read), and the versions of the tools that made the bundle."""
    words = {key: _value(text) for key, text in sorted(metadata.items()) if key not in ("format", "recognizer_symbols")}
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


def _alphabet(preset: Preset) -> dict[str, Any]:
    alphabet = Alphabet.load()
    if alphabet.padding != preset.padding:
        raise InputError(f"preset {preset.name} needs {preset.padding} symbols, the alphabet has {alphabet.padding}")
    data: dict[str, Any] = json.loads(alphabet.to_json())
    return data


def _recognizer_symbols(preset: Preset, metadata: Mapping[str, str]) -> list[str]:
    """TransOCR's classes but start and end: from the checkpoint, else printable ASCII if that is their number."""
    assert preset.transocr is not None
    count = preset.transocr.classes - 2
    printable = "".join(sorted(set(string.printable) - set(string.whitespace))) + " "
    symbols = list(metadata.get("recognizer_symbols") or (printable if len(printable) == count else ""))
    if len(symbols) != count:
        raise InputError(
            f"preset {preset.name} needs the {count} symbols of its recogniser: the checkpoint's metadata has "
            f"{len(symbols)} under recognizer_symbols"
        )
    return symbols
