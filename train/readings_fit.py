"""Measures the recogniser on degraded lines, for the noise model of `train.readings`."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from scipy.stats import norm
from tqdm import tqdm

from textsr.alphabet import Alphabet
from textsr.atlas import load_atlas
from textsr.errors import InputError
from textsr.reading import LineReading, is_wide
from train.degrade_sources import three_sources
from train.pool import LinePool, PoolLine
from train.readings import DIFFICULTIES, NARROW, PITCHES, SPACE, WIDE, NoiseStats, find_lookalikes

log = logging.getLogger(__name__)

FAR = 64.0
"""Pixels: shifts beyond are a wrong alignment."""
QUANTILES = np.linspace(0, 1, 33)
SMOOTHING = 4.0
"""Lines' worth of the severity's own mixture that each cell of severity and size starts with."""


@dataclass(frozen=True)
class FitJob:
    """What to measure: ``lines`` of the pool at each of ``severities`` severities from 0 to 1."""

    pool: Path
    lines: int
    severities: int
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Aligned:
    """A reading beside its truth: operations a true character, and what was seen of right and wrong ones."""

    difficulty: int
    pitch: int
    operations: NDArray[np.int64]  # (3 classes, 3): substituted, deleted, followed by an insertion
    counts: NDArray[np.int64]  # (3 classes,)
    confidences: tuple[tuple[float, ...], tuple[float, ...]]  # of wrong and of right characters
    shifts: tuple[tuple[float, ...], tuple[float, ...]]  # likewise, centre read - true centre, in pixels
    pairs: tuple[tuple[str, str], ...]
    inserted: tuple[str, ...]


def character_class(symbol: str) -> int:
    """WIDE, NARROW or SPACE."""
    return SPACE if symbol == " " else WIDE if is_wide(symbol) else NARROW


def align(line: PoolLine, reading: LineReading, alphabet: Alphabet) -> Aligned:
    """Aligns a reading of ``line`` with its text by edit distance. Lost spaces do not count for the difficulty."""
    truth, text = alphabet.fold(line.text), alphabet.fold(reading.text)
    centres = np.asarray(reading.centres) * line.width / 512
    operations = np.zeros((3, 3), np.int64)
    counts = np.bincount([character_class(s) for s in truth], minlength=3)
    confidences: tuple[list[float], list[float]] = ([], [])
    shifts: tuple[list[float], list[float]] = ([], [])
    pairs, inserted = [], []
    for block in Levenshtein.opcodes(truth, text):
        if block.tag == "insert":
            owner = max(block.src_start - 1, 0)
            operations[character_class(truth[owner]), 2] += 1
            inserted += list(text[block.dest_start : block.dest_end])
            confidences[0].extend(reading.confidences[block.dest_start : block.dest_end])
            continue
        for place in range(block.src_start, block.src_end):
            kind = character_class(truth[place])
            if block.tag == "delete":
                operations[kind, 1] += 1
                continue
            other, right = block.dest_start + place - block.src_start, int(block.tag == "equal")
            confidences[right].append(reading.confidences[other])
            shifts[right].append(float(centres[other] - line.centres[place]) * 512)
            if not right:
                operations[kind, 0] += 1
                pairs.append((truth[place], text[other]))
    errors = operations[[WIDE, NARROW]].sum() / max(counts[[WIDE, NARROW]].sum(), 1)
    difficulty = len(DIFFICULTIES) if not text else int(np.searchsorted(DIFFICULTIES, errors))
    pitch = int(np.searchsorted(PITCHES, 128 * float(np.mean(line.widths))))
    return Aligned(
        difficulty,
        pitch,
        operations,
        counts,
        (tuple(confidences[0]), tuple(confidences[1])),
        (tuple(shifts[0]), tuple(shifts[1])),
        tuple(pairs),
        tuple(inserted),
    )


def summarise(found: list[list[Aligned]], severities: NDArray[np.float64], alphabet: Alphabet) -> NoiseStats:
    """The model's figures from what was found at each severity."""
    every = [item for items in found for item in items]
    levels = range(len(DIFFICULTIES))
    by_level = [[item for item in every if item.difficulty == level] for level in levels]
    errors = np.stack([_rates(items) for items in by_level])
    confidence = np.stack([np.stack([_quantiles(items, every, kind) for kind in (0, 1)]) for items in by_level])
    shifts = [np.clip([s for item in every for s in item.shifts[kind]], -FAR, FAR) for kind in (0, 1)]
    several = [np.asarray(item.shifts[1]) for item in every if len(item.shifts[1]) >= 3]
    own = np.concatenate([shift - shift.mean() for shift in several]).clip(-FAR, FAR)
    line_shift = float(np.std(np.array([shift.mean() for shift in several]).clip(-FAR, FAR)))
    wrong_shift = float(np.sqrt(max(np.var(shifts[0]) - line_shift**2, np.var(own))))
    pairs = [pair for item in every for pair in item.pairs]
    read = [symbol for _, symbol in pairs] + [symbol for item in every for symbol in item.inserted]
    confusions: dict[str, Counter[str]] = {}
    for truth, symbol in pairs:
        if symbol in alphabet and truth in alphabet:
            confusions.setdefault(truth, Counter())[symbol] += 1
    return NoiseStats(
        severities=severities,
        mix=_mixtures(found),
        errors=errors,
        confidence=confidence,
        correlation=_correlation(by_level),
        bias=round(float(np.mean(shifts[1])), 4),
        line_shift=round(line_shift, 4),
        jitter=(round(wrong_shift, 4), round(float(np.std(own)), 4)),
        unknown=round(sum(symbol not in alphabet for symbol in read) / max(len(read), 1), 4),
        confusions={truth: dict(counter.most_common(4)) for truth, counter in sorted(confusions.items())},
        inserted=dict(Counter(s for item in every for s in item.inserted if s in alphabet).most_common(100)),
    )


