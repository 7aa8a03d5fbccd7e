"""From what the network gave to the result: pieces blended, cut to the crop's shape, stood up again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.gate import NOT_FINITE, Refusal
from runtime.judging import Candidate, Guard
from runtime.lines import Line, Piece
from runtime.options import Options, Way
from runtime.orientation import sureness
from runtime.recognizer import LineReader
from runtime.result import Result, ResultPiece, enlarged
from runtime.stitch import blended
from textsr.alphabet import Alphabet
from textsr.config import Preset
from textsr.fit import resample, resample_uint8, to_uint8, unfit_window, unpadded
from textsr.loop import Executor, LoopOutput
from textsr.painting import strokes
from textsr.reading import conditions


@dataclass(frozen=True)
class Tools:
    """What a call works with: the restorer's parts as they were when it began."""

    executor: Executor
    preset: Preset
    alphabet: Alphabet
    reader: LineReader | None
    guard: Guard | None
    proofreader: LineReader | None = None


@dataclass(frozen=True)
class Layers:
    """A line's input and what it is enlarged by, its restoration by the network, (h, w, 3) uint8, and the strokes of
    what was read, (h, w, 3) float32 in units of [-1, 1], None without any."""

    image: NDArray[np.uint8]
    scale: float
    restored: NDArray[np.uint8]
    strokes: NDArray[np.float32] | None

    @cached_property
    def input(self) -> NDArray[np.uint8]:
        """The enlarged input (h, w, 3)."""
        return enlarged(self.image, self.scale)

    def shown(self, way: Way) -> NDArray[np.uint8]:
        """The strength of ``way`` of the restored line and the rest of the input, and its paint times the strokes on
        top.

        What the network paints wrong is paler in it, and what the input shows remains: see `Preset.default_strength`.
        """
        if way.strength == 1 and self.strokes is None:
            return self.restored
        mixed = (1 - way.strength) * self.input.astype(np.float32) + way.strength * self.restored.astype(np.float32)
        if self.strokes is not None:
            mixed += np.float32(127.5 * way.paint) * self.strokes
        return np.rint(mixed).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Shown:
    """How a line is shown: ``options`` with its strength and paint, ``picture`` upright where it has been made
    already, and how surely (0..1) the proofreader reads in it what was told, None without one."""

    options: Options
    picture: NDArray[np.uint8] | None = None
    sure: float | None = None


