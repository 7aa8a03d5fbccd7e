"""Pictures and texts as DiffTSR takes and gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.difftsr.model import DiffTSR
from textsr.alphabet import Alphabet
from textsr.config import Preset
from textsr.errors import InputError
from textsr.graphs import Model, RecognizerEncoder, RecognizerStep
from textsr.recognition import TransOCRReader
from textsr.torch_executor import TorchExecutor


def stretched(image: NDArray[np.uint8], preset: Preset) -> NDArray[np.uint8]:
    """An RGB crop (h, w, 3) at the network's 128 x 512, whatever its aspect (Pillow's bicubic, as in the release)."""
    size = preset.width, preset.height
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), dtype=np.uint8)


def to_network(lines: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Lines (H, W, 3) uint8 as a batch (B, 3, H, W) float32 in [0, 1]."""
    return np.ascontiguousarray(np.stack(lines).transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


def from_network(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """One restored line (3, H, W) in [0, 1] as (H, W, 3) uint8; rounded down, as the release does."""
    return np.ascontiguousarray((image * np.float32(255)).astype(np.uint8).transpose(1, 2, 0))


def baseline_alphabet(symbols: Sequence[str], preset: Preset) -> Alphabet:
    """DiffTSR's symbols with the shipped folding of single characters (traditional to simplified, full to half width).

    Raises InputError when there are more or fewer than the networks know.
    """
    if len(symbols) != preset.padding:
        raise InputError(f"the alphabet holds {len(symbols)} symbols, DiffTSR's networks know {preset.padding}")
    inside = set(symbols)
    return Alphabet(tuple(symbols), {a: b for a, b in Alphabet.load().folding.items() if b in inside})


def tokens_of(texts: Sequence[str], alphabet: Alphabet, max_chars: int) -> NDArray[np.int64]:
    """Token ids (B, 24) of lower-cased, folded texts; unknown symbols and the rest are padding."""
    return np.stack([alphabet.encode(alphabet.fold(_lower(text)), max_chars)[0] for text in texts])


def _lower(text: str) -> str:
    """Character by character: the length stays."""
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)


def open_reader(model: DiffTSR, symbols: Sequence[str], batch_size: int = 8) -> TransOCRReader:
    """TransOCR shown lines as DiffTSR does: nearest 32 x 256 of the stretched line, in [0, 1].

    Raises InputError when the model has no recogniser, or ``symbols`` do not fit its classes.
    """
    if model.transocr is None or model.preset.transocr is None:
        raise InputError("this baseline was opened without TransOCR's weights")
    network = cast(Model, model)  # the two graphs look at ``transocr`` alone
    graphs = {"recognizer_encoder": RecognizerEncoder(network), "recognizer_step": RecognizerStep(network)}
    return TransOCRReader(TorchExecutor(graphs, model.device), model.preset.transocr, symbols, batch_size=batch_size)
