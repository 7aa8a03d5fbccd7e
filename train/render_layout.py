"""Ink of a line of text: glyphs set on one row, scaled to the line's height, then warped.

A warp maps the row to the line: a parabola (curvature), a homography (rotation, shear, perspective), then a scaling and
shift that make the result fill the line's inner box. Its inverse is exact, so one mesh transform draws it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from train.fonts import FontFace, load

EM = 104
"""Size in pixels at which glyphs are drawn: about the height of a line's text."""
STRIPS = 16  # vertical strips of the mesh

Bounds = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Row:
    """Glyphs on one row: ink mask (mode L), the ink's bounds in it, and each character's left and right edge."""

    mask: Image.Image
    ink: Bounds
    left: np.ndarray  # (n,) pixels in ``mask``
    right: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Warp:
    """Bends of a row of nominal half-width 1: all zero is none. Radians, or shares of the line's height or width."""

    angle: float = 0.0
    shear: float = 0.0
    curve: float = 0.0  # sagitta as a share of the text's height
    tilt_x: float = 0.0  # perspective: how much nearer one end is
    tilt_y: float = 0.0

    @property
    def is_none(self) -> bool:
        """Whether the row stays as it is."""
        return not any((self.angle, self.shear, self.curve, self.tilt_x, self.tilt_y))