@dataclass
class Restored:
    """What came out for a line's pieces so far: pictures (H, W, 3) float32 in [-1, 1], what is painted on them, and
    tokens; and the seconds that it took, and that `runtime.proofreading` took."""

    line: Line
    parts: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    strokes: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    tokens: dict[int, tuple[int, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    proofreading: float = 0.0
    executor: str = ""

    def add(self, piece: Piece, output: LoopOutput, place: int, seconds: float, tools: Tools, options: Options) -> None:
        """Takes a piece's part of a batch's output, and paints it where ``options`` want it."""
        self.parts[piece.number] = np.ascontiguousarray(output.image[place].transpose(1, 2, 0))
        if options.paint and piece.reading:
            self.strokes[piece.number] = painted(piece, output.tokens[place], tools)
        self.tokens[piece.number] = tuple(int(token) for token in output.tokens[place])
        self.seconds += seconds
        self.executor = output.executor

    @property
    def whole(self) -> bool:
        """Whether all pieces are there."""
        return len(self.parts) == len(self.line.pieces)

    @property
    def finite(self) -> bool:
        """Whether all their numbers are."""
        return all(bool(np.isfinite(part).all()) for part in self.parts.values())

    def picture(self, options: Options) -> NDArray[np.uint8]:
        """The restored line, upright, at the scale that `runtime.orientation.Laid.back` wants, as strong as asked."""
        return self.layers(options).shown(options.way)

    def layers(self, options: Options) -> Layers:
        """What the restored line is made of, upright, at that scale."""
        scale = self.line.laid.restored_scale or options.scale
        height, width = (max(1, round(side * scale)) for side in self.line.laid.image.shape[:2])
        restored = resample_uint8(self._joined(self.parts, options), height, width, to_uint8)
        strokes = resample(self._joined(self.strokes, options), height, width) if self.strokes else None
        return Layers(self.line.laid.image, scale, restored, strokes)

    def _joined(self, parts: Mapping[int, NDArray[np.float32]], options: Options) -> NDArray[np.float32]:
        """The line (H, w, 3) of what its pieces are, 0 where a piece is none."""
        pieces = self.line.pieces
        if len(pieces) == 1:
            return unpadded(parts[0], pieces[0].fitted)
        blank = np.zeros_like(self.parts[0])
        shown = [unfit_window(parts.get(piece.number, blank), piece.fitted) for piece in pieces]
        rows = pieces[0].fitted.lq.shape[0]
        return blended(shown, [piece.window for piece in pieces], options.split.blend * rows)

    def candidate(self, result: Result, shown: Shown) -> Candidate:
        """The line as a guard sees it."""
        line = self.line
        as_is = line.laid.image is line.image
        restored = result.image if as_is else self.upright(shown)
        return Candidate(line.place, line.laid.image, restored, line.reading, line.reader, result.text, shown.sure)

    def upright(self, shown: Shown) -> NDArray[np.uint8]:
        """The picture of `Shown`, made where it is not there yet."""
        return self.picture(shown.options) if shown.picture is None else shown.picture


def painted(piece: Piece, tokens: NDArray[np.int64], tools: Tools) -> NDArray[np.float32]:
    """The strokes of ``tokens`` at the places where the piece's reading has its characters: (H, W, 3)."""
    text = conditions(piece.reading, tools.alphabet, piece.fitted.place, tools.preset.max_chars)
    picture = piece.fitted.lq.transpose(2, 0, 1)
    return strokes(replace(text, tokens=tokens), picture, piece.fitted.width_share, tools.preset)


def finish(done: Restored, tools: Tools, shown: Shown) -> Result:
    """The result of a line whose pieces are all there."""
    options = shown.options
    begin = time.perf_counter()
    line, executor = done.line, done.executor or tools.executor.name
    if done.finite:
        picture = line.laid.back(done.upright(shown), options.scale)
        reason, cause = line.remark(tools.preset), ""
    else:
        picture = enlarged(line.image, options.scale)
        reason, cause = f"the network's output on {executor} is not finite", NOT_FINITE
    texts = _texts(done, tools, options)
    return Result(
        image=picture,
        applied=not cause,
        reason=reason,
        cause=cause,
        timings=_timings(done, time.perf_counter() - begin),
        executor=executor,
        tokens=tuple(token for number in sorted(done.tokens) for token in done.tokens[number]),
        steps=options.steps or tools.preset.schedule.steps,
        strength=options.way.strength,
        paint=options.way.paint,
        pieces=_pieces(line, texts),
        **_told(line, options, told_text(done, tools, options)),
    )


def _timings(done: Restored, finishing: float) -> dict[str, float]:
    proofreading = {"proofread": done.proofreading} if done.proofreading else {}
    return {"read": done.line.seconds, "restore": done.seconds, **proofreading, "finish": finishing}


def told_text(done: Restored, tools: Tools, options: Options) -> str:
    """What the restoration was told the line says, or what the text diffusion made of it."""
    return "".join(_texts(done, tools, options)) if options.text_sampler == "categorical" else done.line.told


def untouched(line: Line, refusal: Refusal, options: Options) -> Result:
    """The result of a line that is left as it came, enlarged."""
    cause, reason = refusal
    timings = {"read": line.seconds, "restore": 0.0, "finish": 0.0}
    picture = enlarged(line.image, options.scale)
    return Result(picture, reason=reason, cause=cause, timings=timings, **_told(line, options, line.told))


def _told(line: Line, options: Options, text: str) -> dict[str, Any]:
    """What a result says of the line's reading, of which ``text`` was made, and of how it was laid down."""
    reading = line.reading
    return {
        "text": text,
        "confidence": sureness(reading) if reading else 0.0,
        "confidences": reading.confidences if reading else (),
        "centres": line.laid.centres(reading) if reading else (),
        "reader": line.reader,
        "seed": options.seed,
        "turned": line.laid.turned,
        "stacked": bool(line.laid.cells),
    }


def _pieces(line: Line, texts: Sequence[str]) -> tuple[ResultPiece, ...]:
    share = line.laid.image.shape[1] / line.columns
    made = []
    for piece, text in zip(line.pieces, texts, strict=True):
        at = piece.window
        left, right, first, last = (round(side * share) for side in (at.left, at.right, at.core_left, at.core_right))
        made.append(ResultPiece(left, right, first, last, text))
    return tuple(made)


def _texts(done: Restored, tools: Tools, options: Options) -> list[str]:
    """Each piece's own characters: as read or given, or what the text diffusion made of them where that ran."""
    pieces = done.line.pieces
    if options.text_sampler != "categorical":
        return [piece.reading.text[piece.own.start : piece.own.stop] if piece.reading else "" for piece in pieces]
    texts: list[str] = []
    for piece in pieces:
        tokens = done.tokens[piece.number]
        if piece.reading and piece.reading.text:  # what was inserted behind the last character is the last piece's
            tokens = tokens[piece.own.start :] if piece is pieces[-1] else tokens[piece.own.start : piece.own.stop]
            texts.append(tools.alphabet.decode(tokens))
        else:
            texts.append(_without_overlap(texts[-1] if texts else "", tools.alphabet.decode(tokens)))
    return texts


def _without_overlap(before: str, text: str) -> str:
    """``text`` without the beginning that it shares with the end of ``before``: there pieces overlap."""
    longest = next((count for count in range(min(len(before), len(text)), 0, -1) if before.endswith(text[:count])), 0)
    return text[longest:]
