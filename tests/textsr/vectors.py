"""Golden vectors of the preset ``tiny``, for machines without those of the published networks.

Weights are a function of their names and shapes, inputs of theirs, so the file holds outputs alone, thinned out.
``python -m tests.textsr.vectors`` writes it anew: only for a change that is meant to change what the networks return.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from textsr.checkpoint import CONSTRUCTED
from textsr.config import TINY
from textsr.graphs import Model, graphs
from textsr.torch_executor import TorchExecutor

FILE = Path(__file__).parents[1] / "data" / "tiny_vectors.npz"
KEPT = 1024
"""Values kept of an output, at places that its name gives."""


def generator(name: str) -> np.random.Generator:
    """Chance as a function of a name."""
    digest = hashlib.sha256(f"tiny/{name}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:8], "little")))


def weight(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A tensor of a state dict: matrices keep the size of what they act on, scales are near 1, biases near 0."""
    noise = generator(name).standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        return noise / np.float32(np.sqrt(np.prod(shape[1:])))
    if name.endswith(("weight", "a_2", "alpha")):
        return 1 + np.float32(0.1) * noise
    return np.abs(1 + np.float32(0.1) * noise) if name.endswith("running_var") else np.float32(0.1) * noise


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Weights by name for all that ``module`` does not build itself; it may lie on the meta device."""
    return {
        name: torch.from_numpy(np.asarray(weight(name, tuple(tensor.shape))))
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and not name.endswith(CONSTRUCTED)
    }


def fill(module: nn.Module) -> nn.Module:
    """``module`` with weights by name; the atlas and what a network builds itself stay."""
    state = module.state_dict()
    with torch.no_grad():
        for name, tensor in weights(module).items():
            state[name].copy_(tensor)
    return module.eval()


def thinned(name: str, value: NDArray[Any]) -> NDArray[Any]:
    """At most ``KEPT`` values, at places that ``name`` gives."""
    flat = value.ravel()
    return flat[np.sort(generator(name).permutation(len(flat))[:KEPT])]


def write(file: Path, found: Mapping[str, NDArray[Any]]) -> None:
    """The file of committed vectors, and a line on each to the output."""
    np.savez_compressed(file, allow_pickle=False, **dict(found))
    for name, value in found.items():
        sys.stdout.write(f"{name}: {value.shape} deviation {value.std():.4f}\n")


def assert_equal_to(file: Path, ours: Mapping[str, NDArray[Any]]) -> None:
    """What is committed in ``file`` within 2e-4 of its deviation; a tie of codes may fall either way elsewhere."""
    committed = np.load(file)
    assert set(committed) == set(ours)
    for name, value in ours.items():
        golden = committed[name]
        if value.dtype == np.int64:
            assert (value != golden).mean() <= 0.002, name
        else:
            worst = float(np.abs(value - golden).max())
            assert worst <= 2e-4 * float(golden.std()), f"{name} differs by {worst / float(golden.std()):.2e}"
    assert file.stat().st_size < 200_000


def inputs(graph: str, names: tuple[str, ...], sizes: dict[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """The inputs of a graph by name; one line, ``sizes`` of those that are drawn."""
    fixed: dict[str, NDArray[Any]] = {
        "tokens": generator("tokens").integers(0, TINY.symbols, sizes["tokens"]),
        "prefix": generator("prefix").integers(0, 97, sizes["prefix"]),
        "centres": ((np.arange(TINY.max_chars, dtype=np.float32) + 0.5) / TINY.max_chars)[None],
        "widths": np.full((1, TINY.max_chars), 0.9 / TINY.max_chars, np.float32),
        "middles": generator("middles").uniform(0.4, 0.6, (1, TINY.max_chars)).astype(np.float32),
        "heights": generator("heights").uniform(0.6, 1.1, (1, TINY.max_chars)).astype(np.float32),
        "softness": generator("softness").uniform(6, 28, (1, 1)).astype(np.float32),
        "t": np.array([7], np.float32),
        "time": np.arange(TINY.schedule.steps, dtype=np.float32) * 11,  # 77 at t
    }
    steps = [0.6, 0.7, 0.3, 0.2, 0.3, 0.4]  # the last two are the estimate's gain and deviation
    constants = {"vqgan_encoder": [1.98], "unet_step": steps, "text_step": [-0.01, -13.4, -0.1, -11.1]}
    fixed["constants"] = np.array(constants.get(graph, [0.0]), np.float32)
    made: dict[str, NDArray[Any]] = {}
    for name in names:
        if name in fixed:
            made[name] = fixed[name]
        elif name in ("weights", "uniforms", "glyphs"):
            made[name] = generator(name).random(sizes[name], dtype=np.float32)
        else:
            drawn = generator(f"{graph}.{name}").standard_normal(
                sizes.get(f"{graph}.{name}", sizes.get(name)), np.float32
            )
            made[name] = np.tanh(drawn) if name in ("image", "lq", "contrasts") else drawn
    return made


def sizes() -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs of one line of the preset."""
    channels, h, w = TINY.latent_shape
    n, latent = TINY.max_chars, (1, channels, h, w)
    return {
        "image": (1, 3, 4 * h, 4 * w), "recognizer_encoder.image": (1, 3, 32, 256), "lq": (1, 3, h, w),
        "noise": latent, "z_t": latent, "z_y": latent, "z_painted": latent, "z_0": latent,
        "glyphs": (1, 1, 4 * h, 4 * w), "contrasts": (1, n, 3),
        "tokens": (1, n), "weights": (1, n), "uniforms": (1, n), "prefix": (1, 5), "features": (1, 32, 16),
        "modulations": (1, 1), "mom_modulations": (1, 1), "tdm_modulations": (1, 1),
        "c_cond": (1, n, TINY.mom.context_dim), "i_cond": (1, 16, channels * h * w // 16),
    }  # fmt: skip


def compute() -> dict[str, NDArray[Any]]:
    """What the graphs of the preset return, by ``graph.output``: at most ``KEPT`` values each and the deviation."""
    model = fill(Model(TINY))
    assert isinstance(model, Model)
    executor, found = TorchExecutor(graphs(model)), {}
    kept: dict[str, NDArray[Any]] = {}  # what a graph is given of another
    for graph, module in executor.graphs.items():
        arrays = inputs(graph, tuple(module.inputs), sizes())  # type: ignore[arg-type]
        if graph == "time_condition":
            arrays["t"] = np.arange(TINY.schedule.steps, dtype=np.float32)
        arrays |= {name: kept[name] for name in arrays if name.endswith("modulations")}
        for name, value in executor.run(graph, {k: executor.put(v) for k, v in arrays.items()}).items():
            found[f"{graph}.{name}"] = thinned(f"{graph}.{name}", executor.get(value))
            kept[name] = executor.get(value)
    return found


def main() -> int:
    """The command."""
    write(FILE, compute())
    return 0


if __name__ == "__main__":
    sys.exit(main())
