"""What was read on a line, painted onto it: how strongly each glyph must be added for the line to say it.

Reference glyphs that lie where the characters are (`textsr.glyph_places`) explain a part of the degraded line, in some
contrast: that of its ink to what is around it. So the line's contrast is that which fits the surroundings of all its
glyphs best, in closed form, given how blurred the line is; and the blur is the one of `SOFTNESS` that lets the glyphs
explain most of the line. A line is written in one ink: a contrast for each character is the more a matter of chance the
more the blur has left of it. Painted are the sharp glyphs less the blurred ones: where the text is right, that sharpens
the strokes. Where it is wrong, it draws wrong ones, little fainter: blurred, one character is a spot like another.
Nothing is learnt here.

There are two uses. A network can be shown the latent of the painted line beside the line's own (`fit_batch`,
`GlyphCanvas.painted`), and judge for itself what it is worth. And the strokes can be added to whatever was restored
(`strokes`), which a reader of the picture gains from without any training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textsr.atlas import SIZE, load_packed, unpack
from textsr.config import SCALE, Preset
from textsr.glyph_places import fit_places, taking
from textsr.reading import TextArrays, stacked, used_text

Array = NDArray[np.float32]

SOFTNESS = (6.0, 10.0, 14.0, 20.0, 28.0, 40.0, 56.0)
"""Widths in pixels of the restored line that its edges may be blurred over."""
RIDGE = 1e-4
"""Variance added to the glyphs' mean one, so that what the blur has all but wiped out is not painted strongly."""


def fit_batch(text: TextArrays, lq: Array, shares: Iterable[float], preset: Preset) -> TextArrays:
    """``text`` of B lines as a model of ``preset`` is given it, after a look at the pictures lq (B,3,h,w).

    Places are fitted and glyphs painted where the preset wants so. Each line's result depends on it alone.
    """
    if preset.glyph is None or not preset.glyph.fitted:
        return text
    tokens, weights = used_text(text.tokens, text.weights, preset)
    text, pictures = replace(text, tokens=tokens, weights=weights), zip(lq.transpose(0, 2, 3, 1), shares, strict=True)
    lines = [fit_places(text.take(place), *picture) for place, picture in enumerate(pictures)]
    if preset.unet.painted_channels:
        lines = [fit_paint(line, picture) for line, picture in zip(lines, lq, strict=True)]
    return stacked(lines)


def fit_paint(text: TextArrays, picture: Array) -> TextArrays:
    """``text`` of one line with contrasts and softness fitted to ``picture`` (3,h,w); nothing is painted where nothing
    was read."""
    drawn = np.flatnonzero((text.weights > 0) & (text.tokens < len(load_packed()) - 1) & (text.widths > 0))
    contrasts, softness = np.zeros_like(text.contrasts), np.zeros_like(text.softness)
    if len(drawn):
        weights = text.weights[drawn]
        glyphs, seen = _bitmaps(text.tokens[drawn]), _Windows(text, drawn, picture)
        contrast, softness[:] = _fit(glyphs, weights / weights.sum(), seen)
        contrasts[drawn] = np.sqrt(weights)[:, None] * contrast
    return replace(text, contrasts=contrasts, softness=softness)


def strokes(text: TextArrays, picture: Array, share: float, preset: Preset) -> Array:
    """What painting ``text`` adds to the restored line of ``picture`` (3,h,w), which the crop fills up to ``share``:
    (H,W,3) in units of [-1,1], on average about 0, all 0 where nothing was read.

    Each character weighs the square root of its confidence. `GlyphCanvas.painted` draws the same. Symbols without a
    width are left out.
    """
    tokens, weights = used_text(text.tokens, np.where(text.widths > 0, text.weights, np.float32(0)), preset)
    text = fit_places(replace(text, tokens=tokens, weights=weights), picture.transpose(1, 2, 0), share)
    text = fit_paint(text, picture)
    drawn = np.flatnonzero(text.contrasts.any(axis=1))
    if not len(drawn):
        return np.zeros((preset.height, preset.width, 3), np.float32)
    glyphs = _bitmaps(text.tokens[drawn])
    sides = ((text.middles, text.heights, preset.height), (text.centres, text.widths, preset.width))
    down, right = [], []
    for sign, blur in ((1, 1.0), (-1, max(1.0, float(text.softness[0])))):
        rows, columns = (_taking(at[drawn], size[drawn], count, blur) for at, size, count in sides)
        down.append(sign * (rows @ glyphs))
        right.append(columns)
    stretched, across = np.concatenate(down), np.concatenate(right)  # (2n,H,SIZE), (2n,W,SIZE)
    across = across.transpose(0, 2, 1).reshape(-1, preset.width)
    contrasts = np.tile(text.contrasts[drawn], (2, 1))
    planes = [(stretched * one[:, None, None]).transpose(1, 0, 2).reshape(preset.height, -1) for one in contrasts.T]
    return np.stack([plane @ across for plane in planes], axis=-1)


