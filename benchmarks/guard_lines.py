"""What is recorded of a line for `benchmarks.guard`: all the evidence, and what the judge reads before and after."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from runtime import Restorer
from runtime.guard import Evidence, Guard, GuardOptions
from runtime.judging import Again, Candidate, Verdict
from runtime.recognizer import PPOCRReader
from textsr.errors import InputError
from train.data.spec import open_data
from train.evaluation.degradation import enlarge
from train.evaluation.lines import Setting, prepare
from train.metrics import accuracy

BATCH = 8

RatedReader = Callable[[NDArray[np.uint8]], tuple[str, float]]
"""A judge: text and mean confidence of an RGB line (h, w, 3) uint8."""


@dataclass(frozen=True)
class GuardLine:
    """A low-resolution line (h, w, 3) uint8 RGB with what it says."""

    index: int
    truth: str
    severity: str
    lr: NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """A line restored without a guard, and what a guard would have known.

    ``input_reading`` is the judge's of the bicubically enlarged line, ``reading`` with ``confidence`` (0..1) of the
    restored one. ``evidence`` is None where the gate let the line through untouched: its two readings are the same.
    ``restore_seconds`` and ``guard_seconds``: CPU seconds of restoring (reading included) and of all the evidence.
    """

    index: int
    truth: str
    severity: str
    input_reading: str
    reading: str
    confidence: float
    evidence: Evidence | None
    restore_seconds: float
    guard_seconds: float

    @property
    def input_right(self) -> bool:
        """Whether the judge reads the enlarged input right."""
        return bool(accuracy(self.input_reading, self.truth))

    @property
    def right(self) -> bool:
        """Whether the judge reads the restored line right."""
        return bool(accuracy(self.reading, self.truth))


class Recorder:
    """A guard that gathers all evidence and lets everything through."""

    def __init__(self) -> None:
        self._guard = Guard(GuardOptions(complete=True))
        self.seconds = 0.0

    def judge(self, candidates: Sequence[Candidate], again: Again) -> list[Verdict]:
        """See `runtime.judging.Guard`."""
        begin = time.process_time()
        found = [Verdict(True, "", evidence.plain()) for evidence in self._guard.gather(candidates, again)]
        self.seconds += time.process_time() - begin
        return found


def record(
    lines: Iterable[GuardLine], restorer: Restorer, judge: RatedReader, steps: int, seed: int, count: int
) -> Iterator[Row]:
    """Rows of ``lines`` in order, restored in batches; ``restorer`` gets a guard that records."""
    recorder = Recorder()
    restorer.guard = recorder
    with tqdm(total=count, desc="guard", unit="line") as bar:
        for batch in _batches(lines):
            begin, before = time.process_time(), recorder.seconds
            results = restorer([line.lr for line in batch], steps=steps, seed=seed, batch_size=BATCH)
            guarding = recorder.seconds - before
            restoring = time.process_time() - begin - guarding
            shares = restoring / len(batch), guarding / len(batch)
            for line, result in zip(batch, results, strict=True):
                evidence = evidence_of(result.evidence) if result.applied else None
                reading, confidence = judge(result.image)
                first = judge(enlarge(line.lr))[0] if result.applied else reading
                yield Row(line.index, line.truth, line.severity, first, reading, confidence, evidence, *shares)
            bar.update(len(batch))


def _batches(lines: Iterable[GuardLine]) -> Iterator[list[GuardLine]]:
    batch: list[GuardLine] = []
    for line in lines:
        batch.append(line)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def evidence_of(plain: Any) -> Evidence:
    """`Evidence.plain` undone, but for its rounding."""
    known = {field.name for field in fields(Evidence)}
    made = {name: value for name, value in plain.items() if name in known}
    return Evidence(**{**made, "witnesses": tuple(made["witnesses"])})


def validation_lines(spec: str, judge: RatedReader, start: int = 0, seed: int = 0) -> Iterator[GuardLine]:
    """Lines of a data set (see `train.data.spec`) from place ``start`` on, lowered as the test's are.

    Lines that ``judge`` misreads in high resolution are passed over: the test split's are drawn until its judge reads
    them, and what is read wrong in any case says nothing about a restoration.
    """
    data = open_data(spec)
    for line in prepare((data[place] for place in range(len(data))), Setting("x4", 4), seed):
        if line.index >= start and accuracy(judge(line.hr)[0], line.text):
            yield GuardLine(line.index, line.text, line.group, line.lr)


def model_judge(model: Path) -> RatedReader:
    """A judge from an ONNX file of PP-OCR's recogniser: for choosing thresholds, which PP-OCRv4 may not be used for."""
    reader = PPOCRReader(model, threads=1)

    def read(image: NDArray[np.uint8]) -> tuple[str, float]:
        found = reader.read([image])[0]
        return found.text, float(np.mean(found.confidences)) if found.confidences else 0.0

    return read


class Rows:
    """Rows kept in a file between runs; a file of another ``key`` is refused."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key

    def read(self) -> list[Row]:
        """The rows that are there. Raises InputError where they are of other lines, weights or judge."""
        if not self._path.exists():
            return []
        try:
            head, *rows = [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]
            if head["key"] != self._key:
                raise InputError(f"{self._path} holds rows of another run ({head['key']}): give another --out")
            return [
                Row(**{**row, "evidence": evidence_of(row["evidence"]) if row["evidence"] else None}) for row in rows
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._path}: is no file of benchmarks.guard ({error}); delete it") from error

    def add(self, rows: Iterable[Row]) -> None:
        """Writes rows behind those that are there, each as it comes."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            draft = self._path.with_name(self._path.name + ".part")
            draft.write_text(json.dumps({"key": self._key}) + "\n", encoding="utf-8")
            os.replace(draft, self._path)
        with self._path.open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
                file.flush()
