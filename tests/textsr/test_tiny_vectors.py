"""The networks of the preset ``tiny`` return what they returned when they were checked against the published ones."""

from __future__ import annotations

import numpy as np

from tests.textsr import vectors
from textsr.config import TINY
from textsr.graphs import Model, example_inputs, graphs
from textsr.torch_executor import TorchExecutor


def test_graphs_return_the_committed_vectors() -> None:
    vectors.assert_equal_to(vectors.FILE, vectors.compute())


def test_the_recogniser_returns_probabilities() -> None:
    model = vectors.fill(Model(TINY))
    assert isinstance(model, Model)
    executor = TorchExecutor(graphs(model))
    arrays = {name: executor.put(value) for name, value in example_inputs(model, "recognizer_step").items()}
    probabilities = executor.get(executor.run("recognizer_step", arrays)["probabilities"])
    assert probabilities.shape == (2, 97)
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
