"""Which records of a source are given: filters, and the split by hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from textsr.alphabet import MAX_CHARS
from train.data.fitting import Raw
from train.data.records import Reason

Part = Literal["train", "test", "all"]
TRAIN_PERCENT = 80


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
