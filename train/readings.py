"""A noise model of the recogniser's readings: what it would have made of a degraded line, without running it.

``python -m train.readings fit --pool DIR`` measures PP-OCRv6 on degraded lines of a pool and writes the model;
`NoiseModel.sample_batch` draws readings of lines whose truth is known. Errors come together as they do in life: a
line first draws its difficulty (given severity and size of its characters), then its characters their errors and
confidences, which share a part of their luck.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from textsr.alphabet import MAX_CHARS, Alphabet
from textsr.errors import InputError
from textsr.reading import NARROW_SHARE, NEIGHBOUR_SHARE, SMALLEST, WIDE_SHARE, TextArrays, is_wide, unseen

log = logging.getLogger(__name__)

FORMAT = 1
DIFFICULTIES = (0.0, 0.12, 0.3, 0.6, 1e9)
"""Upper ends of the difficulty classes: errors of a line as a share of its characters. One class more: no text."""
PITCHES = (12.0, 20.0)
"""Ends of the size classes: mean width of a line's characters in pixels of the 32-pixel-high input."""
NEIGHBOURS = 8
RANK_SHARES = 0.7 ** np.arange(NEIGHBOURS)
"""How often each of the look-alikes stands in for a character, by falling likeness; not normalised."""
MEASURED_SHARE = 0.5
"""Share of the substitutions of a character that follow its measured confusions, where there are any."""
WIDE, NARROW, SPACE = 0, 1, 2
"""Classes of characters with error rates of their own."""


@dataclass(frozen=True, kw_only=True)
class NoiseStats:
    """What was measured. D difficulty classes with text, S severities, P sizes, Q quantiles."""

    severities: NDArray[np.float64]  # (S,), rising from 0 to 1
    mix: NDArray[np.float64]  # (S+1, P, D+1) shares of difficulty classes; the last row: severity unknown
    errors: NDArray[np.float64]  # (D, 3 classes, 3): substituted, deleted, followed by an inserted character
    confidence: NDArray[np.float64]  # (D, 2, Q): quantiles for wrong (0) and right (1) characters
    correlation: float  # of confidences within a line, on the normal scale
    bias: float  # of centres, in pixels of the restored line (128 high): about a third of a CTC step
    line_shift: float  # standard deviation of a line's common shift, in pixels
    jitter: tuple[float, float]  # standard deviation of wrong and right characters' own shift, in pixels
    unknown: float  # share of wrong characters outside the alphabet
    confusions: dict[str, dict[str, int]]  # read instead of, with counts
    inserted: dict[str, int]

    def to_json(self) -> str:
        """The inverse of `from_json`."""
        rounded = {
            name: np.round(value, 5).tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }
        return json.dumps({"format": FORMAT, **rounded}, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> NoiseStats:
        """Raises InputError when ``text`` is not such a file."""
        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise InputError("the file of readings has another format: fit it again with python -m train.readings")
            for name in ("severities", "mix", "errors", "confidence"):
                data[name] = np.asarray(data[name], np.float64)
            return cls(**{**data, "jitter": tuple(data["jitter"])})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"not a file of the recogniser's readings: {error}") from error


