"""Bundles: a folder with ``bundle.json``, ONNX graphs and weights stored once.

What is trusted. A bundle is data: opening one runs no code, reads nothing outside of its folder (symbolic links that
lead out are refused), waits for no pipe, and takes little memory whatever its files hold. Every file it names is hashed
before anything in it is looked at, and one that differs from what ``bundle.json`` says is refused; that file has a
digest of its own. So damage is found, of any byte. Whoever may write into the folder may put in another model and seal
it: what a bundle makes of pictures is as good as its origin. Graphs are loaded later than they are hashed: what has
changed in between is refused then (`Bundle.unchanged`). That ONNX graphs name no weights outside of the folder, or
beyond a file's end, is ONNX Runtime's to check when it loads them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os import fstat, stat_result
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from runtime.manifest import FORMAT, MANIFEST, read_alphabet, read_manifest, read_preset
from textsr.alphabet import Alphabet
from textsr.config import Preset
from textsr.errors import BundleError
from textsr.files import open_regular
from textsr.program import TEXT_BRANCH, drawing

SHIPPED = Path(__file__).resolve().parent / "bundles"
_NEEDED_GRAPHS = ("vqgan_encoder", "time_condition", "text_condition", "unet_step", "vqgan_decoder")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
__all__ = ["FORMAT", "MANIFEST", "SHIPPED", "Bundle", "GraphSpec", "TensorSpec", "file_sha256", "shipped"]

Stamp = tuple[int, int, int]
"""Of a file: its number on its disk, its size, and when it was last written."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (a number, or the name of a free axis) and element type of a graph's input or output."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True)
class GraphSpec:
    """One exported graph: its file and the order of its inputs and outputs.

    ``half`` is the file of the same graph typed in half precision, with the same inputs and outputs, or None.
    """

    name: str
    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    half: Path | None = None


@dataclass(frozen=True)
class Bundle:
    """An opened, verified bundle. ``stamps``: of its files when they were hashed, empty where they were not."""

    path: Path
    preset: Preset
    alphabet: Alphabet
    graphs: Mapping[str, GraphSpec]
    recognizer: str | None
    precision: str
    files: Mapping[str, str]
    provenance: Mapping[str, Any]
    manifest: Mapping[str, Any]
    stamps: Mapping[str, Stamp] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, path_or_name: str | Path, *, verify: bool = True) -> Bundle:
        """Open a bundle given by its folder, or by the name of one that the package ships (``compact``).

        :param verify: hash every file (36 MiB take about 0.1 s); False only for a bundle verified a moment ago.
        :raises BundleError: the bundle is missing, damaged, of another format, or a file's hash differs.
        """
        folder = _locate(path_or_name)
        where = folder / MANIFEST
        manifest = read_manifest(where)
        files = _checked_files(folder, manifest["files"])
        preset = read_preset(manifest["preset"], where)
        graphs = _graphs(folder, manifest["graphs"], files, preset)
        stamps = {name: _verify(_inside(folder, name), digest) for name, digest in files.items()} if verify else {}
        return cls(
            path=folder,
            preset=preset,
            alphabet=read_alphabet(manifest["alphabet"], preset, where),
            graphs=MappingProxyType(graphs),
            recognizer=manifest["recognizer"],
            precision=str(manifest.get("precision", "fp32")),
            files=MappingProxyType(files),
            provenance=MappingProxyType(dict(manifest.get("provenance") or {})),
            manifest=MappingProxyType(manifest),
            stamps=MappingProxyType(stamps),
        )

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """A block that reads files of the bundle: they are, before and after it, those that were hashed.

        :raises BundleError: one was written or replaced since, by an upgrade for instance.
        """
        self._require_stamps()
        yield
        self._require_stamps()

    def _require_stamps(self) -> None:
        for name, stamp in self.stamps.items():
            path = self.path / name
            try:
                found = _stamp(path.stat())
            except OSError as error:
                raise BundleError(f"{path}: was there when the bundle was opened ({error.strerror})") from error
            if found != stamp:
                raise BundleError(f"{path}: has changed since the bundle was opened: open it again")

    @property
    def samples_text(self) -> bool:
        """Whether the bundle holds the graphs that the categorical text sampler needs."""
        return self.graphs.keys() >= TEXT_BRANCH

    def in_half(self) -> Bundle:
        """The bundle with the graphs that are typed in half precision as its graphs.

        :raises BundleError: it has none.
        """
        lacking = [name for name, spec in self.graphs.items() if spec.half is None]
        if lacking:
            raise BundleError(
                f"{self.path}: has no half-precision graph {lacking[0]}: build it with "
                "python -m export.build --precision fp16"
            )
        graphs = {name: replace(spec, path=spec.half or spec.path) for name, spec in self.graphs.items()}
        return replace(self, graphs=MappingProxyType(graphs))


