"""bundle.json: read within bounds, without guessing, and proven to be what was written.

``digest`` is the SHA-256 of all else in it. It tells damage from what was built; who may write the file may write the
digest too. A manifest of a bundle built before there were digests has none and is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from textsr.alphabet import Alphabet
from textsr.config import SCALE, Preset
from textsr.errors import BundleError, InputError
from textsr.files import read_regular
from textsr.schedule import ResidualShiftSchedule

logger = logging.getLogger(__name__)

FORMAT = 4
MANIFEST = "bundle.json"
DIGEST = "digest"
RECOGNIZERS = ("rapidocr", "transocr", None)
MAX_BYTES = 4 << 20
"""Of a manifest; those of `compact` and `paper` have 0.1 and 0.4 MiB."""
_REQUIRED = ("format", "preset", "alphabet", "graphs", "files", "recognizer")
_KNOWN = {
    *_REQUIRED, DIGEST, "precision", "precision_policy", "recognizer_symbols", "schedule", "codebook", "parity",
    "provenance", "half",
}  # fmt: skip
_LARGEST, _SIDE = 1 << 16, 4096
"""Whole numbers and tuples' lengths of a preset, and the sides of its line in pixels, are at most this."""


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the digest that belongs to it."""
    content = {key: value for key, value in manifest.items() if key != DIGEST}
    return {**content, DIGEST: _digest(content)}


def _digest(content: Mapping[str, Any]) -> str:
    """Of the meaning, not of the letters: order of keys and white space do not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def read_manifest(path: Path) -> dict[str, Any]:
    """The JSON object at ``path``, of this format, with all keys that are needed and none that is not known.

    :raises BundleError: it is not that, cannot be read, has over `MAX_BYTES`, or its digest says something else.
    """
    try:
        manifest = json.loads(
            read_regular(path, MAX_BYTES).decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number,
            parse_float=_finite,
        )  # fmt: skip
        content = {key: value for key, value in manifest.items() if key != DIGEST} if _is_object(manifest) else {}
        found = _digest(content)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # what is no UTF-8, no JSON, or has numbers without end
        raise BundleError(f"{path}: cannot be read as JSON ({error})") from error
    if not _is_object(manifest):
        raise BundleError(f"{path}: holds no JSON object")
    _require_format(manifest, path)
    if DIGEST not in manifest:
        logger.info("%s: has no digest, so that damage to it may go unseen; build the bundle anew to get one", path)
    elif manifest[DIGEST] != found:
        raise BundleError(f"{path}: its digest says that it is damaged or was changed: get the bundle anew")
    if manifest["recognizer"] not in RECOGNIZERS:
        raise BundleError(f"{path}: recognizer {manifest['recognizer']!r} is not one of rapidocr, transocr, null")
    if not _is_object(manifest.get("provenance") or {}):
        raise BundleError(f"{path}: provenance must be an object")
    return dict(manifest)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("an object has a key twice")
    return made


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _finite(word: str) -> float:
    value = float(word)
    return value if isfinite(value) else _no_number(word)


def _require_format(manifest: Mapping[str, Any], path: Path) -> None:
    version = manifest.get("format")
    if version != FORMAT or isinstance(version, bool):
        newer = isinstance(version, int) and version > FORMAT
        advice = (
            "take a newer textsr"
            if newer
            else "build the bundle anew with python -m export.build, or take the version that wrote it"
        )
        raise BundleError(
            f"{path}: format {_short(version)} is not known to this version, which reads format {FORMAT}: {advice}"
        )
    missing = [key for key in _REQUIRED if key not in manifest]
    if missing:
        raise BundleError(f"{path}: lacks {', '.join(missing)}")
    unknown = sorted(manifest.keys() - _KNOWN)
    if unknown:
        raise BundleError(f"{path}: has {_short(unknown[0])}, which format {FORMAT} does not know: it is damaged")


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 80 else said[:77] + "..."


def read_alphabet(data: Any, preset: Preset, where: Path) -> Alphabet:
    """The manifest's alphabet. Raises BundleError when it is none, or not of the preset's size."""
    try:
        alphabet = Alphabet.from_json(json.dumps(data))
    except InputError as error:
        raise BundleError(f"{where}: the alphabet cannot be read ({error})") from error
    if len(alphabet.symbols) != preset.padding:
        raise BundleError(
            f"{where}: the alphabet has {len(alphabet.symbols)} symbols, preset {preset.name} needs {preset.padding}"
        )
    if preset.glyph is not None and preset.glyph.fitted and alphabet.symbols != Alphabet.load().symbols:
        raise BundleError(f"{where}: places are fitted with the glyphs of textsr's alphabet, and this is another one")
    return alphabet


def read_preset(data: Any, where: Path) -> Preset:
    """The manifest's preset. Raises BundleError when it is none, or has sizes beyond all that is built."""
    try:
        preset: Preset = _build(Preset, data)
        with np.errstate(all="ignore"):
            etas = ResidualShiftSchedule.from_config(preset.schedule).etas
        if not np.isfinite(etas).all() or not 0 < etas[-1] <= 1:
            raise ValueError("its schedule does not lead from 0 to 1")
    except (TypeError, ValueError, ArithmeticError, InputError) as error:
        raise BundleError(f"{where}: the preset cannot be read ({error})") from error
    for side in (preset.height, preset.width):
        if not SCALE <= side <= _SIDE or side % SCALE:
            raise BundleError(f"{where}: the preset's sides must be multiples of {SCALE} up to {_SIDE}, not {side}")
    return preset


def _build(kind: Any, data: Any) -> Any:
    """An instance of the annotation ``kind`` from JSON data: nested dataclasses, tuples, optionals and plain values.

    :raises TypeError: data of another type.
    :raises ValueError: a value or name that cannot be.
    """
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(data, dict):
            raise TypeError(f"{_short(data)} is no {kind.__name__}")
        hints = get_type_hints(kind)
        unknown = set(data) - {field.name for field in fields(kind)}
        if unknown:
            raise ValueError(f"{kind.__name__} has no {_short(min(unknown))}")
        return kind(**{name: _build(hints[name], value) for name, value in data.items()})
    if get_origin(kind) in (Union, UnionType):
        inner = [option for option in get_args(kind) if option is not type(None)]
        return None if data is None else _build(inner[0], data)
    if get_origin(kind) is Literal:
        if data not in get_args(kind):
            raise ValueError(f"{_short(data)} is none of {', '.join(map(str, get_args(kind)))}")
        return data
    if get_origin(kind) is tuple:
        return _build_tuple(get_args(kind), data)
    return _plain(kind, data)


def _build_tuple(kinds: tuple[Any, ...], data: Any) -> tuple[Any, ...]:
    if not isinstance(data, list) or len(data) > _LARGEST:
        raise TypeError(f"{_short(data)} is no list")
    if kinds[-1] is not Ellipsis and len(kinds) != len(data):
        raise ValueError(f"{_short(data)} has not {len(kinds)} entries")
    return tuple(_build(kinds[0], value) for value in data)


def _plain(kind: type, data: Any) -> Any:
    """A value of ``kind``, which is int, float, str or bool."""
    fits = isinstance(data, kind) or (kind is float and isinstance(data, int))
    if not fits or (isinstance(data, bool) and kind is not bool):
        raise TypeError(f"{_short(data)} is no {kind.__name__}")
    if kind in (int, float) and not 0 <= abs(data) <= _LARGEST:
        raise ValueError(f"{_short(data)} is beyond {_LARGEST}")
    return data
