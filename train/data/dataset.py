"""A source with filters and a split: the one data set that all formats share."""

from __future__ import annotations

import bisect
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from tqdm import tqdm

from textsr.alphabet import MAX_CHARS
from textsr.config import Preset
from textsr.errors import InputError
from textsr.images import atomic
from train.data.fitting import Raw, fitted
from train.data.records import BrokenRecord, Dataset, Drop, Line, Reason, Report

log = logging.getLogger(__name__)

Part = Literal["train", "test", "all"]
TRAIN_PERCENT = 80
INDEX_VERSION = 1
SLOW = 2000
"""Records from which a scan shows its progress."""


@dataclass(frozen=True)
class Look:
    """What the filters judge: the size of a record's high resolution in pixels, and its text."""

    height: int
    width: int
    text: str


class Source(Protocol):
    """Records of one format, by number. `look` and `load` raise BrokenRecord for a record that cannot be given."""

    label: str  # for people, without a machine's folders
    kind: str
    trusted: bool  # written by this project: not looked at one by one, unless filters or a full scan are asked for

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """Unique in the source, the same on every machine."""

    def key(self, number: int) -> str:
        """What the split goes by: records of one key stay together."""

    def look(self, number: int) -> Look:
        """Size and text, without decoding the picture."""

    def load(self, number: int) -> Raw:
        """The record."""

    def stamp(self) -> list[Any]:
        """What changes when the files do, for a kept index (JSON values)."""


@dataclass(frozen=True)
class Filters:
    """What a record must have; by default the paper's (section 4.1), with its 64 pixels read as the height's."""

    pixels: int = 64  # of the shorter side at least
    characters: int = MAX_CHARS  # at most
    aspect: float = 2.0  # width over height is above

    def reason(self, look: Look) -> tuple[Reason, str] | None:
        """Why a record is left out, with what was found; None: it is kept."""
        size = f"{look.width} x {look.height} pixels"
        if min(look.height, look.width) < self.pixels:
            return Reason.SMALL, size
        if len(look.text) > self.characters:
            return Reason.LONG, f"{len(look.text)} characters"
        if look.width <= self.aspect * look.height:
            return Reason.NARROW, size
        return None


@dataclass(frozen=True)
class Selection:
    """Which records of a source are given."""

    filters: Filters | None = None
    part: Part = "all"
    limit: int | None = None
    full_scan: bool = False  # decode every picture once, so that the report is complete from the start
    index: Path | None = None  # keeps the scan's result


def part_of(key: str) -> Literal["train", "test"]:
    """The part of the split that a record falls in: by a hash of its key, so by nothing else."""
    number = int.from_bytes(hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest(), "big")
    return "train" if number % 100 < TRAIN_PERCENT else "test"


