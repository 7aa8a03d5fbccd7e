"""Renderer of lines: texts, fonts, layout, pools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from textsr.errors import InputError
from train import fonts, pool
from train.render import HEIGHT, WIDTH, RenderAssets, RenderSpec, render_line
from train.render_colour import calm, ink_colour, load_pictures, luma
from train.render_layout import Warp, _bend, _unbend, set_row
from train.words import KINDS, default_symbols, in_split

needs_fonts = pytest.mark.skipif(
    not any(face.script == "han" for face in fonts.discover(split="train"))
    or not any(face.script == "han" for face in fonts.discover(split="test")),
    reason="no Chinese fonts of both splits on this machine (Debian fonts-noto-cjk, fonts-wqy-microhei, ...)",
)


@pytest.fixture(scope="module")
def assets() -> RenderAssets:
    return RenderAssets.load("train", default_symbols(), picture_folders=())


@pytest.fixture(scope="module")
def held_out() -> RenderAssets:
    return RenderAssets.load("test", default_symbols(), picture_folders=())


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_table_has_enough_families_and_no_file_is_in_both_splits() -> None:
    han = [family for family in fonts.FAMILIES if family.script == "han"]
    assert len(han) >= 12
    assert len({family.style for family in han}) >= 6
    files = {
        split: {f for family in fonts.FAMILIES if family.split == split for f in family.files}
        for split in ("train", "test")
    }
    assert not files["train"] & files["test"]
    assert len({family.name for family in fonts.FAMILIES}) == len(fonts.FAMILIES)


def test_missing_fonts_are_an_error_that_says_what_to_install() -> None:
    with pytest.raises(InputError, match="fonts-noto-cjk"):
        fonts.require([], 1)


@needs_fonts
def test_lines_depend_on_the_seed_alone(assets: RenderAssets) -> None:
    first, again, other = (render_line(_rng(seed), assets) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.text, first.font, first.kind) == (again.text, again.font, again.kind)
    np.testing.assert_array_equal(first.centres, again.centres)
    assert first.image.shape != other.image.shape or (first.image != other.image).any()


@needs_fonts
def test_lines_are_within_their_bounds(assets: RenderAssets) -> None:
    symbols = default_symbols()
    for seed in range(60):
        line = render_line(_rng(seed), assets)
        height, width, channels = line.image.shape
        assert (height, channels) == (HEIGHT, 3)
        assert line.image.dtype == np.uint8
        assert 16 <= width <= WIDTH
        assert 1 <= len(line.text) <= 24
        assert set(line.text) <= symbols
        assert len(line.centres) == len(line.widths) == len(line.text)
        assert ((line.centres >= 0) & (line.centres <= 1)).all()
        assert (np.diff(line.centres) >= 0).all()
        assert (line.widths > 0).all()
        assert line.image.std() > 2  # something is there to read


@needs_fonts
def test_texts_and_fonts_of_the_splits_are_disjoint(assets: RenderAssets, held_out: RenderAssets) -> None:
    assert not {face.path for face in assets.faces} & {face.path for face in held_out.faces}
    assert not set(assets.texts.chinese.words) & {w for w in held_out.texts.chinese.words if len(w) > 1}
    rng = _rng()
    assert all(in_split(held_out.texts.draw(rng)[0], "test") for _ in range(30))
    assert all(in_split(assets.texts.draw(rng)[0], "train") for _ in range(30))


@needs_fonts
@pytest.mark.parametrize("kind", [name for name, _ in KINDS])
def test_every_kind_of_text(assets: RenderAssets, kind: str) -> None:
    rng = _rng()
    for most in (24, 12):
        text, name = assets.texts.draw(rng, most, kind)
        assert name == kind
        assert 1 <= len(text) <= most
        assert assets.texts.fits(text)


@needs_fonts
def test_faces_have_every_character(assets: RenderAssets) -> None:
    rng = _rng()
    for text in ("京A·12345", "龘", "Hello", "垚犇鱻"):
        face = assets.face(rng, text)
        if face is not None:
            assert set(text) <= fonts.coverage(face.path, face.index)
    assert assets.face(rng, "\U000f0000") is None
    with pytest.raises(InputError, match="no font"):
        render_line(rng, assets, RenderSpec(text="\U000f0000"))


@needs_fonts
def test_centres_are_where_the_characters_are(assets: RenderAssets) -> None:
    face = next(face for face in assets.faces if face.script == "han")
    row = set_row("口中口中", face, 0.3)
    assert row is not None
    columns = np.asarray(row.mask, np.float32).sum(0)
    for left, right in zip(row.left, row.right, strict=True):
        part = columns[int(left) : int(right) + 1]
        middle = float((np.arange(len(part)) * part).sum() / part.sum()) + int(left)
        assert abs(middle - (left + right) / 2) < 8  # of 104 pixels


@needs_fonts
def test_aspect_spans_what_fitting_produces(assets: RenderAssets) -> None:
    aspects = []
    for seed in range(80):
        line = render_line(_rng(seed), assets, RenderSpec(kind="phrase", warped=0))
        aspects.append(float(np.median(line.widths)) * line.image.shape[1] / (0.86 * HEIGHT))
    assert min(aspects) < 0.6
    assert max(aspects) > 1.3


def test_warp_has_an_exact_inverse() -> None:
    warp = Warp(angle=0.05, shear=0.2, curve=0.2, tilt_x=0.15, tilt_y=-0.1)
    points = _rng().uniform((-3, -0.5), (3, 0.5), (50, 2))
    np.testing.assert_allclose(_unbend(_bend(points, warp, 3.0), warp, 3.0), points, atol=1e-9)


def test_ink_differs_from_what_is_behind_it() -> None:
    rng = _rng()
    for _ in range(100):
        behind, contrast = rng.uniform(0, 255, 3), rng.uniform(0.16, 0.48)
        assert abs(luma(ink_colour(rng, behind, contrast)) - luma(behind)) >= contrast - 1e-6


def test_a_busy_background_is_calmed(tmp_path: Path) -> None:
    noise = Image.fromarray(np.repeat(np.repeat(_rng().integers(0, 256, (16, 32, 3), np.uint8), 8, 0), 8, 1))
    behind, ink = np.full(3, 127.0), np.full(3, 200.0)
    assert np.asarray(calm(noise, behind, ink)).std() < 0.6 * np.asarray(noise).std()
    noise.resize((320, 200)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"not a picture")
    assert len(load_pictures([tmp_path, tmp_path / "missing"])) == 1


@needs_fonts
def test_pool_is_written_and_read(tmp_path: Path) -> None:
    job = pool.PoolJob(out=str(tmp_path), lines=7, seed=3, split="val", picture_folders=(), shard=4)
    assert pool.write_pool(job) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "lines-00000.jsonl",
        "lines-00000.npy",
        "lines-00001.jsonl",
        "lines-00001.npy",
    ]
    lines = pool.LinePool(tmp_path)
    assert len(lines) == 7
    last = lines[6]
    assert last.image.shape == (HEIGHT, WIDTH, 3)
    assert (last.image[:, last.width :] == last.image[:, last.width - 1 : last.width]).all()
    assert len(last.centres) == len(last.text)
    assert last.centres.max() < last.width / WIDTH + 1e-6
    assert lines.images([0, 6, 2]).shape == (3, HEIGHT, WIDTH, 3)
    with pytest.raises(IndexError):
        lines[7]
    record = json.loads((tmp_path / "lines-00001.jsonl").read_text("utf-8").splitlines()[2])
    assert record["text"] == last.text
    (tmp_path / "lines-00001.npy").unlink()
    assert len(pool.LinePool(tmp_path)) == 4
    pool.write_pool(job)  # only what is missing, and the same again
    np.testing.assert_array_equal(pool.LinePool(tmp_path)[6].image, last.image)


def test_pool_refuses_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no shard"):
        pool.LinePool(tmp_path)
    with pytest.raises(InputError, match="at least one line"):
        pool.write_pool(pool.PoolJob(out=str(tmp_path), lines=0, seed=0, split="train"))
