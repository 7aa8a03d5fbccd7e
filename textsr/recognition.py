"""Reading a line with TransOCR through an executor of its two graphs: greedy, one character a run. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from textsr.config import TransOCRConfig
from textsr.errors import InputError
from textsr.loop import Executor
from textsr.reading import LineReading, spread
from textsr.resize import bilinear_resize, nearest_resize

START = 0
"""The class that starts a text."""
LONGEST = 23
"""Characters read at most."""


class TransOCRReader:
    """TransOCR (FudanVI) through an executor. It tells no places: centres are spread evenly."""

    name = "TransOCR"

    def __init__(
        self, executor: Executor, config: TransOCRConfig, symbols: Sequence[str], *, batch_size: int = 8
    ) -> None:
        """A reader whose ``executor`` has the graphs recognizer_encoder and recognizer_step.

        :param symbols: of the classes 1..classes-2, in order.
        :raises InputError: there are more or fewer symbols.
        """
        if len(symbols) != config.classes - 2:
            raise InputError(
                f"TransOCR needs {config.classes - 2} symbols (all classes but start and end), not {len(symbols)}"
            )
        self._executor = executor
        self._config = config
        self._batch_size = batch_size
        self.symbols = tuple(symbols)

    @property
    def widest(self) -> float:
        """Width over height of what the weights read: a wider crop is read in parts."""
        return self._config.width / self._config.height

    @property
    def end(self) -> int:
        """The class that ends a text, the last one."""
        return self._config.classes - 1

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        """One reading for each RGB crop (h, w, 3) uint8, in order; an empty text where nothing was found.

        A character's confidence is the probability (0..1) of its class, the largest at its place.
        """
        readings: list[LineReading] = []
        for start in range(0, len(images), self._batch_size):
            batch = [prepare(image, self._config) for image in images[start : start + self._batch_size]]
            readings.extend(self._read(np.stack(batch)))
        return readings

    def _read(self, batch: NDArray[np.float32]) -> list[LineReading]:
        features = self._executor.run("recognizer_encoder", {"image": self._executor.put(batch)})["features"]
        prefix = np.full((len(batch), 1), START, dtype=np.int64)
        confidences = np.zeros((len(batch), LONGEST), dtype=np.float64)
        ended = np.zeros(len(batch), dtype=np.bool_)
        for place in range(LONGEST):
            inputs = {"features": features, "prefix": self._executor.put(prefix)}
            probabilities = self._executor.get(self._executor.run("recognizer_step", inputs)["probabilities"])
            best = probabilities.argmax(axis=1)
            confidences[:, place] = probabilities.max(axis=1)
            prefix = np.concatenate([prefix, best[:, None].astype(np.int64)], axis=1)
            ended |= best == self.end
            if ended.all():
                break
        return [self._reading(row, sure) for row, sure in zip(prefix[:, 1:], confidences, strict=True)]

    def _reading(self, classes: NDArray[np.int64], sure: NDArray[np.float64]) -> LineReading:
        stop = np.flatnonzero(classes == self.end)
        count = int(stop[0]) if stop.size else len(classes)
        kept = [place for place in range(count) if classes[place] != START]
        text = "".join(self.symbols[classes[place] - 1] for place in kept)
        return LineReading(text, tuple(float(min(1.0, sure[place])) for place in kept), spread(text))


def prepare(image: NDArray[np.uint8], config: TransOCRConfig) -> NDArray[np.float32]:
    """An RGB crop (h, w, 3) uint8 as the weights expect it: (3, 32, 256), see `textsr.config.Preprocessing`."""
    height, width = config.height, config.width
    if config.preprocessing == "difftsr":
        small = nearest_resize(image, height, width).astype(np.float32) / np.float32(255)
    else:
        small = bilinear_resize(image, height, width) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(small.transpose(2, 0, 1), dtype=np.float32)
