"""Published files read without running anything in them: torch's zip and pickle formats, and safetensors.

A ``.pth`` or ``.ckpt`` file is a pickle, which may name any function to call. `torch.load` with ``weights_only`` calls
none but those that build tensors. What training frameworks leave beside the weights (callbacks, options) is replaced by
inert placeholders; any other foreign name is a refusal. Nothing that a file names is ever imported.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals
from tqdm import tqdm

from textsr.errors import BundleError
from textsr.files import require_regular

logger = logging.getLogger(__name__)

INERT = frozenset(
    {"pytorch_lightning", "lightning", "lightning_fabric", "omegaconf", "numpy", "argparse", "ldm", "taming"}
)
"""Packages whose names in a pickle become placeholders: they stand for options and callbacks beside the weights."""
BLOCK = 1 << 24


class Placeholder:
    """Stands for an object of a class that is not imported: takes whatever made it, does nothing."""

    def __new__(cls, *_args: object, **_options: object) -> Placeholder:
        """Any arguments."""
        return super().__new__(cls)

    def __init__(self, *_args: object, **_options: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        """Any state."""


def read_published(path: Path) -> Mapping[str, Any]:
    """What a published file holds: a mapping with tensors, memory-mapped where the format allows it.

    :param path: ``.safetensors``, or a file of `torch.save` (``.pth``, ``.pt``, ``.ckpt``).
    :raises BundleError: the file is not there, damaged, no mapping, or wants to run code; nothing of it has run.
    """
    try:
        require_regular(path)
        content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    except BundleError:
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        raise BundleError(_refusal(path, [named[1] if named else "code of its own"])) from error
    except Exception as error:  # damaged files make torch's readers raise nearly anything
        raise BundleError(f"{path} cannot be read: {_first_line(error)}") from error
    if not isinstance(content, Mapping):
        raise BundleError(f"{path} holds a {type(content).__name__}, not a state dict")
    return content


def sha256(path: Path, *, progress: bool = True) -> str:
    """The file's SHA-256, read in blocks. Raises BundleError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with (
            path.open("rb") as stream,
            tqdm(
                total=path.stat().st_size, desc=f"hash {path.name}", unit="B", unit_scale=True,
                disable=None if progress else True,
            ) as bar,
        ):  # fmt: skip
            while block := stream.read(BLOCK):
                digest.update(block)
                bar.update(len(block))
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def _safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _pickled(path: Path) -> Any:
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _require_stored(path)
    foreign = get_unsafe_globals_in_checkpoint(path) if is_zip else []
    refused = [name for name in foreign if name.split(".")[0] not in INERT]
    if refused:
        raise BundleError(_refusal(path, refused))
    if foreign:
        logger.info("%s: placeholders stand for %s", path, ", ".join(foreign))
    placeholders: list[Any] = [(type(name.rsplit(".", 1)[-1], (Placeholder,), {}), name) for name in foreign]
    with safe_globals(placeholders):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _require_stored(path: Path) -> None:
    """`torch.save` compresses nothing: what is larger than its file was made to fill the memory."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise BundleError(f"{path} is refused: its parts are compressed, which torch.save never does; save it anew")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise BundleError(f"{path} is refused: its parts say that they are larger than the file: it is damaged")


def _refusal(path: Path, names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"{path} is refused: loading it would run {', '.join(names[:3])}{more}. Nothing of it has run; a file of "
        "weights names only tensors"
    )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().split("\n")[0]
