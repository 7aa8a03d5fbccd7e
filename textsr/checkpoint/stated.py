"""What a checkpoint's metadata states beside its weights: schedule, alphabets, how its recogniser is shown a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from textsr.alphabet import Alphabet
from textsr.config import SCHEDULES, Preprocessing, Preset, ablated
from textsr.errors import BundleError, InputError

SCHEDULE, ALPHABET, SYMBOLS, PREPROCESSING = "schedule", "alphabet", "recognizer_symbols", "transocr_preprocessing"
WITHOUT, DEFAULT_STEPS = "without", "default_steps"
DEFAULT_STRENGTH, DEFAULT_PAINT = "default_strength", "default_paint"
"""Metadata keys: T of `textsr.config.SCHEDULES`; `Alphabet.to_json`; TransOCR's symbols as one string, in the order of
its classes 1..classes-2; `TransOCRConfig.preprocessing`; `ABLATIONS` of `textsr.config` with commas between; steps,
strength and paint of a call that names none. Each may be absent."""


def stated_preset(preset: Preset, metadata: Mapping[str, str]) -> Preset:
    """``preset`` with the checkpoint's schedule, recogniser's preprocessing, parts, default steps, strength and paint.

    :raises BundleError: the metadata names a schedule, a preprocessing or a part left out that is not known, more
        steps than were trained, or a strength or paint that is no share.
    """
    schedule, preprocessing = metadata.get(SCHEDULE), metadata.get(PREPROCESSING)
    if schedule is not None:
        if schedule not in map(str, SCHEDULES):
            raise BundleError(f"the checkpoint's schedule {schedule!r} is none of {', '.join(map(str, SCHEDULES))}")
        preset = replace(preset, schedule=SCHEDULES[int(schedule)])
    if preprocessing is not None and preset.transocr is not None:
        known = get_args(Preprocessing)
        if preprocessing not in known:
            raise BundleError(f"the checkpoint's preprocessing {preprocessing!r} is none of {', '.join(known)}")
        name: Any = preprocessing
        preset = replace(preset, transocr=replace(preset.transocr, preprocessing=name))
    steps = metadata.get(DEFAULT_STEPS)
    if steps is not None:
        if not steps.isdecimal() or not 1 <= int(steps) <= preset.schedule.steps:
            raise BundleError(f"the checkpoint's default of {steps!r} steps is not from 1 to {preset.schedule.steps}")
        preset = replace(preset, default_steps=int(steps))
    if DEFAULT_STRENGTH in metadata:
        preset = replace(preset, default_strength=_share(metadata, DEFAULT_STRENGTH, above_zero=True))
    if DEFAULT_PAINT in metadata:
        preset = replace(preset, default_paint=_share(metadata, DEFAULT_PAINT))
    try:
        return ablated(preset, stated_ablations(metadata))
    except InputError as error:
        raise BundleError(f"the checkpoint was trained {error}") from error


def _share(metadata: Mapping[str, str], key: str, *, above_zero: bool = False) -> float:
    text = metadata[key]
    try:
        found = float(text)
    except ValueError as error:
        raise BundleError(f"the checkpoint's {key.replace('_', ' ')} {text!r} is no number") from error
    if not 0 <= found <= 1 or (above_zero and not found):
        least = "above 0" if above_zero else "at least 0"
        raise BundleError(f"the checkpoint's {key.replace('_', ' ')} {text} is not {least} and at most 1")
    return found


def stated_ablations(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """What the checkpoint was trained without, of `textsr.config.ABLATIONS`; empty for a whole model."""
    return tuple(name for name in metadata.get(WITHOUT, "").split(",") if name)


def stated_alphabet(metadata: Mapping[str, str]) -> Alphabet:
    """The alphabet of the text modules; the shipped one where the metadata has none. Raises InputError if malformed."""
    text = metadata.get(ALPHABET)
    return Alphabet.load() if text is None else Alphabet.from_json(text)


def stated_symbols(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """TransOCR's symbols, class 1 first; empty where the metadata has none."""
    return tuple(metadata.get(SYMBOLS, ""))
