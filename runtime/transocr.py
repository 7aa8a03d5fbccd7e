"""Reading a line with the TransOCR graphs of a bundle: greedy, one character a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import MANIFEST, Bundle
from runtime.recognizer import bilinear
from textsr.errors import BundleError
from textsr.loop import Executor
from textsr.reading import LineReading, spread

START = 0
LONGEST = 23
"""Characters read at most."""


class TransOCRReader:
    """TransOCR (FudanVI) through an executor. It tells no places: centres are spread evenly."""

    name = "TransOCR"

    def __init__(self, bundle: Bundle, executor: Executor, *, batch_size: int = 8) -> None:
        """Raises BundleError when the bundle lacks the recogniser's graphs, sizes or symbols."""
        missing = [name for name in ("recognizer_encoder", "recognizer_step") if name not in bundle.graphs]
        if missing or bundle.preset.transocr is None:
            raise BundleError(f"{bundle.path}: names transocr as recogniser, but lacks its graphs or its preset")
        self._config = bundle.preset.transocr
        self._executor = executor
        self._batch_size = batch_size
        self.symbols = tuple(bundle.manifest.get("recognizer_symbols") or ())
        if len(self.symbols) != self._config.classes - 2:
            raise BundleError(
                f"{bundle.path / MANIFEST}: recognizer_symbols must list {self._config.classes - 2} symbols "
                f"(all classes but start and end), not {len(self.symbols)}"
            )

    @property
    def end(self) -> int:
        """The class that ends a text, the last one."""
        return self._config.classes - 1

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        """See `runtime.recognizer.LineReader`."""
        readings: list[LineReading] = []
        for start in range(0, len(images), self._batch_size):
            batch = np.stack([self._prepare(image) for image in images[start : start + self._batch_size]])
            readings.extend(self._read(batch))
        return readings

    def _prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        small = bilinear(image, self._config.height, self._config.width)
        return (small / np.float32(127.5) - np.float32(1)).transpose(2, 0, 1)

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
