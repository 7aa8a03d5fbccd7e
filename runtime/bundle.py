"""Bundles: a folder with ``bundle.json``, ONNX graphs and weights stored once.

A bundle is data: opening one runs no code. Every file it names is hashed first, and one that differs is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from textsr.alphabet import Alphabet
from textsr.config import Preset
from textsr.errors import BundleError, InputError

FORMAT = 2
MANIFEST = "bundle.json"
SHIPPED = Path(__file__).resolve().parent / "bundles"
RECOGNIZERS = ("rapidocr", "transocr", None)
_REQUIRED = ("format", "preset", "alphabet", "graphs", "files", "recognizer")
_NEEDED_GRAPHS = ("vqgan_encoder", "time_condition", "text_condition", "unet_step", "vqgan_decoder")


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
    """An opened, verified bundle."""

    path: Path
    preset: Preset
    alphabet: Alphabet
    graphs: Mapping[str, GraphSpec]
    recognizer: str | None
    precision: str
    files: Mapping[str, str]
    provenance: Mapping[str, Any]
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path_or_name: str | Path, *, verify: bool = True) -> Bundle:
        """Open a bundle given by its folder, or by the name of one that the package ships (``compact``).

        :param verify: hash every file (36 MiB take about 0.1 s); False only for a bundle verified a moment ago.
        :raises BundleError: the bundle is missing, damaged, of another format, or a file's hash differs.
        """
        folder = _locate(path_or_name)
        manifest = _read_manifest(folder / MANIFEST)
        files = _checked_files(folder, manifest["files"])
        if verify:
            for name, digest in files.items():
                _verify(folder / name, digest)
        where = folder / MANIFEST
        preset = _preset(manifest["preset"], where)
        return cls(
            path=folder,
            preset=preset,
            alphabet=_alphabet(manifest["alphabet"], preset, where),
            graphs=MappingProxyType(_graphs(folder, manifest["graphs"], files)),
            recognizer=manifest["recognizer"],
            precision=str(manifest.get("precision", "fp32")),
            files=MappingProxyType(files),
            provenance=MappingProxyType(dict(manifest.get("provenance") or {})),
            manifest=MappingProxyType(manifest),
        )

    @property
    def samples_text(self) -> bool:
        """Whether the bundle holds the graphs that the categorical text sampler needs."""
        return {"mom_image", "text_step"} <= self.graphs.keys()

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
    if (path / MANIFEST).is_file():
        return path.resolve()
    if str(path_or_name) in shipped():
        return SHIPPED / str(path_or_name)
    names = ", ".join(shipped()) or "none"
    if path.is_dir():
        raise BundleError(f"{path}: no {MANIFEST} in this folder, so it is not a bundle")
    raise BundleError(f"no bundle {str(path_or_name)!r}: give a bundle's folder or a shipped name (shipped: {names})")


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{path}: holds no JSON object")
    version = manifest.get("format")
    if version != FORMAT:
        raise BundleError(
            f"{path}: format {version!r} is not known to this version, which reads format {FORMAT}: build the bundle "
            "anew with python -m export.build, or take the version that wrote it"
        )
    missing = [key for key in _REQUIRED if key not in manifest]
    if missing:
        raise BundleError(f"{path}: lacks {', '.join(missing)}")
    if manifest["recognizer"] not in RECOGNIZERS:
        raise BundleError(f"{path}: recognizer {manifest['recognizer']!r} is not one of rapidocr, transocr, null")
    return manifest


def _checked_files(folder: Path, files: Any) -> dict[str, str]:
    """The ``files`` table, with every name proven to stay inside the bundle's folder."""
    if not isinstance(files, dict) or not files:
        raise BundleError(f"{folder / MANIFEST}: files must be an object of names and SHA-256 sums")
    for name, digest in files.items():
        _inside(folder, name)
        if not isinstance(digest, str) or len(digest) != 64:
            raise BundleError(f"{folder / MANIFEST}: {name} has no SHA-256 sum of 64 hexadecimal digits")
    return dict(files)


def _inside(folder: Path, name: Any) -> Path:
    """``folder / name``; refuses names that lead out of the folder."""
    if not isinstance(name, str) or not name or "\\" in name or "\0" in name or ":" in name:
        raise BundleError(f"{folder / MANIFEST}: {name!r} is no file name")
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise BundleError(f"{folder / MANIFEST}: file name {name!r} leads out of the bundle")
    return folder.joinpath(*pure.parts)


def file_sha256(path: Path) -> str:
    """The hash of a bundle's file. Raises BundleError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: named by the bundle but cannot be read ({error.strerror})") from error


def _verify(path: Path, digest: str) -> None:
    found = file_sha256(path)
    if found != digest.lower():
        raise BundleError(f"{path}: SHA-256 is {found[:12]}..., the bundle says {digest[:12]}...: damaged or changed")


def _graphs(folder: Path, graphs: Any, files: Mapping[str, str]) -> dict[str, GraphSpec]:
    where = folder / MANIFEST
    if not isinstance(graphs, dict):
        raise BundleError(f"{where}: graphs must be an object")
    missing = [name for name in _NEEDED_GRAPHS if name not in graphs]
    if missing:
        raise BundleError(f"{where}: lacks the graphs {', '.join(missing)}")
    found = {}
    for name, entry in graphs.items():
        try:
            inputs, outputs = (
                tuple(TensorSpec(str(t["name"]), tuple(t["shape"]), str(t["dtype"])) for t in entry[side])
                for side in ("inputs", "outputs")
            )
            file, half = entry["file"], entry.get("half")
        except (KeyError, TypeError) as error:
            raise BundleError(f"{where}: graph {name} lacks its file, inputs or outputs ({error})") from error
        paths = []
        for used in (file,) if half is None else (file, half):
            paths.append(_inside(folder, used))
            if used not in files:
                raise BundleError(f"{where}: graph {name} uses {used}, which has no SHA-256 sum in files")
        found[name] = GraphSpec(name, paths[0], inputs, outputs, *paths[1:])
    return found


def _alphabet(data: Any, preset: Preset, where: Path) -> Alphabet:
    try:
        alphabet = Alphabet.from_json(json.dumps(data))
    except InputError as error:
        raise BundleError(f"{where}: the alphabet cannot be read ({error})") from error
    if len(alphabet.symbols) != preset.padding:
        raise BundleError(
            f"{where}: the alphabet has {len(alphabet.symbols)} symbols, preset {preset.name} needs {preset.padding}"
        )
    return alphabet


def _preset(data: Any, where: Path) -> Preset:
    try:
        return _build(Preset, data)
    except (TypeError, ValueError, InputError) as error:
        raise BundleError(f"{where}: the preset cannot be read ({error})") from error


def _build(kind: Any, data: Any) -> Any:
    """An instance of the annotation ``kind`` from JSON data: nested dataclasses, tuples, optionals and plain values."""
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        unknown = set(data) - {field.name for field in fields(kind)}
        if unknown:
            raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
        return kind(**{name: _build(hints[name], value) for name, value in data.items()})
    if get_origin(kind) in (Union, UnionType):
        inner = [option for option in get_args(kind) if option is not type(None)]
        return None if data is None else _build(inner[0], data)
    if get_origin(kind) is tuple:
        return tuple(data)
    if isinstance(kind, type) and not isinstance(data, kind) and not (kind is float and isinstance(data, int)):
        raise TypeError(f"{data!r} is no {kind.__name__}")
    return data
