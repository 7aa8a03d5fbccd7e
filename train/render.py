"""Renderer of high-resolution text lines: 128 pixels high, as wide as the text needs and at most 512."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from textsr.errors import InputError
from train import fonts, render_colour
from train.render_layout import EM, Placed, Row, Warp, place, set_row
from train.words import Texts, TextSource

HEIGHT, WIDTH = 128, 512


@dataclass(frozen=True, kw_only=True)
class RenderSpec:
    """Ranges that lines are drawn from. Shares are probabilities; margins are shares of the height."""

    text: str | None = None  # None: drawn
    kind: str | None = None  # kind of text, see train.words.KINDS
    max_chars: int = 24
    aspect: tuple[float, float] = (0.4, 1.8)  # width over height of a character, relative to the face's own
    floor: float = 0.25  # aspect that long lines may be squeezed to, in ``squeezed`` of the lines
    squeezed: float = 0.06
    margin: tuple[float, float] = (0.02, 0.12)
    warped: float = 0.55
    shadow: float = 0.15
    outline: float = 0.12
    low_contrast: float = 0.2
    lit: float = 0.25  # uneven light over the line
    soft: float = 0.3  # slightly soft edges


@dataclass(frozen=True)
class RenderedLine:
    """A line: image uint8 (128, w, 3) with w <= 512; centres and widths (n,) of the characters as shares of w."""

    image: np.ndarray
    text: str
    centres: np.ndarray
    widths: np.ndarray
    font: str
    kind: str


@dataclass
class RenderAssets:
    """What lines are made of: faces of one split, texts of that split, and background pictures."""

    faces: Sequence[fonts.FontFace]
    texts: TextSource
    pictures: Sequence[Image.Image] = field(default_factory=list)
    latin_share: float = 0.6  # of the texts in ASCII that are set in a Latin face

    @classmethod
    def load(
        cls,
        split: str,
        symbols: Collection[str],
        font_folders: Iterable[str | Path] = (),
        picture_folders: Iterable[str | Path] = render_colour.DEFAULT_PICTURES,
        families: int = 1,
        texts: Texts = "varied",
    ) -> RenderAssets:
        """Assets of ``split`` ("train", "val": fonts and words of training; "test": held-out ones).

        Raises InputError if fewer than ``families`` Chinese families are found.
        """
        part = "test" if split == "test" else "train"
        faces = fonts.discover(font_folders, part)
        fonts.require(faces, families)
        return cls(faces, TextSource(part, symbols, texts), render_colour.load_pictures(picture_folders))

    def __post_init__(self) -> None:
        if not self.faces:
            raise InputError("no fonts to render with")
        self._by_script = {
            script: (
                [face for face in self.faces if face.script == script],
                np.cumsum([face.weight for face in self.faces if face.script == script]),
            )
            for script in ("han", "latin")
        }

    def face(self, rng: np.random.Generator, text: str) -> fonts.FontFace | None:
        """A face that has every character of ``text``; None if eight draws find none."""
        latin = text.isascii() and rng.random() < self.latin_share and len(self._by_script["latin"][0]) > 0
        faces, shares = self._by_script["latin" if latin else "han"]
        for _ in range(8):
            face = faces[min(int(np.searchsorted(shares, rng.random() * shares[-1])), len(faces) - 1)]
            has = fonts.coverage(face.path, face.index)
            if all(symbol in has for symbol in text):
                return face
        return None


def render_line(rng: np.random.Generator, assets: RenderAssets, spec: RenderSpec | None = None) -> RenderedLine:
    """One line, deterministic in the state of ``rng``. Raises InputError if no face has the text's characters."""
    spec = spec or RenderSpec()
    for _ in range(50):
        text, kind = (spec.text, "given") if spec.text else assets.texts.draw(rng, spec.max_chars, spec.kind)
        face = assets.face(rng, text)
        aspect = float(np.exp(rng.uniform(*np.log(spec.aspect))) if rng.random() < 0.6 else rng.uniform(0.8, 1.15))
        floor = spec.floor if spec.text or rng.random() < spec.squeezed else spec.aspect[0]
        made = None if face is None else _set(rng, text, face, aspect, floor)
        if face is None or made is None:
            continue
        text, row, aspect = made
        placed = _place(rng, spec, row, aspect)
        image = _colour(rng, assets, spec, placed)
        return RenderedLine(
            image,
            text,
            np.clip(placed.centres / image.shape[1], 0, 1),
            placed.widths / image.shape[1],
            face.family,
            kind,
        )
    raise InputError(f"no font has the characters of {spec.text or 'the texts drawn'!r}")


