"""One line on its way through the `Restorer`: fitted, laid down, read, split into pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from runtime import orientation
from runtime.options import Options
from runtime.orientation import Laid
from runtime.recognizer import LineReader
from runtime.split import Limits, Window, windows
from runtime.stitch import merged, seen
from textsr import batch
from textsr.alphabet import Alphabet
from textsr.batch import GIVEN, NO_READER, NO_TEXT
from textsr.config import SCALE, Preset
from textsr.errors import InputError
from textsr.fit import FittedLine, fit_line, fit_window, wide_line
from textsr.linetext import LineText, line_text
from textsr.loop import LineBatch
from textsr.noise import image_key
from textsr.reading import LineReading


@dataclass(frozen=True)
class Piece:
    """What the network is shown of a line; ``number`` counts the line's pieces, ``own`` are the places of the
    characters of ``reading`` that are this piece's, not its neighbours'."""

    window: Window
    fitted: FittedLine
    number: int
    reading: LineReading | None = None
    own: range = range(0)


@dataclass(frozen=True)
class Line:
    """A good picture with what is known of it; ``place`` is its place in the caller's list."""

    place: int
    image: NDArray[np.uint8]
    laid: Laid
    key: bytes
    text: LineText | None = None  # given by the caller
    reading: LineReading | None = None
    reader: str = ""
    seconds: float = 0.0  # spent on reading it
    columns: int = 0  # of the fitted line
    pieces: tuple[Piece, ...] = field(default=())

    @property
    def told(self) -> str:
        """What the restoration is told it says; empty without a reading."""
        return self.reading.text if self.reading else ""

    @property
    def rated(self) -> bool:
        """Whether its confidences were measured, not taken to be 1 because the caller gave none."""
        return self.text is None or self.text.confidences is not None

    def retold(self, reading: LineReading | None) -> Line:
        """The same pieces with what ``reading`` (None: no text) says they show."""
        told = [(None, range(0)) if reading is None else seen(reading, p.window, self.columns) for p in self.pieces]
        pieces = [replace(p, reading=part, own=own) for p, (part, own) in zip(self.pieces, told, strict=True)]
        return replace(self, reading=reading, pieces=tuple(pieces))

    def remark(self, preset: Preset) -> str:
        """What the restoration lacks; empty where it lacks nothing."""
        if self.reading is None:
            return NO_READER
        if not self.reading.text:
            return NO_TEXT
        remarks = [batch.remark(piece.reading, preset.max_chars) for piece in self.pieces]
        return next((said for said in remarks if said and said != NO_TEXT), "")


