"""Glyphs fitted to the lines of a batch, in processes where one thread would keep a GPU waiting."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from torch import Tensor

from textsr.config import Preset
from textsr.painting import fit_batch
from textsr.reading import TextArrays, stacked


class Fitter:
    """`textsr.painting.fit_batch` for a preset; with ``workers`` each of so many processes fits a part.

    A line takes 2 to 4 ms of a core, and as much again where it is painted. What comes out does not depend on the
    number of workers.
    """

    def __init__(self, preset: Preset, workers: int = 0) -> None:
        """Starts no process yet, and none ever for a preset whose places are not fitted."""
        self.preset, self.fits = preset, preset.glyph is not None and preset.glyph.fitted
        self.workers = workers if self.fits else 0
        self._pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn")) if self.workers > 1 else None

    def __call__(self, text: TextArrays, lq: Tensor, shares: Sequence[float]) -> TextArrays:
        """The arrays (B,24) of ``text`` fitted to lq (B,3,h,w), whose crops fill ``shares`` (B,) of the width."""
        if not self.fits:
            return text  # nothing is fetched from the device
        low = lq.float().cpu().numpy()
        if self._pool is None:
            return fit_batch(text, low, shares, self.preset)
        size = -(-len(low) // self.workers)
        parts = [slice(start, start + size) for start in range(0, len(low), size)]
        given = [(text.take(part), low[part], list(shares[part]), self.preset) for part in parts]
        found = self._pool.map(fit_batch, *zip(*given, strict=True))
        return stacked([part.take(place) for part in found for place in range(len(part.tokens))])