def _bitmaps(tokens: NDArray[np.int64]) -> Array:
    """(n,SIZE,SIZE) in [0,1]."""
    return np.divide(unpack(load_packed()[tokens]), 15, dtype=np.float32)


def _taking(at: NDArray[Any], size: NDArray[Any], count: int, blur: float) -> Array:
    """(n,count,SIZE): what ``count`` rows or columns take of glyphs at ``at``, ``size`` large, all shares of them."""
    sizes = np.maximum(np.asarray(size, np.float64), 1 / count)
    return taking(0.5 - at / sizes, 1 / count / sizes, count, SIZE, blur)


class _Windows:
    """A picture (3,h,w) as n characters see it, each in Gaussian windows (n,h) and (n,w) about its box."""

    def __init__(self, text: TextArrays, drawn: NDArray[np.intp], picture: Array) -> None:
        places = (text.middles, text.heights, text.centres, text.widths)
        self.middles, self.heights, self.centres, self.widths = (value[drawn].astype(np.float64) for value in places)
        self.widths = np.maximum(self.widths, 1 / picture.shape[2])
        self.down = _window(self.middles, self.heights, picture.shape[1])
        self.right = _window(self.centres, self.widths, picture.shape[2])
        self.picture = picture.astype(np.float32)
        self.mean = np.asarray(np.einsum("nh,chw,nw->nc", self.down, self.picture, self.right, optimize=True))

    def taking(self, softness: float) -> tuple[Array, Array]:
        """(n,h,SIZE) and (n,w,SIZE): what rows and columns take of a glyph on a line that is so soft."""
        blur, (_, rows, columns) = max(1.0, softness / SCALE), self.picture.shape
        return _taking(self.middles, self.heights, rows, blur), _taking(self.centres, self.widths, columns, blur)


def _window(middles: NDArray[np.float64], sizes: NDArray[np.float64], count: int) -> Array:
    """(n,count), each row adding up to 1."""
    seen = (np.arange(count) + 0.5) / count - middles[:, None]
    found = np.exp(-0.5 * np.square(seen / (0.5 * sizes[:, None]))).astype(np.float32)
    return np.asarray(found / (found.sum(1, keepdims=True) + 1e-9))


def _fit(glyphs: Array, weights: Array, seen: _Windows) -> tuple[Array, float]:
    """The contrast (3,) of glyphs (n,SIDE,SIDE), each weighing ``weights`` (n,) of 1, and the softness with which they
    explain most of the picture in it."""
    best, contrast, found = -1.0, np.zeros(3, np.float32), 0.0
    for softness in SOFTNESS:
        down, right = seen.taking(softness)
        drawn = down @ glyphs @ right.transpose(0, 2, 1)  # (n,h,w)
        weighted = drawn * seen.down[:, :, None] * seen.right[:, None]
        mean = weighted.sum((1, 2))
        variance = float(weights @ ((weighted * drawn).sum((1, 2)) - mean**2).clip(0)) + RIDGE
        covariance = weights @ (
            np.einsum("nhw,chw->nc", weighted, seen.picture, optimize=True) - seen.mean * mean[:, None]
        )
        explained = float(covariance @ covariance) / variance
        if explained > best:
            best, contrast, found = explained, covariance / variance, softness
    return contrast, found
