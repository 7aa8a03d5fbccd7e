"""Validation lines as the product would meet them, with texts to restore them by, and their restoration by a model.

Lines of a validation pool are degraded like those of the test split (`train.evaluation.degradation`: the same recipe,
other lines), read by the product's own recogniser, PP-OCRv6, and restored by the runtime's loop. Choices between
weights or numbers of steps are made here, never on the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.recognizer import LineReader
from textsr.alphabet import Alphabet
from textsr.batch import line_batch
from textsr.config import SCALE, Preset
from textsr.errors import InputError
from textsr.fit import FittedLine, fit_line, to_uint8, unfit_line
from textsr.graphs import Model, graphs
from textsr.loop import restore
from textsr.noise import image_key
from textsr.reading import LineReading, is_wide
from textsr.torch_executor import Precision, TorchExecutor
from train.evaluation.degradation import SEVERITIES, degrade_line, line_seed, turn
from train.lines import Lines
from train.metrics import normalise

SEED = 501
"""Of the degradations and of the wrong texts; not the test split's."""

TEXTS = ("recogniser", "none", "true", "wrong")
"""What a line can be restored by: PP-OCRv6's reading of it, nothing, what it says, or what it does not say."""


@dataclass(frozen=True)
class ValidationLine:
    """``hr`` (128, w, 3) and ``lr`` (32, w/4, 3) uint8 RGB, w a multiple of 4; its text; readings by `TEXTS`."""

    hr: NDArray[np.uint8]
    lr: NDArray[np.uint8]
    text: str
    severity: str
    readings: Mapping[str, LineReading | None] = field(default_factory=dict)


def validation_lines(pool: Lines, count: int, reader: LineReader, seed: int = SEED) -> list[ValidationLine]:
    """The first ``count`` lines of ``pool`` (fewer where it is smaller), degraded by seed and place alone, and read.

    :raises InputError: there is no line.
    """
    found: list[ValidationLine] = []
    truths: list[LineReading] = []
    for index in range(min(count, len(pool))):
        line = pool[index]
        columns = min(line.image.shape[1], -(-max(line.width, SCALE) // SCALE) * SCALE)
        hr = np.ascontiguousarray(line.image[:, :columns])
        severity, source = turn(index)
        lr = degrade_line(hr, source, SEVERITIES[severity], line_seed(seed, index))
        found.append(ValidationLine(hr, lr, line.text, severity))
        centres = np.clip(line.centres * line.image.shape[1] / columns, 0, 1)[: len(line.text)]
        text = line.text[: len(centres)]
        truths.append(LineReading(text, (1.0,) * len(text), tuple(float(c) for c in centres)))
    if not found:
        raise InputError("no validation line: give --lines above 0 and a pool that holds some")
    readings = reader.read([line.lr for line in found])
    symbols = sorted({symbol for truth in truths for symbol in truth.text})
    return [
        ValidationLine(
            line.hr, line.lr, line.text, line.severity,
            {"recogniser": reading, "none": None, "true": truth, "wrong": wrong(truth, symbols, seed + place)},
        )
        for place, (line, reading, truth) in enumerate(zip(found, readings, truths, strict=True))
    ]  # fmt: skip


def wrong(truth: LineReading, symbols: Sequence[str], seed: int) -> LineReading:
    """``truth`` with every character but spaces replaced by another one of its width, claimed with full confidence.

    :param symbols: to draw from; what looks like the truth once normalised is not drawn.
    """
    rng = np.random.default_rng(seed)
    text = []
    for symbol in truth.text:
        others = [
            other for other in symbols
            if is_wide(other) == is_wide(symbol) and not other.isspace() and normalise(other) != normalise(symbol)
        ]  # fmt: skip
        text.append(symbol if symbol.isspace() or not others else others[int(rng.integers(len(others)))])
    return LineReading("".join(text), truth.confidences, truth.centres)


class ModelRestorer:
    """A model in memory as the product would run it: fit, condition, loop, cut back to the line's own size."""

    def __init__(
        self, model: Model, device: torch.device, *, precision: Precision = "fp32", batch_size: int = 8
    ) -> None:
        """``precision`` below fp32 converts the model's networks in place (`textsr.torch_executor.TorchExecutor`)."""
        self.preset: Preset = model.preset
        self.batch_size = batch_size
        self._executor = TorchExecutor(graphs(model), device, precision=precision)
        self._alphabet = Alphabet.load()

    def __call__(
        self, lines: Sequence[ValidationLine], text: str, steps: int | None, seed: int = 0
    ) -> list[NDArray[np.uint8]]:
        """Each line restored with its reading ``text`` in ``steps`` steps (None: all), (128, w, 3) uint8.

        A line's noise depends on the seed and the line alone, so results with other texts or steps are paired.
        """
        images: list[NDArray[np.uint8]] = []
        for start in range(0, len(lines), self.batch_size):
            batch = lines[start : start + self.batch_size]
            fitted = [fit_line(line.lr, self.preset) for line in batch]
            keys, readings = [image_key(line.lr) for line in batch], [line.readings[text] for line in batch]
            arrays = line_batch(fitted, keys, readings, self._alphabet, self.preset)
            output = restore(self._executor, self.preset, arrays, seed=seed, steps=steps)
            images += [_unfit(image, line) for image, line in zip(output.image, fitted, strict=True)]
        return images

    def reconstruct(self, lines: Sequence[ValidationLine]) -> list[NDArray[np.uint8]]:
        """Each clean line encoded and decoded, (128, w, 3) uint8: what no restoration with this autoencoder surpasses.

        It is the encoder and decoder of the product, quantiser included.
        """
        images: list[NDArray[np.uint8]] = []
        put, get = self._executor.put, self._executor.get
        for start in range(0, len(lines), self.batch_size):
            batch = lines[start : start + self.batch_size]
            width = self.preset.width
            padded = [np.pad(line.hr, ((0, 0), (0, width - line.hr.shape[1]), (0, 0)), mode="edge") for line in batch]
            clean = np.stack(padded).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - 1
            noise = np.zeros((len(batch), *self.preset.latent_shape), np.float32)
            inputs = {"image": put(clean), "noise": put(noise), "constants": put(np.zeros(1, np.float32))}
            latent = self._executor.run("vqgan_encoder", inputs)["z_y"]
            decoded = get(self._executor.run("vqgan_decoder", {"z_0": latent})["image"])
            pairs = zip(decoded, batch, strict=True)
            images += [to_uint8(image.transpose(1, 2, 0))[:, : line.hr.shape[1]] for image, line in pairs]
        return [np.ascontiguousarray(image) for image in images]


def _unfit(image: NDArray[np.float32], fitted: FittedLine) -> NDArray[np.uint8]:
    return unfit_line(np.ascontiguousarray(image.transpose(1, 2, 0)), fitted)
