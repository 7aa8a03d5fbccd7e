"""How much memory a step of training takes, worked out from a small batch on any device, before one is rented.

What autograd keeps of a step is counted by storage: the difference between two small batches is the cost of a line, the
rest is fixed. The device's allocator and the libraries' workspaces come on top; `SLACK` stands for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from train.harness import Stage

SLACK = 1.5
"""Times the counted activations: gradients under way, workspaces, fragments. An assumption, to be measured on a GPU."""
STATES = 5
"""Copies of the trained weights in float32: weights, gradients, two moments of Adam, the average."""
OTHER = 1 << 30
"""Bytes of the device's context and libraries."""
GIB = 1 << 30


@dataclass(frozen=True)
class Footprint:
    """Bytes of a step: of all weights and their states, and what autograd keeps for each line."""

    weights: int
    line: int
    fixed: int = 0

    def total(self, lines: int) -> int:
        """Bytes expected of a batch of so many lines."""
        return OTHER + self.weights + round(SLACK * (self.fixed + lines * self.line))

    def most_lines(self, memory: int) -> int:
        """The largest power of two of lines that fits in ``memory`` bytes; 0 where not even one does."""
        lines = 0
        while self.total(max(1, 2 * lines)) <= memory:
            lines = max(1, 2 * lines)
        return lines

    def text(self, lines: int, memory: int) -> str:
        """One sentence for people."""
        return (
            f"{lines} lines take about {self.total(lines) / GIB:.1f} GiB ({self.weights / GIB:.2f} of weights, "
            f"{self.line / GIB * 1024:.0f} MiB kept a line, times {SLACK}); {memory / GIB:.0f} GiB hold up to "
            f"{self.most_lines(memory)}"
        )


@contextmanager
def kept_for_backward() -> Iterator[dict[int, int]]:
    """Bytes of each storage, by its address, that autograd keeps inside the block.

    Tensors are held until the end, so that no address comes twice.
    """
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in kept:
            held.append(tensor)
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
    held.clear()


def weights_bytes(trained: nn.Module, *others: nn.Module) -> int:
    """Bytes of trained weights with all that training keeps of them, and of frozen networks."""

    def size(module: nn.Module) -> int:
        return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))

    return STATES * size(trained) + sum(size(other) for other in others)


def measure(stage: Stage, batches: dict[int, Any], *frozen: nn.Module) -> Footprint:
    """The footprint of a stage, from batches by their number of lines (two or more, the smallest first).

    Run under the autocast that training uses. The weights' own storages are left out: they are counted apart.
    """
    own = {p.untyped_storage().data_ptr() for module in (stage.model, *frozen) for p in module.parameters()}
    found: dict[int, int] = {}
    for lines, batch in sorted(batches.items()):
        with kept_for_backward() as kept, torch.autocast("cpu", torch.bfloat16):
            loss, _ = stage.loss(batch, 0.5)
            found[lines] = sum(size for address, size in kept.items() if address not in own)
        del loss
    few, many = min(found), max(found)
    line = (found[many] - found[few]) // (many - few)
    return Footprint(weights_bytes(stage.model, *frozen), line, max(0, found[few] - few * line))