def set_row(text: str, face: FontFace, spacing: float, jitter: np.ndarray | None = None) -> Row | None:
    """Sets ``text`` at EM pixels with ``spacing`` ems between characters; ``jitter`` (n,) ems moves them vertically.

    None if a character other than a space has no ink in this face.
    """
    font = load(face.path, face.index, EM)
    pad, base = EM // 4, EM + EM // 4
    advances = np.array([font.getlength(symbol) for symbol in text])
    starts = pad + np.concatenate(([0.0], np.cumsum(advances + spacing * EM)[:-1]))
    width = int(np.ceil(starts[-1] + advances[-1])) + pad
    mask = Image.new("L", (width, base + EM // 2), 0)
    draw = ImageDraw.Draw(mask)
    draw.fontmode = "L"
    for i, symbol in enumerate(text):
        if symbol == " ":
            continue
        box = font.getbbox(symbol)
        if box[2] <= box[0] or box[3] <= box[1]:
            return None
        shift = 0.0 if jitter is None else jitter[i] * EM
        draw.text((round(starts[i]), round(base + shift)), symbol, fill=255, font=font, anchor="ls")
    ink = mask.getbbox()
    if ink is None:
        return None
    left, top, right, bottom = (float(value) for value in ink)
    least = 0.62 * EM if all(symbol.isascii() for symbol in text) else 0.86 * EM
    if bottom - top < least:  # a dash or the character "one" must not fill the line's height
        middle = (top + bottom) / 2 if bottom - top > 0.4 * EM else base - 0.38 * EM
        top, bottom = min(top, middle - least / 2), max(bottom, middle + least / 2)
    return Row(mask, (left, top, right, bottom), starts, starts + advances)


def _bend(points: np.ndarray, warp: Warp, half: float) -> np.ndarray:
    """Row to bent row, (..., 2): x in [-half, half] and y in [-1/2, 1/2], both in units of the text's height."""
    x, y = points[..., 0], points[..., 1] + warp.curve * (points[..., 0] / half) ** 2
    c, s = np.cos(warp.angle), np.sin(warp.angle)
    x, y = c * x - s * y + warp.shear * y, s * x + c * y
    w = 1.0 + warp.tilt_x * x / half + warp.tilt_y * y
    return np.stack((x / w, y / w), -1)


def _unbend(points: np.ndarray, warp: Warp, half: float) -> np.ndarray:
    """Inverse of ``_bend``."""
    c, s = np.cos(warp.angle), np.sin(warp.angle)
    forward = np.array([[c, warp.shear - s, 0], [s, c, 0], [0, 0, 1.0]])
    tilt = np.array([[1, 0, 0], [0, 1, 0], [warp.tilt_x / half, warp.tilt_y, 1.0]])
    inverse = np.linalg.inv(tilt @ forward)
    u, v = points[..., 0], points[..., 1]
    x, y, w = (row[0] * u + row[1] * v + row[2] for row in inverse)
    x, y = x / w, y / w
    return np.stack((x, y - warp.curve * (x / half) ** 2), -1)


@dataclass(frozen=True)
class Placed:
    """Ink on the line: mask of the line's size (mode L), centres and widths of the characters in pixels."""

    mask: Image.Image
    centres: np.ndarray
    widths: np.ndarray


def place(row: Row, warp: Warp, height: int, box: Bounds, margin_right: float, max_width: int) -> Placed:
    """Scales and warps a row into a line of ``height`` pixels.

    ``box``: left, top and bottom of the inner box in pixels, with ``aspect``, the scaling of the width over that of the
    height, in the right's place. The line becomes as wide as ink and margins need, squeezed if over ``max_width``.
    """
    margin_left, top, aspect, bottom = box
    x0, y0, x1, y1 = row.ink
    tall = y1 - y0
    half = (x1 - x0) / tall / 2 * aspect
    edge = np.linspace(-half, half, 17)
    outline = np.concatenate([np.stack((edge, np.full(17, y)), -1) for y in (-0.5, 0.5)])
    bent = _bend(outline, warp, half)
    low, high = bent.min(0), bent.max(0)
    scale_y = (bottom - top) / (high[1] - low[1])
    scale_x = scale_y
    inner = (high[0] - low[0]) * scale_x
    width = round(float(inner + margin_left + margin_right))
    if width > max_width:
        width = max_width
        scale_x *= (width - margin_left - margin_right) / inner
    width = max(width, 16)
    scale, shift = np.array([scale_x, scale_y]), np.array([margin_left, top]) - low * np.array([scale_x, scale_y])

    def to_line(pixels_x: np.ndarray) -> np.ndarray:
        middle = np.stack(((pixels_x - (x0 + x1) / 2) / tall * aspect, np.zeros_like(pixels_x)), -1)
        return (_bend(middle, warp, half) * scale + shift)[..., 0]

    mask = _draw(row, warp, half, scale, shift, (width, height), (tall, aspect))
    left, right = to_line(row.left), to_line(row.right)
    return Placed(mask, (left + right) / 2, np.abs(right - left))


def _draw(
    row: Row,
    warp: Warp,
    half: float,
    scale: np.ndarray,
    shift: np.ndarray,
    size: tuple[int, int],
    shape: tuple[float, float],
) -> Image.Image:
    """The warped mask: resized with an antialiasing filter to about the final scale, then one mesh transform."""
    tall, aspect = shape
    x0, y0, x1, y1 = row.ink
    factor_x, factor_y = scale[0] * aspect / tall, scale[1] / tall
    pad = 4.0  # source pixels around the ink
    source = (x0 - pad, y0 - pad, x1 + pad, y1 + pad)
    small = (
        max(round(float((source[2] - source[0]) * factor_x)), 2),
        max(round(float((source[3] - source[1]) * factor_y)), 2),
    )
    canvas = Image.new("L", (row.mask.width + 2 * EM, row.mask.height + 2 * EM))
    canvas.paste(row.mask, (EM, EM))
    framed_box = (source[0] + EM, source[1] + EM, source[2] + EM, source[3] + EM)
    flat = canvas.resize(small, Image.Resampling.BICUBIC, box=framed_box)
    if warp.is_none:
        corner = np.array([-half, -0.5]) * scale + shift - pad * np.array([factor_x, factor_y])
        line = Image.new("L", size)
        line.paste(flat, (round(float(corner[0])), round(float(corner[1]))))
        return line
    width, height = size
    strips = np.unique(np.linspace(0, width, STRIPS + 1).round().astype(int))
    corners = np.array([[(a, 0), (a, height), (b, height), (b, 0)] for a, b in pairwise(strips)])
    back = _unbend((corners - shift) / scale, warp, half)
    unit = np.array([tall / aspect, tall])
    pixels = (
        (back * unit + np.array([(x0 + x1) / 2, (y0 + y1) / 2]) - np.array(source[:2]))
        * np.array(small)
        / np.array([source[2] - source[0], source[3] - source[1]])
    )
    mesh = [
        ((int(a), 0, int(b), height), tuple(float(value) for value in quad.ravel()))
        for a, b, quad in zip(strips[:-1], strips[1:], pixels, strict=True)
    ]
    framed = Image.new("L", (small[0] + 2, small[1] + 2))  # a dark frame: what lies outside the row is empty
    framed.paste(flat, (1, 1))
    return framed.transform(
        size,
        Image.Transform.MESH,
        [(box, tuple(v + 1 for v in quad)) for box, quad in mesh],
        resample=Image.Resampling.BICUBIC,
    )