def _mixtures(found: list[list[Aligned]]) -> NDArray[np.float64]:
    """Shares of difficulty classes (S+1, P, D+1); small cells lean on their severity's mixture."""
    shape = (len(PITCHES) + 1, len(DIFFICULTIES) + 1)
    counts = np.zeros((len(found) + 1, *shape))
    for row, items in enumerate(found):
        for item in items:
            counts[[row, -1], item.pitch, item.difficulty] += 1
    overall = counts.sum(axis=1, keepdims=True) + 0.25
    counts += SMOOTHING * overall / overall.sum(axis=2, keepdims=True)
    return counts / counts.sum(axis=2, keepdims=True)


def _rates(items: list[Aligned]) -> NDArray[np.float64]:
    """Rates (3 classes, 3) of substitution, deletion and insertion; one line of each class without errors added."""
    operations = np.sum([item.operations for item in items], axis=0) if items else np.zeros((3, 3))
    counts = np.sum([item.counts for item in items], axis=0) if items else np.zeros(3)
    rates = operations / (counts + 8)[:, None]
    rates[:, 2] = np.minimum(rates[:, 2], 0.5)
    rates[:, :2] /= np.maximum(rates[:, :2].sum(axis=1, keepdims=True) / 0.95, 1)
    return rates


def _quantiles(items: list[Aligned], every: list[Aligned], kind: int) -> NDArray[np.float64]:
    values = [value for item in items for value in item.confidences[kind]]
    if len(values) < 20:  # too few in this class: those of all
        values = [value for item in every for value in item.confidences[kind]]
    if not values:
        raise InputError("the recogniser made no such readings: fit on more lines or stronger degradations")
    return np.quantile(values, QUANTILES)


def _correlation(by_level: list[list[Aligned]]) -> float:
    """Share of a right character's confidence, on the normal scale within its difficulty, that its line explains."""
    products, count = 0.0, 0
    for items in by_level:
        groups = [np.asarray(item.confidences[1]) for item in items if len(item.confidences[1]) >= 2]
        if not groups:
            continue
        flat = np.concatenate(groups)
        ranks = np.empty(len(flat))
        ranks[np.argsort(flat, kind="stable")] = (np.arange(len(flat)) + 0.5) / len(flat)
        for part in np.split(norm.ppf(ranks), np.cumsum([len(group) for group in groups])[:-1]):
            products += part.sum() ** 2 - (part**2).sum()
            count += len(part) * (len(part) - 1)
    return round(float(np.clip(products / max(count, 1), 0, 0.95)), 4)


def fit_readings(job: FitJob, out: Path) -> NoiseStats:
    """Measures, writes the model to ``out`` and the look-alikes beside it, and returns the figures."""
    from runtime.recognizer import open_reader

    alphabet, pool = Alphabet.load(), LinePool(job.pool)
    reader = open_reader(threads=job.threads)
    severities = np.linspace(0, 1, job.severities)
    rng = np.random.default_rng(job.seed)
    found: list[list[Aligned]] = []
    with tqdm(total=job.lines * job.severities, unit="line") as bar:
        for severity in severities:
            lines = [pool[int(place)] for place in rng.choice(len(pool), job.lines, replace=len(pool) < job.lines)]
            crops = degraded_crops(lines, float(severity), job.seed)
            readings = []
            for start in range(0, len(crops), 16):
                readings += reader.read(crops[start : start + 16])
                bar.update(len(crops[start : start + 16]))
            found.append([align(line, reading, alphabet) for line, reading in zip(lines, readings, strict=True)])
            _log_severity(float(severity), found[-1])
    stats = summarise(found, severities, alphabet)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(stats.to_json() + "\n", encoding="utf-8")
    np.save(out.with_name("lookalikes.npy"), find_lookalikes(load_atlas()[:-1]))
    log.info("wrote %s: %d confusions, correlation %.2f", out, len(stats.confusions), stats.correlation)
    return stats


def degraded_crops(lines: list[PoolLine], severity: float, seed: int) -> list[NDArray[np.uint8]]:
    """The low-resolution crops (32, width/4, 3) of ``lines``, all three sources of training mixed, as uint8."""
    generator = torch.Generator().manual_seed(seed * 1000 + round(severity * 100))
    crops = []
    for start in range(0, len(lines), 16):
        part = lines[start : start + 16]
        hr = torch.from_numpy(np.stack([line.image for line in part])).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            lq = three_sources(hr, 1.0, generator, torch.full((len(part),), severity))
        pixels = lq.mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        crops += [image[:, : max(1, round(line.width / 4))] for image, line in zip(pixels, part, strict=True)]
    return crops


def _log_severity(severity: float, items: list[Aligned]) -> None:
    operations = sum(item.operations.sum(axis=0) for item in items) / sum(item.counts.sum() for item in items)
    right = np.mean([item.difficulty == 0 for item in items])
    nothing = np.mean([item.difficulty == len(DIFFICULTIES) for item in items])
    log.info(
        "severity %.2f: lines right %.3f, without text %.3f; characters substituted %.3f, deleted %.3f, inserted %.3f",
        severity,
        right,
        nothing,
        *operations,
    )
