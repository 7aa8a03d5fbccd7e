"""One safetensors file under torch's names, metadata as strings. Nothing is ever unpickled here."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from textsr.config import Preset
from textsr.errors import BundleError
from textsr.files import require_regular

log = logging.getLogger(__name__)

CONSTRUCTED = ("relative_position_index", "attn_mask", "num_batches_tracked", "pe.pe")
"""Buffers that a network builds itself: a checkpoint may hold them or not, they are not read."""
NAMED = 10
"""Tensors that an error names of each kind."""


def held(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of ``model`` that a checkpoint holds, by name, as they are."""
    return {k: v for k, v in model.state_dict().items() if not k.endswith(CONSTRUCTED)}


def state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of ``model`` that a checkpoint holds, by name, contiguous and on the host."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in held(model).items()}


def save_model(
    model: nn.Module,
    path: Path,
    metadata: Mapping[str, str] | None = None,
    *,
    parts: Mapping[str, nn.Module] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes ``model`` with floating tensors as ``dtype``; ``parts`` replaces children by name (averaged weights, say).

    The file appears complete or not at all.
    """
    tensors = state(model)
    for name, part in (parts or {}).items():
        tensors |= {f"{name}.{k}": v for k, v in state(part).items()}
    tensors = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}
    unfinished = path.with_name(f".{path.name}.unfinished")
    save_file(tensors, unfinished, {"format": "textsr", **(metadata or {})})
    unfinished.replace(path)


@contextmanager
def _opened(path: Path, advice: str = "") -> Iterator[Any]:
    """The safetensors file. Raises BundleError when it cannot be read, ``advice`` at its end."""
    try:
        require_regular(path)
        with safe_open(path, "pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise BundleError(f"checkpoint {path} cannot be read: {error}{advice}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """The strings stored beside the tensors of a checkpoint. Raises BundleError where the file cannot be read."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors by name. Raises BundleError when the file cannot be read."""
    with _opened(path) as file:
        return _shapes(file)


def _shapes(file: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def require_fit(
    model: nn.Module, shapes: Mapping[str, Sequence[int]], what: str, advice: str, *, optional: str | None = None
) -> None:
    """Raises BundleError that names what ``shapes`` lacks, has besides, or has in another shape than ``model`` needs.

    :param what: the tensors' origin, first in the message.
    :param optional: prefix of tensors that may be absent altogether.
    """
    wanted = held(model)
    missing = sorted(wanted.keys() - shapes.keys())
    if optional is not None and not any(name.startswith(optional) for name in shapes):
        missing = [name for name in missing if not name.startswith(optional)]
    extra = sorted(k for k in shapes.keys() - wanted.keys() if not k.endswith(CONSTRUCTED))
    other = [
        f"{k} {tuple(shapes[k])} not {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in shapes and tuple(shapes[k]) != tuple(v.shape)
    ]
    if missing or extra or other:
        raise BundleError(
            f"{what} does not fit: missing {_some(missing)}, unexpected {_some(extra)}, other shapes {_some(other)}; "
            f"{advice}"
        )


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} {list(names[:NAMED])}" if names else "none"


def load_weights(model: nn.Module, path: Path, *, prefix: str = "") -> None:
    """Fills ``model`` from the tensors under ``prefix``, one at a time and strictly.

    :raises BundleError: the file cannot be read, or does not fit; then it names what is missing, unexpected or
        misshapen, and nothing is loaded.
    """
    advice = "; give a safetensors file written by train.run or textsr.checkpoint import"
    with _opened(path, advice) as file:
        found = {name.removeprefix(prefix): shape for name, shape in _shapes(file).items() if name.startswith(prefix)}
        require_fit(model, found, f"checkpoint {path}", "check --preset")
        with torch.no_grad():
            for name, tensor in held(model).items():
                tensor.copy_(file.get_tensor(prefix + name))


def load_model(path: Path | None, preset: Preset, seed: int = 0) -> nn.Module:
    """The model of ``preset``, from a checkpoint, or with random weights of ``seed`` where ``path`` is None.

    Random weights are for tests, so the UNet's output convolution is random too, though training starts it at zero.
    """
    from textsr.graphs import Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(preset)
        if path is None:
            output = model.unet.out[2]
            assert isinstance(output, nn.Conv2d)
            output.reset_parameters()
    if path is not None:
        load_weights(model, path)
    return model.eval()
