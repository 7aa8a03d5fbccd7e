"""Weights in parts that fit where a file may not be large: ``python -m train.shards join DIR --out W``.

A folder holds shards, ``weights-<stamp>-00001-of-00003.safetensors`` and so on, floating tensors in half precision,
and ``weights.json``, which names them with their SHA-256 and holds the metadata. ``weights.json`` is replaced last, and
what it does not name is removed only then: the folder holds a complete checkpoint at any time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from textsr.errors import BundleError, TextSRError
from train.runfolder import replacing

LARGEST = 16 << 20
"""Bytes that a shard may have."""
HEADER = 256 << 10
"""Bytes of a shard kept free for its header."""
INDEX = "weights.json"


def write_shards(
    checkpoint: Path, folder: Path, metadata: Mapping[str, str], *, dtype: torch.dtype = torch.float16,
    largest: int = LARGEST,
) -> list[Path]:  # fmt: skip
    """Writes a checkpoint's tensors as shards into ``folder``; returns their paths.

    :param metadata: added to the checkpoint's own, in ``weights.json`` and in the first shard.
    :param largest: bytes that no shard exceeds.
    :raises BundleError: the checkpoint cannot be read, or a tensor alone is larger than ``largest`` or not finite in
        ``dtype``; the folder is then as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with safe_open(checkpoint, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            told = {**(file.metadata() or {}), **metadata}
    except (OSError, SafetensorError) as error:
        raise BundleError(f"checkpoint {checkpoint} cannot be read: {error}") from error
    groups = list(_groups(_converted(tensors, dtype), largest - HEADER))
    stamp = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    files: dict[str, str] = {}
    for place, group in enumerate(groups):
        path = folder / f"weights-{stamp}-{place + 1:05}-of-{len(groups):05}.safetensors"
        save_file(group, path, {"format": "textsr", **(told if place == 0 else {})})
        files[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    with replacing(folder / INDEX) as index:
        index.write_text(json.dumps({"files": files, "metadata": told}, indent=1, ensure_ascii=False), "utf-8")
    for path in folder.glob("weights-*.safetensors"):
        if path.name not in files:
            path.unlink()
    return [folder / name for name in files]


def _converted(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    found = {name: t.to(dtype).contiguous() if t.is_floating_point() else t for name, t in tensors.items()}
    for name, tensor in found.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BundleError(f"tensor {name} is not finite in {dtype}: these weights cannot be stored so")
    return found


def _groups(tensors: Mapping[str, Tensor], largest: int) -> Iterator[dict[str, Tensor]]:
    """Tensors in order, as many together as ``largest`` bytes hold."""
    group: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        own = tensor.numel() * tensor.element_size()
        if own > largest:
            raise BundleError(f"tensor {name} has {own} bytes: no shard of {largest} holds it")
        if size + own > largest:
            yield group
            group, size = {}, 0
        group[name] = tensor
        size += own
    yield group


def join(folder: Path, out: Path) -> None:
    """Writes the checkpoint whose shards are in ``folder``, complete or not at all, for export.build and train.run.

    :raises BundleError: the index or a shard is missing or damaged; the message names it.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        tensors: dict[str, Tensor] = {}
        for name, digest in index["files"].items():
            path = folder / name
            if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                raise BundleError(f"{path} is not the file that {INDEX} names: copy the folder again")
            with safe_open(path, "pt") as file:
                tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = {str(key): str(value) for key, value in index["metadata"].items()}
    except (OSError, ValueError, LookupError, AttributeError, SafetensorError) as error:
        raise BundleError(f"{folder} does not hold a checkpoint in shards: {error}") from error
    with replacing(out) as path:
        save_file({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}, path, metadata)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser("python -m train.shards", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    joining = commands.add_parser("join", help="make one checkpoint of shards")
    joining.add_argument("folder", type=Path)
    joining.add_argument("--out", type=Path, required=True, metavar="W", help="the checkpoint, .safetensors")
    given = parser.parse_args(arguments)
    try:
        join(given.folder, given.out)
    except TextSRError as error:
        sys.stderr.write(f"train.shards: {error}\n")
        return 1
    sys.stdout.write(f"{given.out} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