def take(place: int, image: object, text: str | LineText | None) -> Line:
    """A picture with its text where one is given.

    :raises InputError: the picture or the text cannot be used.
    """
    if not isinstance(image, np.ndarray):
        raise InputError(f"images[{place}] must be an RGB array (h, w, 3) of type uint8, not {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or min(image.shape) < 1:
        raise InputError(
            f"a line is an RGB image (h, w, 3) of type uint8, at least one pixel, not {image.shape} of {image.dtype}: "
            "convert it first"
        )
    image = np.asarray(image)  # of a masked array or another kind the pixels alone
    given = line_text(text, place)
    if given is not None:
        given.reading(image)  # says now what is wrong with it
    return Line(place, image, orientation.whole(image), image_key(image), given)


def lay(lines: Sequence[Line], reader: LineReader | None, options: Options, preset: Preset) -> list[Line]:
    """The lines with tall crops laid down, by what the recogniser makes of them turned either way; see
    `runtime.options.Split.vertical`."""
    vertical = options.split.vertical
    tall = [line for line in lines if orientation.is_tall(line.image, vertical)]
    laid: dict[int, Laid] = {}
    readings: dict[int, LineReading] = {}
    ways = [[orientation.whole(line.image), *(orientation.turned(line.image, by) for by in (90, 270))] for line in tall]
    found = read_any(reader, [way.image for three in ways for way in three], preset)
    for number, (line, three) in enumerate(zip(tall, ways, strict=True)):
        three_readings = found[3 * number : 3 * number + 3]
        turn = orientation.choose_turn(line.image, three_readings) if reader is not None else 90
        chosen = (0, 90, 270).index(turn)
        laid[line.place], readings[line.place] = three[chosen], three_readings[chosen]
    if vertical in ("auto", "stack"):
        _stack([line for line in tall if laid[line.place].turned == 90], laid, readings, reader, options, preset)
    return [replace(line, laid=laid[line.place]) if line.place in laid else line for line in lines]


def _stack(
    lines: Sequence[Line],
    laid: dict[int, Laid],
    readings: dict[int, LineReading],
    reader: LineReader | None,
    options: Options,
    preset: Preset,
) -> None:
    """Lays out as rows what are columns of upright characters: proven by the recogniser, or asked for."""
    rows = [orientation.stacked(line.image, readings[line.place].centres, preset) for line in lines]
    asked = options.split.vertical == "stack"
    found = read_any(None if asked else reader, [row.image for row in rows], preset)
    for line, row, reading in zip(lines, rows, found, strict=True):
        if asked or orientation.stands_upright(reading, readings[line.place]):
            laid[line.place] = row


def read(lines: Sequence[Line], reader: LineReader | None, preset: Preset) -> list[Line]:
    """The lines with readings; those that came with a text keep it."""
    unread = [line for line in lines if line.text is None]
    found = read_any(reader, [line.laid.image for line in unread], preset) if reader is not None else []
    readings = dict(zip((line.place for line in unread), found, strict=False))
    name = reader.name if reader is not None else ""
    return [
        replace(line, reading=line.text.reading(line.laid.image), reader=GIVEN)
        if line.text is not None
        else replace(line, reading=readings.get(line.place), reader=name)
        for line in lines
    ]


def read_any(reader: LineReader | None, images: Sequence[NDArray[np.uint8]], preset: Preset) -> list[LineReading]:
    """Readings of upright pictures of any aspect: those wider than the reader's ``widest`` (width over height, where
    it has one) are read in windows. Empty ones without a reader."""
    if reader is None:
        return [LineReading("", (), ())] * len(images)
    widest = float(getattr(reader, "widest", np.inf))
    parts: list[tuple[Window, ...]] = []
    crops: list[NDArray[np.uint8]] = []
    columns: list[int] = []
    for image in images:
        found, count = _reading_windows(image, widest, preset)
        parts.append(found)
        columns.append(count)
        at = [[round(side * image.shape[1] / count) for side in (part.left, part.right)] for part in found]
        crops += [image] if len(found) == 1 else [image[:, left : max(right, left + 1)] for left, right in at]
    readings = iter(reader.read(crops)) if crops else iter(())
    return [
        merged([next(readings) for _ in found], found, count) if len(found) > 1 else next(readings)
        for found, count in zip(parts, columns, strict=True)
    ]


def _reading_windows(image: NDArray[np.uint8], widest: float, preset: Preset) -> tuple[tuple[Window, ...], int]:
    """The windows in which a picture is read, and the columns that they count in."""
    if image.shape[1] <= widest * image.shape[0]:
        return (Window(0, 1, 0, 1),), 1
    wide = wide_line(image, preset)
    rows = wide.shape[0]
    limits = Limits(int(widest * rows), preset.max_chars, rows // 2)
    return windows(wide, limits), wide.shape[1]


def split(line: Line, options: Options, preset: Preset) -> Line:
    """The line with its pieces: one where it is short enough, or splitting is off.

    :raises InputError: the crop is too long to be a line.
    """
    image, how = line.laid.image, options.split
    rows = preset.height // SCALE
    most = how.max_chars or preset.max_chars
    count = len(line.reading.text) if line.reading is not None else 0
    if not how.enabled or (image.shape[1] <= how.max_aspect * image.shape[0] and count <= most):
        return _unsplit(line, count, preset)
    wide = wide_line(image, preset)
    columns = wide.shape[1]
    centres = [centre * columns for centre in line.reading.centres] if line.reading is not None else []
    found = windows(wide, Limits(int(how.max_aspect * rows), most, round(how.overlap * rows)), centres)
    if len(found) == 1:
        return _unsplit(line, count, preset)
    fitted = [fit_window(wide, window.left, window.right, preset) for window in found]
    pieces = [Piece(window, part, number) for number, (window, part) in enumerate(zip(found, fitted, strict=True))]
    return replace(line, columns=columns, pieces=tuple(pieces)).retold(line.reading)


def _unsplit(line: Line, count: int, preset: Preset) -> Line:
    fitted = fit_line(line.laid.image, preset)
    columns = fitted.place.columns // SCALE
    piece = Piece(Window(0, columns, 0, columns), fitted, 0, line.reading, range(count))
    return replace(line, columns=columns, pieces=(piece,))


def line_batch(pieces: Sequence[tuple[Line, Piece]], alphabet: Alphabet, preset: Preset) -> LineBatch:
    """The arrays of `textsr.loop.LineBatch` for pieces of lines, at least one."""
    return batch.line_batch(
        [piece.fitted for _, piece in pieces],
        [line.key for line, _ in pieces],
        [piece.reading for _, piece in pieces],
        alphabet,
        preset,
        [piece.number for _, piece in pieces],
    )
