"""Files of a run's folder: written whole, read with a clear word where they are not what they should be."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from textsr.checkpoint import read_metadata
from textsr.errors import BundleError

DAMAGE = (
    BundleError, EOFError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError, pickle.PickleError,
)  # fmt: skip
"""What the readers of a run's files raise for a file that is not what it should be."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to that takes the place of ``path`` once it is complete."""
    with replacing_all(path) as (unfinished,):
        yield unfinished


@contextmanager
def replacing_all(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Paths to write to that take the place of ``paths``, one right after the other, once all are complete."""
    unfinished = tuple(path.with_name(f".{path.name}.unfinished") for path in paths)
    yield unfinished
    for made, path in zip(unfinished, paths, strict=True):
        made.replace(path)


def write_module(module: nn.Module, path: Path, step: int) -> None:
    """The tensors of a module, the step in the metadata."""
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, path, {"step": str(step)})


def step_of(path: Path) -> int | None:
    """The step that `write_module` noted; None in folders of older runs."""
    step = read_metadata(path).get("step")
    return None if step is None else int(step)


def training_history(checkpoint: Path | None) -> list[Any]:
    """The runs that a checkpoint tells of in its metadata, first to last; a run that starts from it adds its own."""
    if checkpoint is None:
        return []
    told = json.loads(read_metadata(checkpoint).get("training", "[]"))
    return told if isinstance(told, list) else [told]


def random_state(device: torch.device) -> dict[str, Any]:
    """Where the generators of torch, NumPy and Python stand, in types that torch.load reads with weights_only."""
    found = np.random.get_state(legacy=False)
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": {
            "key": torch.from_numpy(found["state"]["key"].astype(np.int64)),
            "pos": int(found["state"]["pos"]),
            "has_gauss": int(found["has_gauss"]),
            "gauss": float(found["gauss"]),
        },
        "python": (version, torch.tensor(internal, dtype=torch.int64), gauss),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """The inverse of `random_state`. Raises one of `DAMAGE` where ``state`` is not such a thing."""
    known = state["numpy"]
    key = known["key"].numpy().astype(np.uint32)
    version, internal, gauss = state["python"]
    torch.set_rng_state(state["torch"])
    np.random.set_state(("MT19937", key, known["pos"], known["has_gauss"], known["gauss"]))
    random.setstate((version, tuple(internal.tolist()), gauss))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def plain(value: Any) -> Any:
    """A batch in types that torch.load reads with weights_only: dataclasses as dicts, arrays as tensors."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, list | tuple):
        return type(value)(plain(part) for part in value)
    return value
