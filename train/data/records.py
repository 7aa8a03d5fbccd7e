"""What a data set gives: lines, and an account of the records that it could not give."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from textsr.errors import InputError


class Reason(StrEnum):
    """Why a record is left out."""

    NO_PICTURE = "no picture"
    BAD_PICTURE = "picture cannot be read"
    NO_TEXT = "no text"
    BAD_TEXT = "text is not UTF-8"
    EMPTY_TEXT = "text is empty"
    ILLEGIBLE = "text is marked illegible"
    BAD_ROW = "row of the label file cannot be read"
    BAD_QUAD = "quadrilateral is wrong"
    NO_PARTNER = "no partner picture"
    BAD_PARTNER = "partner is of another shape"
    SMALL = "picture is too small"
    LONG = "text is too long"
    NARROW = "line is not wide enough"


@dataclass(frozen=True)
class Drop:
    """A record that is left out; ``detail`` says what was found."""

    name: str
    reason: Reason
    detail: str = ""


class BrokenRecord(InputError):
    """A record that cannot be given, with the reason."""

    def __init__(self, drop: Drop) -> None:
        super().__init__(f"{drop.name}: {drop.reason}" + (f": {drop.detail}" if drop.detail else ""))
        self.drop = drop

    def __reduce__(self) -> tuple[type[BrokenRecord], tuple[Drop]]:
        """So that it crosses from a worker process."""
        return BrokenRecord, (self.drop,)


def text_of(data: bytes, name: str) -> str:
    """A record's text without blanks at its ends. Raises BrokenRecord where it is not UTF-8 or empty."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BrokenRecord(Drop(name, Reason.BAD_TEXT, str(error))) from error
    if not text:
        raise BrokenRecord(Drop(name, Reason.EMPTY_TEXT))
    return text


@dataclass
class Report:
    """What became of the records of a source: found = kept + elsewhere + beyond + the number of drops."""

    source: str
    found: int = 0
    kept: int = 0
    elsewhere: int = 0  # of the other part of the split
    beyond: int = 0  # beyond the limit
    drops: list[Drop] = field(default_factory=list)

    def damaged(self, drop: Drop) -> bool:
        """Moves a record that was kept, but cannot be decoded after all, to the drops; whether it was not there yet."""
        if any(drop.name == known.name for known in self.drops):
            return False
        self.drops.append(drop)
        self.kept -= 1
        return True

    def reasons(self) -> dict[str, int]:
        """Records left out by reason, in the order of `Reason`."""
        counts = {str(reason): sum(drop.reason is reason for drop in self.drops) for reason in Reason}
        return {reason: count for reason, count in counts.items() if count}

    def summary(self) -> str:
        """A line a figure."""
        lines = [f"{self.source}: {self.found} records, {self.kept} kept"]
        if self.elsewhere:
            lines[0] += f", {self.elsewhere} in the other part of the split"
        if self.beyond:
            lines[0] += f", {self.beyond} beyond the limit"
        return "\n".join([*lines, *(f"  {count} left out: {reason}" for reason, count in self.reasons().items())])


@dataclass(frozen=True)
class Line:
    """A line of text in high resolution, fitted to the network, and its real low resolution where there is one.

    ``image`` uint8 RGB (128, 512, 3), the line in its first ``width`` columns, the last one repeated behind;
    ``centres`` and ``widths`` (n,) float32 of the n characters as shares of 512. All that `train.pool.PoolLine` has.
    """

    image: NDArray[np.uint8]
    text: str
    centres: NDArray[np.float32]
    widths: NDArray[np.float32]
    width: int
    font: str = ""
    kind: str = ""
    name: str = ""
    source: str = ""
    placed: bool = False
    """Whether centres and widths are known; else the text is spread over the inked part."""
    lr: NDArray[np.uint8] | None = None
    """(32, 128, 3): the real low resolution in the columns of ``image``."""
    lr_crop: NDArray[np.uint8] | None = None
    """The same at its own size, about the high resolution's divided by ``scale``."""
    hr_crop: NDArray[np.uint8] | None = None
    """The high resolution at its own size, where there is a real low one."""
    scale: int | None = None
    """Of high against low resolution; None: there is no low one, degrade ``image``."""


class Dataset(Protocol):
    """Lines by place, in a fixed order; may be sent to other processes."""

    @property
    def source(self) -> str:
        """What it is called, without a machine's folders."""

    @property
    def report(self) -> Report:
        """What was found and left out so far."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Line:
        """Line ``index``. Raises IndexError outside, BrokenRecord (also counted in ``report``) for a damaged one."""

    def name(self, index: int) -> str:
        """Its name, without reading it."""
