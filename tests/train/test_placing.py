"""Glyphs fitted in processes: the same as in one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from textsr.alphabet import Alphabet
from textsr.config import COMPACT, PAPER, GlyphConfig
from textsr.fit import Place
from textsr.painting import fit_batch
from textsr.reading import PLACES, LineReading, conditions, spread, stacked
from train.placing import Fitter

FITTED = replace(COMPACT, glyph=GlyphConfig(fitted=True))
TEXTS = ("清晰", "No. 453", "北京市海淀区", "", "2048")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_number_of_workers_does_not_matter(workers: int) -> None:
    alphabet = Alphabet.load()
    text = stacked(
        [conditions(LineReading(t, (0.9,) * len(t), spread(t)), alphabet, Place(128, 512, 0.7)) for t in TEXTS]
    )
    lq = 2 * torch.rand(len(TEXTS), 3, 32, 128, generator=torch.Generator().manual_seed(0)) - 1
    expected = fit_batch(text, lq.numpy(), [0.7] * len(TEXTS), FITTED)
    found = Fitter(FITTED, workers)(text, lq, [0.7] * len(TEXTS))
    for name in (*PLACES, "tokens", "weights"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (expected.heights[0, :2] != text.heights[0, :2]).all()


def test_a_preset_whose_places_are_not_fitted_starts_no_process() -> None:
    for preset in (PAPER, replace(COMPACT, glyph=GlyphConfig(fitted=False))):
        assert Fitter(preset, 8).workers == 0
