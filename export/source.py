"""What a bundle is made of: a checkpoint's networks, and what its metadata states beside them."""

from __future__ import annotations

import json
import logging
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from textsr.alphabet import Alphabet
from textsr.checkpoint import load_model, read_metadata, stated_alphabet, stated_symbols
from textsr.config import Preset
from textsr.errors import BundleError, InputError
from textsr.graphs import Model
from textsr.reference import choose_preset

logger = logging.getLogger(__name__)

RANDOM_PRESETS = frozenset({"tiny"})
"""Presets that may be built with random weights."""
PRINTABLE = "".join(sorted(set(string.printable) - set(string.whitespace))) + " "
"""The symbols of a recogniser that has as many classes and states none: printable ASCII."""


@dataclass(frozen=True)
class Source:
    """``model.preset`` has the schedule and the preprocessing that the checkpoint states.

    ``alphabet``: of the text modules, of the preset's size.
    ``symbols``: TransOCR's, class 1 first; empty where the model has none, so that lines are read by an external one.
    """

    model: Model
    metadata: Mapping[str, str]
    alphabet: Alphabet
    symbols: tuple[str, ...]


def open_source(preset: Preset, checkpoint: Path | None, seed: int = 0) -> Source:
    """The networks of ``preset`` from a checkpoint, or random ones of ``seed`` where it is None.

    A TransOCR that cannot read, for want of symbols or of trained weights, is left out; a warning says so.

    :raises InputError: no checkpoint, for a preset whose random weights are of no use.
    :raises BundleError: the checkpoint cannot be read, does not fit, or is of another preset.
    """
    if checkpoint is None and preset.name not in RANDOM_PRESETS:
        raise InputError(f"preset {preset.name} needs --checkpoint: random weights are for {min(RANDOM_PRESETS)} only")
    metadata = {"weights": "random", "seed": str(seed)} if checkpoint is None else read_metadata(checkpoint)
    stated, alphabet = choose_preset(preset, metadata), stated_alphabet(metadata)
    if alphabet.padding != preset.padding:
        raise BundleError(
            f"preset {preset.name} needs {preset.padding} symbols, the checkpoint's alphabet has {alphabet.padding}"
        )
    symbols, lacks = _symbols(stated, metadata)
    model = load_model(checkpoint, stated, seed)
    assert isinstance(model, Model)
    if lacks:
        logger.warning("the checkpoint %s: the bundle leaves TransOCR out and names rapidocr as its reader", lacks)
        model.preset = replace(stated, transocr=None)
        del model.transocr
    return Source(model, metadata, alphabet, symbols)


def _symbols(preset: Preset, metadata: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """TransOCR's symbols, and what keeps it from reading (empty: nothing does)."""
    if preset.transocr is None:
        return (), ""
    count, symbols = preset.transocr.classes - 2, stated_symbols(metadata)
    if "transocr" in json.loads(metadata.get("initialised", "[]")):
        return (), "has random weights in TransOCR"
    if not symbols:
        return (tuple(PRINTABLE), "") if len(PRINTABLE) == count else ((), "states no symbols for TransOCR")
    if len(symbols) != count:
        raise BundleError(
            f"the checkpoint states {len(symbols)} symbols for TransOCR, preset {preset.name} has {count}"
        )
    return symbols, ""
