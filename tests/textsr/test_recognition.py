"""TransOCR's greedy reading: against the network asked for all characters at once, and what it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from textsr.checkpoint import load_model
from textsr.config import TINY, TransOCRConfig
from textsr.errors import InputError
from textsr.graphs import Model, graphs
from textsr.recognition import LONGEST, TransOCRReader, prepare
from textsr.torch_executor import TorchExecutor

CONFIG = TransOCRConfig(classes=97)
SYMBOLS = [chr(ord("a") + i) for i in range(95)]


class Spelling:
    """Says "ab" for dark pictures and never ends for light ones; class 0 at the third place is passed over."""

    name = "spelling"

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def get(self, handle: NDArray[Any]) -> NDArray[Any]:
        return handle

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if graph == "recognizer_encoder":
            return {"features": inputs["image"].mean(axis=(1, 2, 3))}
        place = inputs["prefix"].shape[1] - 1
        probabilities = np.full((len(inputs["prefix"]), 97), 0.001, np.float32)
        for row, light in enumerate(inputs["features"]):
            symbol = 1 if light > 0 else [1, 2, 0, 96][min(place, 3)]
            probabilities[row, symbol] = 0.9 - 0.1 * min(place, 2)
        return {"probabilities": probabilities}


def test_it_reads_until_the_end() -> None:
    reader = TransOCRReader(Spelling(), CONFIG, SYMBOLS, batch_size=2)
    dark, light = np.zeros((20, 50, 3), np.uint8), np.full((20, 50, 3), 255, np.uint8)
    readings = reader.read([dark, light, dark])
    assert [reading.text for reading in readings] == ["ab", "a" * LONGEST, "ab"]
    assert np.allclose(readings[0].confidences, [0.9, 0.8])
    assert readings[0].centres == (0.25, 0.75)
    assert reader.read([]) == []


def test_symbols_must_fit() -> None:
    with pytest.raises(InputError, match="95 symbols"):
        TransOCRReader(Spelling(), CONFIG, SYMBOLS[:-1])


def test_one_by_one_is_what_the_network_says_of_the_whole() -> None:
    """Teacher forcing with the text that was read gives the same text and confidences."""
    model = load_model(None, TINY, seed=3)
    assert isinstance(model, Model)
    assert TINY.transocr is not None
    image = np.random.default_rng(5).integers(0, 256, (40, 300, 3), dtype=np.uint8)
    reading = TransOCRReader(TorchExecutor(graphs(model)), TINY.transocr, SYMBOLS).read([image])[0]
    assert reading.text, "an empty reading would prove nothing"
    classes = torch.tensor([[0, *(SYMBOLS.index(symbol) + 1 for symbol in reading.text)]])
    with torch.inference_mode():
        logits = model.transocr(torch.from_numpy(prepare(image, TINY.transocr))[None], classes)[0]
    count = len(reading.text)
    sure, best = logits.softmax(dim=-1).max(dim=-1)
    assert best[:count].tolist() == classes[0, 1:].tolist()
    np.testing.assert_allclose(sure[:count].numpy(), reading.confidences, rtol=1e-4)
    assert count == LONGEST or best[count] == 96


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 90), st.integers(1, 700), st.integers(0, 99))
def test_pictures_are_shown_as_each_training_did(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    smooth = F.interpolate(batch, (32, 256), mode="bilinear", align_corners=False)[0]
    published = prepare(image, CONFIG)
    assert published.dtype == np.float32
    np.testing.assert_allclose(published, (smooth.numpy() - 0.5) / 0.5, atol=2e-5)
    nearest = F.interpolate(batch, (32, 256), mode="nearest")[0]
    np.testing.assert_array_equal(prepare(image, replace(CONFIG, preprocessing="difftsr")), nearest.numpy())
