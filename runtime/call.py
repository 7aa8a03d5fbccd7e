"""One call of the `Restorer`: pictures to results. Holds what the call knows, so that the restorer holds nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runtime import gate
from runtime.deadline import Deadline, DeadlinePassed
from runtime.events import Event
from runtime.finish import Restored, Shown, Tools, finish, untouched
from runtime.gate import Refusal
from runtime.judging import Candidate
from runtime.lines import Line, Piece, lay, line_batch, read, read_any, split, take
from runtime.options import Options
from runtime.proofreading import AS_IS, proofread
from runtime.recognizer import LineReader
from runtime.result import Result, enlarged
from textsr.errors import EngineError, InputError
from textsr.linetext import LineText
from textsr.loop import LoopOutput, restore
from textsr.reading import LineReading

Tell = Callable[[Event], None]


class Call:
    """Restores one list of pictures. Used once, by one thread."""

    def __init__(self, tools: Tools, options: Options, deadline: Deadline, tell: Tell, number: int = 0) -> None:
        self.tools, self.options, self.deadline, self.number = tools, options, deadline, number
        self._tell = tell
        self.results: dict[int, Result] = {}
        self.pieces = 0

    def run(
        self, images: Sequence[NDArray[np.uint8]], texts: Sequence[str | LineText | None] | None, *, in_time: bool
    ) -> list[Result]:
        """One result an image, in order; all untouched unless ``in_time``."""
        lines = self._taken(images, texts)
        if in_time:
            lines = self._read(self._let_in(lines))
            lines = self._refused(lines, lambda line: self._worth(line))
            restored = self._restore(self._split(lines))
            self._judge(restored)
        else:
            self._late(lines)
        return [self.results[place] for place in range(len(images))]

    def causes(self) -> dict[str, int]:
        """How many results were not applied, by cause."""
        return dict(Counter(result.cause for result in self.results.values() if not result.applied))

    def _taken(self, images: Sequence[NDArray[np.uint8]], texts: Sequence[str | LineText | None] | None) -> list[Line]:
        lines = []
        for place, image in enumerate(images):
            try:
                lines.append(take(place, image, None if texts is None else texts[place]))
            except InputError as error:
                picture = enlarged(image, self.options.scale)
                self.results[place] = Result(picture, reason=str(error), seed=self.options.seed, cause=gate.INPUT)
        return lines

    def _refuse(self, line: Line, refusal: Refusal) -> None:
        self.results[line.place] = untouched(line, refusal, self.options)

    def _late(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._refuse(line, (gate.DEADLINE, f"not done within {self.options.deadline_ms:g} ms: returned as it came"))

    def _refused(self, lines: Iterable[Line], why: Callable[[Line], Refusal | None]) -> list[Line]:
        """The lines but for those that are left alone, whose results are made."""
        kept = []
        for line in lines:
            refusal = why(line)
            if refusal is None:
                kept.append(line)
            else:
                self._refuse(line, refusal)
        return kept

    def _let_in(self, lines: list[Line]) -> list[Line]:
        """Without those whose looks say that restoring is of no use; they are not even read."""
        how, preset = self.options.gate, self.tools.preset

        def looks(line: Line) -> Refusal | None:
            image = line.image
            tall = self.options.split.vertical != "off" and image.shape[0] > image.shape[1]
            return gate.refuse_picture(np.rot90(image) if tall else image, how, preset)

        return self._refused(lines, looks)

    def _worth(self, line: Line) -> Refusal | None:
        return gate.refuse_reading(line.reading, self.options.gate) if line.rated else None

    def _read(self, lines: list[Line]) -> list[Line]:
        """The lines laid down and read, in groups of like aspect so that a deadline is seen between them."""
        ordered = sorted(lines, key=lambda line: (line.image.shape[1] / line.image.shape[0], line.place))
        size = self.options.batch_size if self.options.deadline_ms is not None else max(1, len(ordered))
        done: list[Line] = []
        for start in range(0, len(ordered), size):
            chunk = ordered[start : start + size]
            if self.deadline.left() == 0:
                self._late(ordered[start:])
                break
            begin = time.perf_counter()
            preset, reader = self.tools.preset, self.tools.reader
            found = read(lay(chunk, reader, self.options, preset), reader, preset)
            seconds = time.perf_counter() - begin
            done += [replace(line, seconds=seconds / len(chunk)) for line in found]
            self._tell(Event("read", self.number, lines=len(chunk), seconds=seconds))
        return done

    def _split(self, lines: list[Line]) -> list[Line]:
        done = []
        for line in lines:
            try:
                done.append(split(line, self.options, self.tools.preset))
            except InputError as error:
                self._refuse(line, (gate.INPUT, str(error)))
        return done

    def _restore(self, lines: list[Line]) -> list[Restored]:
        """The lines restored, in batches of pieces of like width; those not done in time get their results."""
        lines = sorted(lines, key=lambda line: (min(piece.fitted.width_share for piece in line.pieces), line.place))
        found = {line.place: Restored(line) for line in lines}
        try:
            for batch, output, seconds in self._batches(lines, self.options):
                for place, (line, piece) in enumerate(batch):
                    found[line.place].add(piece, output, place, seconds / len(batch), self.tools, self.options)
        except DeadlinePassed:
            self._late(line for line in lines if not found[line.place].whole)
        return [found[line.place] for line in lines if line.place not in self.results]

    def _batches(
        self, lines: Sequence[Line], options: Options
    ) -> Iterable[tuple[list[tuple[Line, Piece]], LoopOutput, float]]:
        """Batches of the lines' pieces, in order, each with what came out and how long it took.

        :raises DeadlinePassed: there is no time for the next one.
        """
        pieces = [(line, piece) for line in lines for piece in line.pieces]
        for start in range(0, len(pieces), options.batch_size):
            batch = pieces[start : start + options.batch_size]
            self.deadline.check()
            begin = time.perf_counter()
            arrays = line_batch(batch, self.tools.alphabet, self.tools.preset)
            output = restore(
                self.tools.executor, self.tools.preset, arrays, seed=options.seed, steps=options.steps,
                text_sampler=options.text_sampler, check=self.deadline.check,
            )  # fmt: skip
            seconds = time.perf_counter() - begin
            self.pieces += len(batch)
            count = len({line.place for line, _ in batch})
            name = output.executor or self.tools.executor.name
            self._tell(Event("restore", self.number, lines=count, pieces=len(batch), seconds=seconds, executor=name))
            yield batch, output, seconds

    def _proofread(self, restored: list[Restored]) -> dict[int, Shown]:
        """How each line is shown, by its place.

        :raises DeadlinePassed: there is no time to find out.
        """
        wanted = self.options.proofread or (self.tools.guard is not None and self.options.guarded)
        if not wanted or self.tools.proofreader is None:
            return {done.line.place: Shown(self.options) for done in restored}
        shown: dict[int, Shown] = {}
        for start in range(0, len(restored), self.options.batch_size):
            chunk = restored[start : start + self.options.batch_size]
            self.deadline.check()
            begin = time.perf_counter()
            found = proofread(chunk, self.tools, self.options)
            seconds = time.perf_counter() - begin
            for done, one in zip(chunk, found, strict=True):
                shown[done.line.place] = one
                done.proofreading = seconds / len(chunk)
            self._tell(Event("proofread", self.number, lines=len(chunk), seconds=seconds))
        return shown

    def _judge(self, restored: list[Restored]) -> None:
        """Makes the results, those that the guard does not let through untouched."""
        try:
            shown = self._proofread(restored)
        except DeadlinePassed:
            self._late(done.line for done in restored)
            return
        for done in restored:
            place = done.line.place
            if self.options.proofread and shown[place].options.way == AS_IS:
                self._refuse(done.line, (gate.PROOF, "restored, it is read less surely as what it says"))
            else:
                self.results[place] = finish(done, self.tools, shown[place])
        guard = self.tools.guard if self.options.guarded else None
        judged = [done for done in restored if self.results[done.line.place].applied]
        if guard is None or not judged:
            return
        begin = time.perf_counter()
        candidates = [done.candidate(self.results[done.line.place], shown[done.line.place]) for done in judged]
        try:
            verdicts = guard.judge(candidates, AgainIn(self, {done.line.place: done.line for done in judged}))
        except DeadlinePassed:
            self._late(done.line for done in judged)
            return
        if len(verdicts) != len(candidates):
            raise EngineError(f"the guard gave {len(verdicts)} verdicts on {len(candidates)} lines")
        seconds = time.perf_counter() - begin
        for done, verdict in zip(judged, verdicts, strict=True):
            result = self.results[done.line.place]
            if not verdict.applied:
                untold = untouched(done.line, (gate.GUARD, verdict.reason), self.options)
                result = replace(
                    result, image=untold.image, applied=False, reason=verdict.reason, cause=gate.GUARD
                )  # fmt: skip
            elif verdict.reason:  # applied, but the guard has something to say
                result = replace(result, reason="; ".join(part for part in (result.reason, verdict.reason) if part))
            timings = {**result.timings, "guard": seconds / len(judged)}
            self.results[done.line.place] = replace(result, evidence=dict(verdict.evidence), timings=timings)
        passed = sum(verdict.applied for verdict in verdicts)
        self._tell(Event("guard", self.number, lines=len(judged), applied=passed, seconds=seconds))


@dataclass(frozen=True)
class AgainIn:
    """A `runtime.judging.Again` within a call; ``lines`` by their places."""

    call: Call
    lines: dict[int, Line]

    @property
    def reader(self) -> LineReader | None:
        """See `runtime.judging.Again`."""
        return self.call.tools.reader

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        """See `runtime.judging.Again`."""
        self.call.deadline.check()
        return read_any(self.reader, images, self.call.tools.preset)

    def __call__(
        self, candidates: Sequence[Candidate], readings: Sequence[LineReading | None], *, steps: int | None = None
    ) -> list[NDArray[np.uint8]]:
        """See `runtime.judging.Again`."""
        options = replace(self.call.options, steps=self.call.options.steps if steps is None else steps)
        lines = [
            self.lines[candidate.place].retold(reading) for candidate, reading in zip(candidates, readings, strict=True)
        ]
        found = {line.place: Restored(line) for line in lines}
        for batch, output, seconds in self.call._batches(lines, options):
            for place, (line, piece) in enumerate(batch):
                found[line.place].add(piece, output, place, seconds / len(batch), self.call.tools, options)
        return [found[line.place].picture(options) for line in lines]
