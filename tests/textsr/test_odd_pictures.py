"""Odd, damaged and hostile picture files: what each gives, in how much memory."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from tests import odd_pictures
from tests.runtime.helpers import draw_line
from textsr.errors import InputError
from textsr.images import MAX_BYTES, decode_image, image_size, load_image

REFUSED, READ = odd_pictures.refused(), odd_pictures.read()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(tmp_path: Path, name: str) -> None:
    data, reason = REFUSED[name]
    path = tmp_path / "line.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match=reason):
        load_image(path)
    with pytest.raises(InputError, match=reason):
        decode_image(data)


@pytest.mark.parametrize("name", READ)
def test_what_is_read_is_what_a_viewer_shows(name: str) -> None:
    data, size, first, last = READ[name]
    found = decode_image(data)
    assert found.dtype == np.uint8
    assert found.shape == (*size, 3)
    assert image_size(data) == size
    np.testing.assert_allclose([found[0, 0].mean(), found[-1, -1].mean()], [first, last], atol=3)


@pytest.mark.parametrize("name", ["animated png", "animated webp", "pages", "mpo"])
def test_that_the_first_of_several_is_taken_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / "several.png").write_bytes(READ[name][0])
    load_image(tmp_path / "several.png")
    assert [(record.levelno, "several.png: has several pictures" in record.message) for record in caplog.records] == [
        (logging.WARNING, True)
    ]


def test_every_flipped_byte_of_a_png_is_refused_or_harmless() -> None:
    whole = odd_pictures.encoded(draw_line("Hi", 12, 30), "PNG")
    right = decode_image(whole)
    for place in range(len(whole)):
        try:
            found = decode_image(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        except InputError:
            continue
        np.testing.assert_array_equal(found, right)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    places = [tmp_path / "pipe.png", tmp_path / "folder.png", Path("/dev/zero"), Path("/dev/stdin")]
    places += [tmp_path / "loop.png", tmp_path / ("x" * 300), tmp_path / "a\0b", tmp_path / "\ud800.png"]
    said: list[str] = []

    def read() -> None:
        for path in places:
            for reader in (load_image, image_size):
                with pytest.raises(InputError) as error:
                    reader(path)
                said.append(str(error.value))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert len(said) == 2 * len(places)
    assert said[:6] == ["cannot be read: this is no file"] * 6


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "long.webp").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match=f"more than {MAX_BYTES} bytes"):
        load_image(tmp_path / "long.webp")


def test_a_file_that_is_swapped_while_it_is_read_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened, before = tmp_path / "line.png", [], os.open
    path.write_bytes(READ["png"][0])

    def counted(name: Path, *options: int) -> int:
        opened.append(name)
        return before(name, *options)

    monkeypatch.setattr(os, "open", counted)
    load_image(path)
    assert opened == [path]