def shipped() -> tuple[str, ...]:
    """Names of the bundles that the package ships."""
    if not SHIPPED.is_dir():
        return ()
    return tuple(sorted(folder.name for folder in SHIPPED.iterdir() if (folder / MANIFEST).is_file()))


def _locate(path_or_name: str | Path) -> Path:
    """The folder of a bundle: a path that exists wins over a shipped name."""
    path = Path(path_or_name)
    try:
        if (path / MANIFEST).is_file():
            return path.resolve()
        is_folder = path.is_dir()
    except OSError as error:  # a name too long, a folder that may not be searched
        raise BundleError(f"{path}: cannot be searched for {MANIFEST} ({error.strerror})") from error
    if str(path_or_name) in shipped():
        return (SHIPPED / str(path_or_name)).resolve()
    names = ", ".join(shipped()) or "none"
    if is_folder:
        raise BundleError(f"{path}: no {MANIFEST} in this folder, so it is not a bundle")
    raise BundleError(f"no bundle {str(path_or_name)!r}: give a bundle's folder or a shipped name (shipped: {names})")


def _checked_files(folder: Path, files: Any) -> dict[str, str]:
    """The ``files`` table, with every name proven to stay inside the bundle's folder."""
    if not isinstance(files, dict) or not files:
        raise BundleError(f"{folder / MANIFEST}: files must be an object of names and SHA-256 sums")
    for name, digest in files.items():
        _inside(folder, name)
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise BundleError(f"{folder / MANIFEST}: {name} has no SHA-256 sum of 64 hexadecimal digits")
    return dict(files)


def _inside(folder: Path, name: Any) -> Path:
    """``folder / name``; refuses names, and symbolic links, that lead out of the folder."""
    where = folder / MANIFEST
    if not isinstance(name, str) or not name.isprintable() or not name or set(name) & set("\\:"):
        raise BundleError(f"{where}: {str(name)[:80]!r} is no file name")
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise BundleError(f"{where}: file name {name!r} leads out of the bundle")
    path = folder.joinpath(*pure.parts)
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle, until Python 3.13
        raise BundleError(f"{path}: named by the bundle but cannot be read ({error})") from error
    if not real.is_relative_to(folder):
        raise BundleError(f"{path}: is a symbolic link that leads out of the bundle: put the file itself there")
    return path


def _stamp(status: stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _hashed(path: Path) -> tuple[str, Stamp]:
    try:
        with open_regular(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest(), _stamp(fstat(stream.fileno()))
    except OSError as error:
        raise BundleError(f"{path}: named by the bundle but cannot be read ({error.strerror})") from error


def file_sha256(path: Path) -> str:
    """The hash of a bundle's file. Raises BundleError where it cannot be read."""
    return _hashed(path)[0]


def _verify(path: Path, digest: str) -> Stamp:
    found, stamp = _hashed(path)
    if found != digest.lower():
        raise BundleError(f"{path}: SHA-256 is {found[:12]}..., the bundle says {digest[:12]}...: damaged or changed")
    return stamp


def _graphs(folder: Path, graphs: Any, files: Mapping[str, str], preset: Preset) -> dict[str, GraphSpec]:
    where = folder / MANIFEST
    if not isinstance(graphs, dict):
        raise BundleError(f"{where}: graphs must be an object")
    missing = [name for name in (*_NEEDED_GRAPHS, *sorted(drawing(preset))) if name not in graphs]
    if missing:
        raise BundleError(f"{where}: lacks the graphs {', '.join(missing)}")
    found = {}
    for name, described in graphs.items():
        try:
            inputs, outputs = (tuple(_tensor(entry) for entry in described[side]) for side in ("inputs", "outputs"))
            file, half = described["file"], described.get("half")
        except (KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"{where}: graph {name} lacks its file, inputs or outputs ({error})") from error
        paths = []
        for used in (file,) if half is None else (file, half):
            paths.append(_inside(folder, used))
            if used not in files:
                raise BundleError(f"{where}: graph {name} uses {used}, which has no SHA-256 sum in files")
        found[name] = GraphSpec(name, paths[0], inputs, outputs, *paths[1:])
    return found


def _tensor(entry: Any) -> TensorSpec:
    """An input or output as the manifest tells of it. Raises KeyError or TypeError where it does not."""
    name, shape, dtype = entry["name"], entry["shape"], entry["dtype"]
    if not isinstance(name, str) or not isinstance(dtype, str) or not isinstance(shape, list):
        raise TypeError(f"{str(entry)[:80]} is no name, shape and dtype")
    if not all(isinstance(side, int | str) for side in shape):
        raise TypeError(f"{str(shape)[:80]} is no shape")
    return TensorSpec(name, tuple(shape), dtype)
