"""Checkpoints: one safetensors file under torch's names, metadata as strings; and published files made into one."""

from __future__ import annotations

from textsr.checkpoint.files import CONSTRUCTED, load_model, load_weights, read_metadata, save_model, shapes, state
from textsr.checkpoint.pickles import read_published
from textsr.checkpoint.published import from_published
from textsr.checkpoint.stated import WITHOUT, stated_ablations, stated_alphabet, stated_preset, stated_symbols

__all__ = [
    "CONSTRUCTED",
    "WITHOUT",
    "from_published",
    "load_model",
    "load_weights",
    "read_metadata",
    "read_published",
    "save_model",
    "shapes",
    "state",
    "stated_ablations",
    "stated_alphabet",
    "stated_preset",
    "stated_symbols",
]
