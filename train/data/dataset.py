"""A source with filters and a split: the one data set that all formats share."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import numpy.ma  # numpy would import it while the first line is read: a process forked then would wait for it for ever
from tqdm import tqdm

from textsr.config import Preset
from textsr.errors import InputError
from train.data.fitting import fitted
from train.data.index import read_index, write_index
from train.data.records import BrokenRecord, Dataset, Drop, Line, Report
from train.data.selection import Selection, Source, part_of

log = logging.getLogger(__name__)

SLOW = 2000
"""Records from which a scan shows its progress."""


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
        kept = read_index(selection, self._records, self.report)
        if kept is None:
            kept = self._scan(selection)
            if selection.index is not None:
                write_index(selection, self._records, self.report, kept)
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
