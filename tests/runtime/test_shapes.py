"""Crops of any shape in one call: order, long lines, and what is left alone with a reason."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from runtime import Gate, LineText, Split
from runtime.gate import detail, refuse_picture, refuse_reading
from runtime.lines import read_any
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_restorer
from textsr.config import TINY
from textsr.errors import InputError
from textsr.reading import LineReading, spread

TEXT = "The quick brown fox jumps over the lazy dog, 0123456789 times"


def long_line(text: str = TEXT, height: int = 24) -> NDArray[np.uint8]:
    return draw_line(text, height, round(len(text) * height * 0.42))


def test_a_long_line_is_split_restored_and_put_together() -> None:
    image = long_line()
    result = stub_restorer(KnowingReader(TEXT))([image], steps=2)[0]
    assert result.applied
    assert result.reason == ""
    assert len(result.pieces) > 4
    assert "".join(piece.text for piece in result.pieces) == result.text == TEXT
    assert result.image.shape == (96, image.shape[1] * 4, 3)
    assert result.pieces[0].left == result.pieces[0].core_left == 0
    assert result.pieces[-1].right == result.pieces[-1].core_right == image.shape[1]
    squeezed = stub_restorer(KnowingReader(TEXT))([image], steps=2, split=Split(enabled=False))[0]
    assert len(squeezed.pieces) == 1
    assert "only 24 are used" in squeezed.reason
    plain = image.repeat(4, axis=0).repeat(4, axis=1).astype(int)
    assert np.abs(result.image - plain).mean() < 0.7 * np.abs(squeezed.image - plain).mean()


def test_pieces_have_their_own_characters_and_noise() -> None:
    restorer = stub_restorer(KnowingReader(TEXT))
    result = restorer([long_line()], steps=1, batch_size=64)[0]
    assert isinstance(restorer.executor, StubExecutor)
    runs = dict(restorer.executor.runs)
    assert len(runs["vqgan_encoder"]["noise"]) == len(result.pieces)
    assert len({row.tobytes() for row in runs["vqgan_encoder"]["noise"]}) == len(result.pieces)
    alphabet = restorer.bundle.alphabet
    for piece, tokens in zip(result.pieces, runs["text_condition"]["tokens"], strict=True):
        told = alphabet.decode(tokens)
        assert piece.text in told
        assert told in TEXT
        assert len(told) < 24


def test_a_long_line_is_the_same_in_any_batch() -> None:
    images = [long_line(), draw_line(), long_line(TEXT[:40]), draw_line("x", 30, 30), long_line(TEXT[::-1])]
    restorer = stub_restorer(KnowingReader(TEXT))
    together = restorer(images, seed=4, batch_size=7, steps=2)
    for image, result in zip(images, together, strict=True):
        alone = restorer([image], seed=4, batch_size=1, steps=2)[0]
        assert (alone.image == result.image).all()
        assert alone.pieces == result.pieces


def test_lines_of_like_width_share_a_batch() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 32, 120, 3), np.uint8)
    images = [noise[place, :, : 30 + 90 * (place % 2)] for place in range(8)]
    restorer = stub_restorer()
    results = restorer(images, steps=1, batch_size=4)
    assert [result.image.shape[1] for result in results] == [4 * image.shape[1] for image in images]
    assert isinstance(restorer.executor, StubExecutor)
    batches = [inputs["image"] for graph, inputs in restorer.executor.runs if graph == "vqgan_encoder"]
    padded = [(np.abs(np.diff(batch[:, :, :, 240:])) < 1e-4).all(axis=(1, 2, 3)).tolist() for batch in batches]
    assert padded == [[True] * 4, [False] * 4]


def test_without_text_the_picture_says_where_to_split() -> None:
    result = stub_restorer()([long_line()], steps=1)[0]
    assert result.applied
    assert len(result.pieces) > 4
    given = stub_restorer()([long_line()], [LineText(TEXT)], steps=1)[0]
    assert "".join(piece.text for piece in given.pieces) == TEXT


def test_sampled_text_of_pieces_is_put_together() -> None:
    restorer = stub_restorer(KnowingReader(TEXT))
    result = restorer([long_line()], steps=1, text_sampler="categorical")[0]
    assert "".join(piece.text for piece in result.pieces) == result.text
    assert len(result.tokens) == 24 * len(result.pieces)
    own = sum(len(piece.text) for piece in result.pieces[:-1])
    assert own <= len(TEXT)


class NarrowReader:
    """Reads a dark bar as "l", and nothing wider than four to one."""

    name, widest = "narrow", 4.0

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        self.shapes += [image.shape for image in images]
        return [self._read(image) for image in images]

    def _read(self, image: NDArray[np.uint8]) -> LineReading:
        dark = np.pad((image.mean(axis=(0, 2)) < 150).astype(int), 1)
        starts, ends = np.flatnonzero(np.diff(dark) == 1), np.flatnonzero(np.diff(dark) == -1)
        centres = tuple(((starts + ends) / 2 / image.shape[1]).tolist())
        return LineReading("l" * len(centres), (0.9,) * len(centres), centres)


def test_a_reader_with_a_limit_reads_long_lines_in_parts() -> None:
    image = np.full((32, 900, 3), 230, np.uint8)
    for place in range(60):
        image[4:28, 10 + place * 15 : 15 + place * 15] = 30
    reader = NarrowReader()
    found = read_any(reader, [image, image[:, :100]], TINY)
    assert len(found[0].text) == 60
    assert list(found[0].centres) == sorted(found[0].centres)
    assert found[1].text == "l" * 6
    assert len(reader.shapes) > 8
    assert all(shape[1] <= 4.1 * shape[0] for shape in reader.shapes)


def test_what_restoring_cannot_help_is_left_alone() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (200, 600, 3), np.uint8)
    images = [draw_line("Hi", 8, 40), sharp, np.full((24, 80, 3), 77, np.uint8), draw_line()]
    reader = KnowingReader()
    results = stub_restorer(reader)(images, steps=1)
    assert [result.cause for result in results] == ["too_low", "sharp", "blank", ""]
    assert [result.applied for result in results] == [False] * 3 + [True]
    assert all(result.reason for result in results[:3])
    assert [result.image.shape[:2] for result in results] == [(32, 160), (800, 2400), (96, 320), (96, 480)]
    assert reader.images == 1
    assert all(result.applied for result in stub_restorer()(images, steps=1, gate=Gate.off()))


def test_a_large_but_blurred_line_is_restored() -> None:
    small = Image.fromarray(draw_line("Hello", 24, 90))
    blurred = np.asarray(small.resize((720, 192), Image.Resampling.BICUBIC))
    assert refuse_picture(blurred, Gate(), TINY) is None
    sharp = np.asarray(draw_line("Hello", 192, 720))
    assert detail(sharp, TINY) > 2 * detail(blurred, TINY)
    refused = refuse_picture(sharp, Gate(), TINY)
    assert refused is not None
    assert refused[0] == "sharp"


def test_what_is_read_well_is_left_alone_if_asked() -> None:
    line, reader = draw_line(), KnowingReader()  # confidences of 0.9
    restorer = stub_restorer(reader)
    assert restorer([line], steps=1)[0].applied
    assert restorer([line], steps=1, gate=Gate(max_confidence=0.95))[0].applied
    skipped = restorer([line], steps=1, gate=Gate(max_confidence=0.9))[0]
    assert (skipped.applied, skipped.cause, skipped.text) == (False, "read_well", "Hello 42")
    texts: list[str | LineText] = [LineText("AB"), LineText("AB", (1.0, 0.99)), LineText("AB", (1.0, 0.5)), ""]
    results = restorer([line] * 4, texts, steps=1, gate=Gate(max_confidence=0.9))
    assert [result.cause for result in results] == ["", "read_well", "", ""]
    assert refuse_reading(LineReading("a", (1.0,), spread("a")), Gate.off()) is None


def test_shapes_out_of_reason() -> None:
    strip = np.random.default_rng(0).integers(0, 256, (1, 700, 3), np.uint8)
    result = stub_restorer()([strip, draw_line()], steps=1, gate=Gate.off())
    assert [found.cause for found in result] == ["input", ""]
    assert result[0].image.shape == (4, 2800, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"split": Split(max_aspect=5)},
        {"split": Split(max_chars=25)},
        {"split": Split(overlap=0.6)},
        {"split": Split(vertical="down")},  # type: ignore[arg-type]
        {"gate": Gate(min_height=-1)},
        {"gate": Gate(max_detail=0)},
        {"gate": Gate(max_confidence=1.5)},
        {"deadline_ms": 0},
    ],
)
def test_options_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        stub_restorer()([draw_line()], **options)  # type: ignore[arg-type]