class SourceDataset:
    """The records of ``source`` that ``selection`` keeps, fitted as ``preset`` fits."""

    def __init__(self, source: Source, selection: Selection, preset: Preset) -> None:
        self.source, self.preset = source.label, preset
        self._records = source
        self.report = Report(source.label)
        self._places = self._select(selection)
        self.report.kept = len(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def name(self, index: int) -> str:
        """The name of line ``index``."""
        return self._records.name(self._place(index))

    def __getitem__(self, index: int, /) -> Line:
        place = self._place(index)
        try:
            raw = self._records.load(place)
        except BrokenRecord as error:
            if self.report.damaged(error.drop):  # told once, however often training comes by
                log.warning("%s: left out: %s", self.source, error)
            raise
        if raw.line is not None:
            return raw.line
        name = self._records.name(place)
        return fitted(raw, self.preset, name=name, source=self.source, kind=self._records.kind)

    def _place(self, index: int) -> int:
        if not 0 <= index < len(self._places):
            raise IndexError(f"line {index} of {len(self._places)}")
        return int(self._places[index])

    def _select(self, selection: Selection) -> np.ndarray:
        """Numbers of the records kept, ascending."""
        kept = _read_index(selection, self._records, self.report)
        if kept is None:
            kept = self._scan(selection)
            if selection.index is not None:
                _write_index(selection, self._records, self.report, kept)
        if selection.part != "all":
            mine = [place for place in kept if part_of(self._records.key(place)) == selection.part]
            self.report.elsewhere, kept = len(kept) - len(mine), mine
        given = kept[: selection.limit]
        self.report.beyond = len(kept) - len(given)
        return np.asarray(given, dtype=np.int64)

    def _scan(self, selection: Selection) -> list[int]:
        """Numbers of the sound records, of both parts; with a limit only as far as it reaches."""
        total = len(self._records)
        if self._records.trusted and selection.filters is None and not selection.full_scan:
            self.report.found = total
            return list(range(total))
        kept: list[int] = []
        wanted = 0
        for place in tqdm(range(total), desc=self.source, unit="record", disable=total < SLOW):
            if selection.limit is not None and wanted >= selection.limit:
                break
            self.report.found += 1
            drop = self._reason(place, selection)
            if drop is not None:
                self.report.drops.append(drop)
                continue
            kept.append(place)
            wanted += selection.part in ("all", part_of(self._records.key(place)))
        return kept

    def _reason(self, place: int, selection: Selection) -> Drop | None:
        try:
            look = self._records.look(place)
            if selection.filters is not None and (found := selection.filters.reason(look)) is not None:
                return Drop(self._records.name(place), *found)
            if selection.full_scan:
                self._records.load(place)
        except BrokenRecord as error:
            return error.drop
        return None


class JoinedDataset:
    """Data sets one behind the other."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        self.parts = tuple(parts)
        self.source = " + ".join(part.source for part in self.parts)
        self._ends = list(accumulate(len(part) for part in self.parts))

    @property
    def report(self) -> Report:
        """The sum of the parts'; names are preceded by their source."""
        whole = Report(self.source)
        for part in self.parts:
            found = part.report
            whole.found, whole.kept = whole.found + found.found, whole.kept + found.kept
            whole.elsewhere, whole.beyond = whole.elsewhere + found.elsewhere, whole.beyond + found.beyond
            named = (Drop(f"{part.source}: {drop.name}", drop.reason, drop.detail) for drop in found.drops)
            whole.drops.extend(named)
        return whole

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int, /) -> Line:
        part, place = self._find(index)
        return part[place]

    def name(self, index: int) -> str:
        """Source and name of line ``index``."""
        part, place = self._find(index)
        return f"{part.source}: {part.name(place)}"

    def _find(self, index: int) -> tuple[Dataset, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"line {index} of {len(self)}")
        part = bisect.bisect_right(self._ends, index)
        return self.parts[part], index - (self._ends[part - 1] if part else 0)


def sound(dataset: Dataset, index: int) -> Line:
    """Line ``index``, or the next one that can be read: a damaged record never stops a run.

    Raises InputError where none can be read.
    """
    for step in range(len(dataset)):
        try:
            return dataset[(index + step) % len(dataset)]
        except BrokenRecord:  # the data set has told and counted it
            continue
    raise InputError(f"{dataset.source}: none of its {len(dataset)} records can be read; see python -m train.inspect")


def records(dataset: Dataset) -> Iterator[Line]:
    """All lines that can be read, in order; the report names the others."""
    for index in range(len(dataset)):
        try:
            yield dataset[index]
        except BrokenRecord:  # the data set has told and counted it
            continue


def _facts(selection: Selection, source: Source) -> dict[str, Any]:
    """What an index is valid for."""
    filters = None if selection.filters is None else asdict(selection.filters)
    judged = {"filters": filters, "full_scan": selection.full_scan}
    return {"version": INDEX_VERSION, "source": source.label, "stamp": source.stamp(), **judged}


def _read_index(selection: Selection, source: Source, report: Report) -> list[int] | None:
    """The kept numbers of an earlier scan; None where there is none or the files have changed since."""
    path = selection.index
    if path is None or not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["facts"] != json.loads(json.dumps(_facts(selection, source))):
            log.warning("%s is of other files or filters: the records are scanned again", path)
            return None
        drops = [Drop(row["name"], Reason(row["reason"]), row["detail"]) for row in data["drops"]]
        kept = [int(place) for place in data["kept"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no index of a data set ({error}): delete it, or name another file") from error
    report.found, report.drops = len(kept) + len(drops), drops
    return kept


def _write_index(selection: Selection, source: Source, report: Report, kept: list[int]) -> None:
    if selection.index is None or selection.limit is not None:
        return  # a scan that a limit cut off tells too little
    data = {"facts": _facts(selection, source), "kept": kept, "drops": [asdict(drop) for drop in report.drops]}
    with atomic(selection.index) as stream:
        stream.write(json.dumps(data, ensure_ascii=False).encode("utf-8", "backslashreplace"))