class NoiseModel:
    """Draws readings. ``drop`` is the share of lines shown without any text, so that restoring works without."""

    def __init__(
        self,
        stats: NoiseStats,
        alphabet: Alphabet,
        lookalikes: NDArray[np.int16],
        drop: float = 0.1,
        true_text: float = 0.0,
    ) -> None:
        """``lookalikes`` (symbols, 8): ids of the most similar symbols, best first. ``true_text``: share of lines read
        as an easy line is whatever they look like: surely and, but for lost spaces, right. So it pays to paint what was
        read."""
        self.stats, self.drop, self.true_text, self.padding = stats, drop, true_text, alphabet.padding
        classes = [SPACE if s == " " else WIDE if is_wide(s) else NARROW for s in alphabet.symbols]
        self._classes = np.array([*classes, NARROW], np.int64)
        self._caps = np.where(self._classes == WIDE, WIDE_SHARE, NARROW_SHARE) / 4  # of 512, at 128 pixels of height
        self._mix = np.cumsum(stats.mix, axis=-1)[..., :-1]
        self._rates = np.cumsum(stats.errors[..., :2], axis=-1)
        self._ranks = np.cumsum(RANK_SHARES)[:-1] / RANK_SHARES.sum()
        self._lookalikes = np.concatenate([lookalikes, np.full((1, NEIGHBOURS), self.padding, np.int16)])
        ids = {symbol: place for place, symbol in enumerate(alphabet.symbols)}
        self._measured = np.full((self.padding + 1, NEIGHBOURS), -1, np.int64)
        for truth, found in stats.confusions.items():
            spread = [ids[symbol] for symbol, count in found.items() if symbol in ids for _ in range(count)]
            if truth in ids and spread:
                self._measured[ids[truth]] = np.resize(spread, NEIGHBOURS)
        strange = [ids[symbol] for symbol, count in stats.inserted.items() if symbol in ids for _ in range(count)]
        self._inserted = np.array(strange or [ids["一"]], np.int64)

    @classmethod
    def load(cls, path: Path | None = None, drop: float = 0.1, true_text: float = 0.0) -> NoiseModel:
        """The fitted model in ``path``; default: the shipped one. Raises InputError when it cannot be read."""
        source = path or resources.files("train") / "assets" / "readings.json"
        try:
            text = source.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{source}: {error}; write it with python -m train.readings fit") from error
        return cls(NoiseStats.from_json(text), Alphabet.load(), load_lookalikes(), drop, true_text)

    def sample(
        self,
        rng: np.random.Generator,
        tokens: NDArray[np.int64],
        centres: NDArray[np.float32],
        widths: NDArray[np.float32],
        severity: float | None,
    ) -> TextArrays:
        """A reading of one line; see `sample_batch`."""
        arrays = self.sample_batch(
            rng, tokens[None], centres[None], widths[None], np.array([np.nan if severity is None else severity])
        )
        return arrays.take(0)

    def sample_batch(
        self,
        rng: np.random.Generator,
        tokens: NDArray[np.int64],
        centres: NDArray[np.float32],
        widths: NDArray[np.float32],
        severity: NDArray[np.float64],
    ) -> TextArrays:
        """Readings of B lines, as `textsr.reading.conditions` gives them: arrays (B, 24).

        Args:
            rng: the only source of chance.
            tokens, centres, widths: the truth (B, 24); padding at the end; shares of the fitted line's whole width.
            severity: (B,) of the degradation, 0..1; NaN where it is not known (the mixture of all severities then).
        """
        stats = self.stats
        real = tokens != self.padding
        level, shown = self._difficulty(rng, severity, widths, real)
        classes = self._classes[tokens]
        rates = self._rates[level[:, None], classes]
        luck = rng.random((3, *tokens.shape))
        wrong = luck[0] < rates[..., 0]
        kept = real & ~((luck[0] >= rates[..., 0]) & (luck[0] < rates[..., 1]))
        added = real & (luck[1] < stats.errors[level[:, None], classes, 2])
        read = np.where(wrong, self._substitutes(rng, tokens, luck[2]), tokens)
        strange = self._inserted[rng.integers(0, len(self._inserted), tokens.shape)]

        normal = rng.standard_normal((2, *tokens.shape))
        common = rng.standard_normal((len(tokens), 1))
        shift = stats.bias + stats.line_shift * common + np.where(wrong, *stats.jitter) * normal[0]
        places = centres + shift / 512
        between = places + widths * (0.5 + 0.25 * normal[1])

        read, places = _interleave(read, strange), _interleave(places, between)
        right = _interleave(~wrong, np.zeros_like(wrong))
        confidence = self._confidences(rng, level, right)
        lost = ~right & (rng.random(right.shape) < stats.unknown)
        read = np.where(lost, self.padding, read)
        weights = np.where(lost, 0.0, confidence)
        return self._pack(_interleave(kept, added) & shown[:, None], read, weights, places, shown)

    def _difficulty(
        self,
        rng: np.random.Generator,
        severity: NDArray[np.float64],
        widths: NDArray[np.float32],
        real: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Difficulty class of each line (B,), and which lines have any text."""
        luck = rng.random((3, len(severity)))
        grid = self.stats.severities
        known = np.isfinite(severity)
        place = np.interp(np.where(known, severity, 0.0), grid, np.arange(len(grid)))
        row = np.where(known, np.floor(place + luck[0]).astype(np.int64).clip(max=len(grid) - 1), len(grid))
        pitch = 128 * (widths * real).sum(1) / np.maximum(real.sum(1), 1)
        level = (luck[1][:, None] > self._mix[row, np.searchsorted(PITCHES, pitch)]).sum(1)
        if self.true_text:
            level = np.where(rng.random(len(level)) < self.true_text, 0, level)
        failed = level == len(DIFFICULTIES)
        return np.where(failed, 0, level), ~failed & (luck[2] >= self.drop) & real.any(1)

    def _substitutes(
        self, rng: np.random.Generator, tokens: NDArray[np.int64], luck: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        similar = self._lookalikes[tokens, np.searchsorted(self._ranks, luck)].astype(np.int64)
        measured = self._measured[tokens, rng.integers(0, NEIGHBOURS, tokens.shape)]
        return np.where((measured >= 0) & (rng.random(tokens.shape) < MEASURED_SHARE), measured, similar)

    def _confidences(
        self, rng: np.random.Generator, level: NDArray[np.int64], right: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Confidences for characters that are ``right`` (B, 48) or wrong, of lines of difficulty ``level`` (B,)."""
        rho, quantiles = self.stats.correlation, self.stats.confidence
        normal = np.sqrt(rho) * rng.standard_normal((len(level), 1))
        place = ndtr(normal + np.sqrt(1 - rho) * rng.standard_normal(right.shape)) * (quantiles.shape[2] - 1)
        low = np.minimum(place.astype(np.int64), quantiles.shape[2] - 2)
        rows, kind = level[:, None], right.astype(np.int64)
        below, above = quantiles[rows, kind, low], quantiles[rows, kind, low + 1]
        return below + (above - below) * (place - low)

    def _pack(
        self,
        kept: NDArray[np.bool_],
        tokens: NDArray[np.int64],
        weights: NDArray[np.float64],
        places: NDArray[np.float64],
        shown: NDArray[np.bool_],
    ) -> TextArrays:
        """The kept ones of 48 slots in the first places of 24, with widths as `character_widths` makes them."""
        order = np.argsort(~kept, axis=1, kind="stable")[:, :MAX_CHARS]
        rows = np.arange(len(kept))[:, None]
        kept = kept[rows, order]
        centres = np.maximum.accumulate(np.where(kept, places[rows, order], 0.0).clip(0, 1), axis=1)
        tokens = np.where(kept, tokens[rows, order], self.padding)
        weights = np.where(kept, weights[rows, order], shown[:, None])
        gaps = np.where(kept[:, 1:], np.diff(centres, axis=1), np.inf)
        edge = np.full((len(kept), 1), np.inf)
        nearest = np.minimum(np.hstack([edge, gaps]), np.hstack([gaps, edge]))
        widths = np.minimum(np.maximum(NEIGHBOUR_SHARE * nearest, SMALLEST / 512), self._caps[tokens])
        shares = [(array * kept).astype(np.float32) for array in (centres, widths)]
        return TextArrays(tokens, weights.astype(np.float32), shares[0], shares[1], *unseen(tokens.shape))


def _interleave(first: NDArray, second: NDArray) -> NDArray:
    """(B, n) and (B, n) to (B, 2n), in turns."""
    return np.stack([first, second], axis=2).reshape(len(first), -1)


def find_lookalikes(atlas: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Ids (n, 8) of the symbols whose bitmaps (n, 48, 48) correlate most with each one's at 16 x 16 pixels, best first.

    At that size a glyph is as blurred as in the lines that the recogniser fails on.
    """
    count = len(atlas)
    small = atlas.reshape(count, 16, 3, 16, 3).mean(axis=(2, 4), dtype=np.float32).reshape(count, -1)
    small -= small.mean(axis=1, keepdims=True)
    small /= np.linalg.norm(small, axis=1, keepdims=True) + 1e-6
    found = np.empty((count, NEIGHBOURS), np.int16)
    for start in range(0, count, 512):
        likeness = small[start : start + 512] @ small.T
        likeness[np.arange(len(likeness)), np.arange(start, start + len(likeness))] = -2
        best = np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        order = np.argsort(-np.take_along_axis(likeness, best, 1), axis=1)
        found[start : start + 512] = np.take_along_axis(best, order, 1)
    return found


@lru_cache(maxsize=1)
def load_lookalikes() -> NDArray[np.int16]:
    """The look-alikes of the shipped alphabet, from the file that ``fit`` writes."""
    with (resources.files("train") / "assets" / "lookalikes.npy").open("rb") as file:
        return np.load(file)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m train.readings", description="The recogniser's errors, measured.")
    commands = parser.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit", help="measure PP-OCRv6 on degraded lines of a pool and write the model")
    fit.add_argument("--pool", type=Path, required=True, help="folder written by python -m train.pool")
    fit.add_argument("--out", type=Path, default=Path(__file__).parent / "assets" / "readings.json")
    fit.add_argument("--lines", type=int, default=240, help="lines of the pool at each severity (default: 240)")
    fit.add_argument("--severities", type=int, default=5, help="severities from 0 to 1 (default: 5)")
    fit.add_argument("--seed", type=int, default=0)
    fit.add_argument("--threads", type=int, default=1, help="CPU threads of the recogniser (default: 1)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from train.readings_fit import FitJob, fit_readings  # the recogniser is needed for fitting only

    job = FitJob(options.pool, options.lines, options.severities, options.seed, options.threads)
    try:
        fit_readings(job, options.out)
    except InputError as error:
        parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
