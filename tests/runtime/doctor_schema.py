"""The JSON of ``python -m runtime.doctor --json``."""

from __future__ import annotations

from typing import Any

SCHEMA: dict[str, Any] = {
    "format": int, "ok": bool, "device": str, "python": str, "system": str, "line": str, "steps": int,
    "gpu": {
        "gpus": [{"index": int, "name": str, "capability": [int]}], "driver": str, "cuda": str, "problem": str,
        "runtimes": [str], "cards": int,
    },
    "libraries": [{"name": str, "version": (str, type(None)), "note": str}],
    "onnxruntime": {"version": str, "package": str, "cuda": str, "providers": [str], "problem": str},
    "bundle": {
        "path": str, "preset": str, "weights": str, "recognizer": (str, type(None)), "graphs": [str], "half": [str],
        "files": int, "bytes": int, "verified": bool, "problem": str,
    },
    "cache": {"folder": str, "mode": str, "engines": int, "bytes": int, "strangers": [str], "problem": str},
    "auto": {
        "name": str, "problem": str,
        "considered": [{"executor": str, "device": str, "taken": bool, "reason": str, "tried": bool}],
    },
    "trials": [{
        "executor": str, "device": str, "name": str, "passed": bool, "reason": str, "reference": bool,
        "psnr": (float, type(None)), "opened": (float, type(None)), "first": (float, type(None)),
        "seconds": (float, type(None)),
    }],
    "warnings": [str], "advice": [{"executor": str, "command": str, "why": str}],
}  # fmt: skip
"""Format 1. A program reads this: a key that goes or changes its meaning needs a new format."""


def check(value: Any, schema: Any, where: str = "") -> None:
    """Fails unless ``value`` has exactly the schema's keys and types."""
    if isinstance(schema, dict):
        assert value.keys() == schema.keys(), where
        for key, inner in schema.items():
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), where
        for item in value:
            check(item, schema[0], f"{where}[]")
    else:
        assert isinstance(value, schema), f"{where}: {value!r}"
