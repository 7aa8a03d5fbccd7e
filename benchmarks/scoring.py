"""One line under one method: what the judge reads and how far the picture is; and a file that keeps it between runs."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.methods import Output
from benchmarks.testset import TestLine
from train.evaluation.judge import Reader
from train.metrics import PerceptualMetric, accuracy, ned, psnr

logger = logging.getLogger(__name__)

HR = "HR"
"""The name of the high-resolution lines among the methods."""
NO_ST_LPIPS = "no ST-LPIPS"


@dataclass(frozen=True)
class Score:
    """One line under one method."""

    index: int
    severity: str
    source: str
    method: str
    truth: str
    reading: str  # the judge's
    own_text: str | None  # what the method itself read, if it reads
    acc: float
    ned: float
    psnr: float
    st_lpips: float


@dataclass(frozen=True)
class Found:
    """What is measured on a picture, and kept: all else follows from the readings."""

    reading: str
    own_text: str | None
    psnr: float
    st_lpips: float


class Scorer:
    """Measures pictures. ``key`` names what the figures depend on besides the pictures."""

    def __init__(self, judge: Reader, judge_name: str, perceptual: bool = True) -> None:
        self._judge = judge
        self._metric = PerceptualMetric() if perceptual else None
        metric = f"ST-LPIPS {version('stlpips-pytorch')}" if perceptual else NO_ST_LPIPS
        self.key = f"{judge_name}, {metric}"

    def measure(self, line: TestLine, output: Output) -> Found:
        """What a method's output for a line is worth; ``st_lpips`` is NaN where it is left out."""
        distance = self._metric(output.image, line.hr) if self._metric else float("nan")
        return Found(self._judge(output.image), output.text, psnr(output.image, line.hr), distance)


def score(line: TestLine, name: str, found: Found) -> Score:
    """The row of a line under the method ``name``."""
    entry = line.entry
    right, near = accuracy(found.reading, entry.text), ned(found.reading, entry.text)
    return Score(
        entry.index, entry.severity, entry.source, name, entry.text, found.reading, found.own_text,
        right, near, found.psnr, found.st_lpips,
    )  # fmt: skip


def hr_score(line: TestLine) -> Score:
    """The row of the line as it is in high resolution, as the judge read it when the test split was made."""
    return score(line, HR, Found(line.entry.hr_reading, None, psnr(line.hr, line.hr), 0.0))


def digest(line: TestLine) -> str:
    """Of both pictures: another test split, or one of other fonts, has other lines under the same numbers."""
    made = hashlib.sha256()
    for picture in (line.lr, line.hr):
        made.update(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes())
    return made.hexdigest()[:16]


class Store:
    """A file of `Found` by method and line, written line by line: a run that is cut, or repeated, goes on from it.

    Each row of JSON is ``{"method": digest, "key": what the digest is of}``, once, or ``{"method", "line", ...}``.
    """

    def __init__(self, path: Path | None) -> None:
        """Reads what is there; rows that cannot be read are told and measured again. None keeps nothing."""
        self._path = path
        self._found: dict[tuple[str, str], Found] = {}
        self._keys: set[str] = set()
        damaged = 0
        rows = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        for row in rows:
            try:
                data = json.loads(row)
                method, line = str(data.pop("method")), data.pop("line", None)
                if "key" in data:
                    self._keys.add(method)
                else:
                    self._found[method, str(line)] = Found(**data)
            except (ValueError, KeyError, TypeError, AttributeError):
                damaged += 1
        if damaged:
            logger.warning("%s: %d of %d rows are damaged and are measured again", path, damaged, len(rows))

    def get(self, key: str, line: str) -> Found | None:
        """What was found for a method's and scorer's ``key`` on a line's digest."""
        return self._found.get((_short(key), line))

    def put(self, key: str, line: str, found: Found) -> None:
        """Keeps it, on disk at once."""
        method = _short(key)
        self._found[method, line] = found
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        rows = [] if method in self._keys else [{"method": method, "key": key}]
        self._keys.add(method)
        with self._path.open("a", encoding="utf-8") as file:
            if file.tell() and not _ends_a_row(self._path):
                file.write("\n")
            for row in [*rows, {"method": method, "line": line, **asdict(found)}]:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _ends_a_row(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() == b"\n"


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]
