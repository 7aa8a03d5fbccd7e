"""What the executors' tests share: toy graphs of a bundle's shapes, lines, an executor over the fakes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Bundle, GraphSpec
from runtime.executors.tensorrt import TensorRTExecutor
from tests.runtime.executors.fake_cuda import FakeCuda
from tests.runtime.executors.fake_tensorrt import Compute, FakeSource
from textsr.config import Preset
from textsr.loop import LineBatch

Arrays = Mapping[str, NDArray[Any]]


class Toy:
    """Cheap graphs of the bundle's names and shapes: every output depends on every input, each line on itself."""

    name = "toy"

    def __init__(self, graphs: Mapping[str, GraphSpec]) -> None:
        self.graphs = graphs

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.array(array)

    def get(self, handle: NDArray[Any]) -> NDArray[Any]:
        return handle

    def run(self, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        spec = self.graphs[graph]
        sizes: dict[str, int] = {}
        for tensor in spec.inputs:
            sides = zip(tensor.shape, inputs[tensor.name].shape, strict=True)
            sizes |= {axis: side for axis, side in sides if isinstance(axis, str)}
        lines = np.zeros(sizes.get("B", 1), np.float64)
        for place, tensor in enumerate(spec.inputs):
            value = np.asarray(inputs[tensor.name], np.float64)
            batched = bool(tensor.shape) and tensor.shape[0] == "B"
            lines += np.sin(place + 1 + (value.reshape(len(lines), -1).mean(1) if batched else value.mean()))
        found = {}
        for place, tensor in enumerate(spec.outputs):
            shape = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape)
            pattern = np.arange(int(np.prod(shape[1:]))).reshape(shape[1:]) % 7 / 7.0
            value = np.tanh(lines.reshape(-1, *[1] * (len(shape) - 1)) * (place + 1) + pattern)
            value = np.broadcast_to(value, shape)  # what has no batch has one row for all
            found[tensor.name] = (np.abs(value) * 80 if tensor.dtype == "int64" else value).astype(tensor.dtype)
        return found


def open_fake(
    bundle: Bundle, compute: Compute | None = None, fail_at: int | None = None, **options: Any
) -> tuple[TensorRTExecutor, FakeCuda]:
    """A TensorRT executor over the fakes, with `Toy`'s graphs by default."""
    cuda = FakeCuda(fail_at=fail_at)
    run: Any = compute or Toy(bundle.graphs).run
    return TensorRTExecutor(bundle.graphs, FakeSource(cuda, run), api=cuda, **options), cuda


def lines(preset: Preset, batch: int = 2, seed: int = 0) -> LineBatch:
    """Random lines, each of which depends on its place and the seed alone."""
    n, (_, h, w) = preset.max_chars, preset.latent_shape
    rngs = [np.random.default_rng([seed, place]) for place in range(batch)]
    lq = np.stack([rng.uniform(-1, 1, (3, h, w)).astype(np.float32) for rng in rngs])
    return LineBatch(
        lq=lq,
        image=lq.repeat(4, 2).repeat(4, 3),
        tokens=np.stack([rng.integers(0, preset.symbols, n) for rng in rngs]),
        weights=np.stack([rng.random(n, dtype=np.float32) for rng in rngs]),
        centres=np.tile(np.linspace(0, 1, n, dtype=np.float32), (batch, 1)),
        widths=np.full((batch, n), 0.03, np.float32),
        middles=np.full((batch, n), 0.5, np.float32),
        heights=np.full((batch, n), 0.86, np.float32),
        contrasts=np.full((batch, n, 3), 0.5, np.float32),
        softness=np.full((batch, 1), 10.0, np.float32),
        keys=[b"line %d" % place for place in range(batch)],
        windows=[0] * batch,
    )


def shapes_of(folder: Path) -> dict[str, Any]:
    """The graphs' entries of a bundle's description."""
    graphs: dict[str, Any] = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["graphs"]
    return graphs