def _set(
    rng: np.random.Generator, text: str, face: fonts.FontFace, aspect: float, floor: float
) -> tuple[str, Row, float] | None:
    """The text set on a row, with the aspect that makes it fit; too long a text loses its end."""
    roll = rng.random()
    spacing = 0.0 if roll < 0.6 else rng.uniform(-0.04, 0.12) if roll < 0.85 else rng.uniform(0.12, 0.6)
    jitter = rng.normal(0, 0.02, len(text)) if rng.random() < 0.08 else None
    while text:
        row = set_row(text, face, spacing, jitter)
        if row is None:
            return None
        left, top, right, bottom = row.ink
        longest = 0.92 * WIDTH / (0.84 * HEIGHT) * (bottom - top) / (right - left)  # aspect at which it fills the line
        if longest >= floor or len(text) == 1:
            return text, row, min(aspect, max(longest, 0.05))
        if spacing > 0:
            spacing = 0.0
            continue
        text = text[: max(int(len(text) * longest / floor), 1)].rstrip()
        jitter = None if jitter is None else jitter[: len(text)]
    return None


def _place(rng: np.random.Generator, spec: RenderSpec, row: Row, aspect: float) -> Placed:
    """Margins and warp."""
    margins = rng.uniform(*spec.margin, 4) * HEIGHT
    warp = Warp()
    if rng.random() < spec.warped:
        on = rng.random(4) < (0.5, 0.3, 0.35, 0.35)
        half = (row.ink[2] - row.ink[0]) / EM * aspect / 2
        steep = min(0.05, 0.25 / max(half, 1))  # a long line at an angle would become tiny
        warp = Warp(
            angle=float(on[0] * rng.uniform(-steep, steep)),
            shear=float(on[1] * rng.uniform(-0.25, 0.25)),
            curve=float(on[2] * (half > 1) * rng.uniform(-0.22, 0.22)),
            tilt_x=float(on[3] * rng.uniform(-0.18, 0.18) * min(half, 1)),
            tilt_y=float(on[3] * rng.uniform(-0.12, 0.12)),
        )
    box = (margins[0], margins[1], aspect, HEIGHT - margins[3])
    return place(row, warp, HEIGHT, box, margins[2], WIDTH)


def _colour(rng: np.random.Generator, assets: RenderAssets, spec: RenderSpec, placed: Placed) -> np.ndarray:
    """Background, shadow, outline, ink and light: uint8 (128, w, 3)."""
    mask = placed.mask
    canvas = render_colour.background(rng, mask.size, assets.pictures)
    behind = np.asarray(canvas.resize((8, 2), Image.Resampling.BOX), np.float32).mean((0, 1))
    contrast = rng.uniform(0.16, 0.25) if rng.random() < spec.low_contrast else rng.uniform(0.3, 0.48)
    ink = render_colour.ink_colour(rng, behind, contrast)
    canvas = render_colour.calm(canvas, behind, ink)
    if rng.random() < spec.shadow:
        x, y = (int(value) for value in rng.integers(-5, 6, 2))
        moved = Image.new("L", mask.size)
        moved.paste(mask, (x, y))
        cast = moved.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 4)))
        dark = behind * rng.uniform(0.2, 0.7) if render_colour.luma(ink) > render_colour.luma(behind) else behind * 0.8
        canvas.paste(_rgb(dark), (0, 0), cast.point([int(v * 0.7) for v in range(256)]))
    if rng.random() < spec.outline:
        edge = mask.filter(ImageFilter.MaxFilter(5 if rng.random() < 0.7 else 7))
        canvas.paste(_rgb(render_colour.ink_colour(rng, ink, 0.35)), (0, 0), edge)
    if rng.random() < spec.soft:
        mask = mask.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.9)))
    if rng.random() < 0.12:  # ink that changes from top to bottom
        ends = np.clip(np.stack((ink, ink + rng.normal(0, 25, 3))), 0, 255).astype(np.uint8)
        fill = Image.fromarray(ends[:, None]).resize(mask.size, Image.Resampling.BILINEAR, box=(0, 0.5, 1, 1.5))
        canvas.paste(fill, (0, 0), mask)
    else:
        canvas.paste(_rgb(ink), (0, 0), mask)
    if rng.random() < spec.lit:
        ends = (rng.uniform(0.72, 1.0, (2, 2)) * 255).astype(np.uint8)
        light = Image.fromarray(ends).resize(mask.size, Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5))
        canvas = ImageChops.multiply(canvas, Image.merge("RGB", (light, light, light)))
    return np.asarray(canvas, np.uint8)


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(np.clip(value, 0, 255)) for value in colour)
    return red, green, blue
