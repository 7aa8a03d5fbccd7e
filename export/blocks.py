"""Which module a node belongs to: the block that keeps or loses float32 as a whole. Node names carry it.

Names go through every pass that follows tracing, and make a backend's error messages say where they happened.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

DEPTH = 3
"""Components of a module's name that make a block (network, part, place); numbers that follow belong to it too."""
ROOT = "graph"
"""The block of what a graph computes itself, outside its networks: step constants, posterior, draws."""
_SCOPES = "pkg.torch.onnx.name_scopes"


def block_of(module: str) -> str:
    """The block of a module's dotted name: ``unet.input_blocks.3.0.in_layers.2`` is in ``unet.input_blocks.3.0``."""
    parts = module.split(".")
    end = min(DEPTH, len(parts))
    while end < len(parts) and parts[end].isdecimal():
        end += 1
    return ".".join(parts[:end]) or ROOT


def named(name: str, notes: Mapping[str, str]) -> str:
    """A node's name with its block before it, from the exporter's notes on where the node comes from."""
    scopes: Sequence[str] = ast.literal_eval(notes.get(_SCOPES, "[]"))
    # The last scope is the operator, the one before it the innermost module; sizes have no module.
    module = scopes[-2] if len(scopes) > 1 and not scopes[-2].startswith("_") else ""
    return f"{block_of(module)}/{name}"


def node_block(name: str) -> str:
    """The block that a node's name carries; empty where a pass made the node and gave it a name of its own."""
    block, slash, _ = name.partition("/")
    return block if slash else ""
