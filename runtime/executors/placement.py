"""Where ONNX Runtime really runs a graph's nodes, out of its own profile."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

from textsr.errors import DeviceError, EngineError

logger = logging.getLogger(__name__)

HEAVY = frozenset(
    {"Conv", "ConvTranspose", "FusedConv", "NhwcConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm", "Einsum"}
    | {"Attention", "MultiHeadAttention", "GroupNorm", "InstanceNormalization", "LayerNormalization", "Softmax"}
)
"""Operators that do a graph's work; the small ones that compute shapes may be on the CPU."""


def nodes_by_provider(profile: Path) -> Counter[tuple[str, str]]:
    """Nodes that ran, by (execution provider, operator). Raises EngineError when the profile tells of none."""
    try:
        events = json.loads(profile.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{profile}: ONNX Runtime's profile cannot be read ({error})") from error
    ran = {}
    for event in events:
        told = event.get("args", {})
        if event.get("cat") == "Node" and "provider" in told:
            ran[event["name"]] = told["provider"], told.get("op_name", "")
    if not ran:
        raise EngineError(f"{profile}: ONNX Runtime's profile tells of no node that ran")
    return Counter(ran.values())


def check_placement(graph: str, found: Counter[tuple[str, str]], provider: str) -> str:
    """What ran elsewhere than on ``provider``, for the log; empty where nothing did.

    :raises DeviceError: one of `HEAVY` ran elsewhere, or nothing ran there.
    """
    elsewhere = {at: count for at, count in found.items() if at[0] != provider}
    shown = ", ".join(f"{count} {op} on {at}" for (at, op), count in sorted(elsewhere.items()))
    if any(op in HEAVY for _, op in elsewhere) or len(elsewhere) == len(found):
        raise DeviceError(f"graph {graph}: asked for {provider}, but ONNX Runtime runs {shown}")
    return shown
