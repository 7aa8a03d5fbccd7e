"""``open_data``: a data set by its spec, ``[KIND:]PATH[?option=value&...]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

from textsr.config import COMPACT, Preset
from textsr.errors import InputError
from train.data.ctr import CTRSource
from train.data.dataset import JoinedDataset, SourceDataset
from train.data.pairs import TABLE, PairsSource
from train.data.realce import HIGH, RealCESource
from train.data.records import Dataset
from train.data.rendered import PoolSource, RenderSource
from train.data.selection import Filters, Part, Selection, Source

KINDS = ("ctr", "real-ce", "pairs", "pool", "render")
PARTS = ("train", "test", "all")
OWN: dict[str, tuple[str, ...]] = {"real-ce": ("scale",), "render": ("lines", "seed")}
SHARED = ("split", "filters", "pixels", "characters", "aspect", "limit", "scan", "index")
HELP = """\
[KIND:]PATH[?option=value&...]; KIND is told from what is there, where it is left out:
  ctr:DIR        an LMDB with num-samples, image-000000001, label-000000001, ... (Yu et al. 2021)
  real-ce:DIR    folders 13mm, 26mm, 52mm and label files; scale=4 (default) or 2
  pairs:DIR      hr/ and perhaps lr/ with lines.tsv; or pairs:FILE.tsv with columns hr, text and perhaps lr
  pool:DIR       lines that python -m train.pool wrote
  render:SPLIT   lines rendered when asked for: train, val or test; lines=100000, seed=0
Options: split=train|test|all (80/20 by hash; all), filters=paper|none (paper for ctr and real-ce, else none) with
pixels=64, characters=24, aspect=2; limit=N; scan=header|full (full: decode every picture once); index=FILE (keeps the
scan's result)."""


@dataclass(frozen=True)
class DataSpec:
    """A spec in its parts."""

    kind: str
    path: str
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, spec: str) -> DataSpec:
        """Raises InputError on an unknown kind or option, or a path whose kind cannot be told."""
        body, _, query = spec.partition("?")
        kind, colon, path = body.partition(":")
        if not colon or kind not in KINDS:
            kind, path = detect(body), body
        options = dict(parse_qsl(query, keep_blank_values=True))
        known = (*SHARED, *OWN.get(kind, ()))
        strange = [name for name in options if name not in known]
        if strange:
            raise InputError(f"{spec}: unknown option {strange[0]!r}; {kind} takes {', '.join(known)}")
        return cls(kind, path, options)

    def number(self, name: str, default: int | None, least: int = 0) -> int | None:
        """An option that is a whole number. Raises InputError where it is none, or below ``least``."""
        given = self.options.get(name)
        if given is None:
            return default
        if not given.isdigit() or int(given) < least:
            raise InputError(f"{self.path}: option {name} is a whole number from {least} on, not {given!r}")
        return int(given)

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """An option that is one of ``choices``. Raises InputError where it is none."""
        given = self.options.get(name, default)
        if given not in choices:
            raise InputError(f"{self.path}: option {name} is one of {', '.join(choices)}, not {given!r}")
        return given

    def selection(self, part: Part | None) -> Selection:
        """Which records are given; ``part`` where the spec names none."""
        default = "paper" if self.kind in ("ctr", "real-ce") else "none"
        filters = Filters() if self.choice("filters", ("paper", "none"), default) == "paper" else None
        changed: dict[str, Any] = {
            name: self.number(name, None) for name in ("pixels", "characters") if name in self.options
        }
        if "aspect" in self.options:
            changed["aspect"] = self._real("aspect")
        if changed:
            filters = replace(filters or Filters(pixels=0, characters=1 << 30, aspect=0.0), **changed)
        index = self.options.get("index")
        return Selection(
            filters,
            cast(Part, self.choice("split", PARTS, part or "all")),
            self.number("limit", None, least=1),
            self.choice("scan", ("header", "full"), "header") == "full",
            Path(index) if index else None,
        )

    def _real(self, name: str) -> float:
        try:
            return float(self.options[name])
        except ValueError as error:
            raise InputError(f"{self.path}: option {name} is a number, not {self.options[name]!r}") from error


def detect(path: str) -> str:
    """The kind of what is at ``path``. Raises InputError that lists the kinds where it cannot be told."""
    place = Path(path)
    tests: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("ctr", lambda: (place / "data.mdb").is_file()),
        ("real-ce", lambda: (place / HIGH).is_dir()),
        ("pool", lambda: any(place.glob("lines-*.npy"))),
        ("pairs", lambda: (place / TABLE).is_file() or (place.is_file() and place.suffix.lower() == ".tsv")),
    )
    for kind, test in tests:
        if test():
            return kind
    what = "is no data set that is known by its files" if place.exists() else "is not there"
    raise InputError(f"{path} {what}; name the kind in front ({', '.join(f'{kind}:' for kind in KINDS)})")


def open_data(spec: str | Sequence[str], *, preset: Preset = COMPACT, split: Part | None = None) -> Dataset:
    """The data set of a spec (see `HELP`), or of several, one behind the other; lines fitted as ``preset`` fits.

    ``split`` is the part of the 80/20 split where a spec names none. Raises InputError where a spec is wrong, a source
    cannot be read or nothing in it passes the filters; damaged records are only counted, in the data set's ``report``.
    """
    if isinstance(spec, str):
        return _open(DataSpec.parse(spec), preset, split)
    if not spec:
        raise InputError("no data set is named: give at least one")
    parts = [_open(DataSpec.parse(one), preset, split) for one in spec]
    return parts[0] if len(parts) == 1 else JoinedDataset(parts)


def _open(spec: DataSpec, preset: Preset, split: Part | None) -> Dataset:
    dataset = SourceDataset(_source(spec, preset), spec.selection(split), preset)
    if not len(dataset):
        raise InputError(f"no record is left of {dataset.report.summary()}")
    return dataset


def _source(spec: DataSpec, preset: Preset) -> Source:
    place = Path(spec.path)
    if spec.kind == "ctr":
        return CTRSource(place)
    if spec.kind == "real-ce":
        return RealCESource(place, spec.number("scale", 4) or 0)
    if spec.kind == "pairs":
        return PairsSource(place)
    if spec.kind == "pool":
        return PoolSource(place, preset)
    return RenderSource(spec.path, spec.number("lines", 100_000) or 0, spec.number("seed", 0) or 0, preset)
