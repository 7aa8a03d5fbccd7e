"""What a call of the `Restorer` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal

from textsr.config import SCALE, Preset
from textsr.errors import InputError
from textsr.schedule import ResidualShiftSchedule

LARGEST_SCALE = 16.0
MOST_PAINT = 2.0
"""Twice the contrast that the picture shows."""
LONGEST_MS = 86_400_000.0
"""A day: the longest deadline; None is none at all."""

Vertical = Literal["auto", "turn", "stack", "off"]


@dataclass(frozen=True)
class Split:
    """How lines that are too long for the network are taken apart, and tall crops laid down.

    ``enabled``: False squeezes a long line into the network's width instead.
    ``max_aspect``: width over height above which a line is split, at most what the preset has room for (4).
    ``max_chars``: characters a piece may have, at most the preset's (24), which None stands for.
    ``overlap``: what a piece sees beyond its ends, in line heights; about a Chinese character's half.
    ``blend``: how wide pieces fade into each other, in line heights.
    ``vertical``: what becomes of crops one and a half times as high as wide: "turn" turns them, "stack" lays upright
    characters out as a row, "auto" lets the recogniser decide between these and leaving them, "off" leaves them; see
    `runtime.orientation`.
    """

    enabled: bool = True
    max_aspect: float = 4.0
    max_chars: int | None = None
    overlap: float = 0.5
    blend: float = 0.25
    vertical: Vertical = "auto"

    def check(self, preset: Preset) -> None:
        """Raises InputError when a value is out of range for the preset."""
        widest = preset.width / preset.height
        _require("split", Real, optional=False, max_aspect=self.max_aspect, overlap=self.overlap, blend=self.blend)
        _require("split", Integral, max_chars=self.max_chars)
        if not 2 <= self.max_aspect <= widest:
            raise InputError(f"split: max_aspect must be from 2 to {widest:g}, not {self.max_aspect}")
        if self.max_chars is not None and not 4 <= self.max_chars <= preset.max_chars:
            raise InputError(f"split: max_chars must be from 4 to {preset.max_chars}, not {self.max_chars}")
        if not 0 <= self.overlap <= 0.5 or not 0 <= self.blend <= 1:
            raise InputError(f"split: overlap must be from 0 to 0.5 and blend from 0 to 1, not {self}")
        if self.vertical not in ("auto", "turn", "stack", "off"):
            raise InputError(f"split: vertical {self.vertical!r}: choose auto, turn, stack or off")


@dataclass(frozen=True)
class Gate:
    """Which lines are left alone because restoring cannot help, or need not. The defaults are measured, see
    `runtime.gate`.

    ``enabled``: False lets every picture through.
    ``min_height``: pixels of the line's height; below, nothing is left to restore from.
    ``max_detail``: share (0..1) of the line's contrast that is lost when the network is shown its 32 rows; above, the
    line holds more than the network would give back. None: no line is too sharp.
    ``max_confidence``: a line each of whose characters was read with at least this confidence is left alone; None
    restores it all the same.
    """

    enabled: bool = True
    min_height: float = 14.0
    max_detail: float | None = 0.1
    max_confidence: float | None = None

    def check(self) -> None:
        """Raises InputError when a value is out of range."""
        _require("gate", Real, optional=False, min_height=self.min_height)
        _require("gate", Real, max_detail=self.max_detail, max_confidence=self.max_confidence)
        if not self.min_height >= 0 or not isfinite(self.min_height):
            raise InputError(f"gate: min_height must be at least 0, not {self.min_height}")
        if self.max_detail is not None and not self.max_detail > 0:
            raise InputError(f"gate: max_detail must be above 0, not {self.max_detail}")
        if self.max_confidence is not None and not 0 <= self.max_confidence <= 1:
            raise InputError(f"gate: max_confidence must be from 0 to 1, not {self.max_confidence}")

    @classmethod
    def off(cls) -> Gate:
        """A gate that lets every picture through."""
        return cls(enabled=False)


@dataclass(frozen=True)
class Way:
    """A way to show a line: ``strength`` 0..1 and ``paint`` 0..2, as `runtime.Restorer.__call__` documents them."""

    strength: float
    paint: float


@dataclass(frozen=True)
class Options:
    """Options of one call: ``seed``, ``steps``, ``text_sampler``, ``batch_size``, ``scale``, ``split``, ``gate``,
    ``deadline_ms``, ``guarded``, ``strength`` and ``paint``, as `runtime.Restorer.__call__` documents them;
    ``proofread``: whether `runtime.proofreading` may choose others for a line."""

    seed: int = 0
    steps: int | None = None
    text_sampler: Any = "fixed"
    batch_size: int = 8
    scale: float = SCALE
    split: Split = field(default_factory=Split)
    gate: Gate = field(default_factory=Gate)
    deadline_ms: float | None = None
    guarded: bool = True
    strength: float | None = None
    paint: float | None = None
    proofread: bool = False

    @property
    def way(self) -> Way:
        """How lines are shown: the network's alone where nothing is said."""
        return Way(1.0 if self.strength is None else self.strength, self.paint or 0.0)

    def shown(self, way: Way) -> Options:
        """The same with the strength and the paint of ``way``."""
        return replace(self, strength=way.strength, paint=way.paint)

    def check(self, preset: Preset, *, samples_text: bool) -> None:
        """Whether a preset, and a bundle that has the graphs for it (``samples_text``), can do it.

        :raises InputError: an option is out of range, or the bundle cannot sample text.
        """
        _require("call", Integral, steps=self.steps)
        _require("call", Integral, optional=False, batch_size=self.batch_size)
        _require("call", Real, deadline_ms=self.deadline_ms, strength=self.strength, paint=self.paint)
        _require("call", Real, optional=False, scale=self.scale)
        if not isinstance(self.split, Split) or not isinstance(self.gate, Gate):
            raise InputError(f"split and gate must be a Split and a Gate, not {self.split!r} and {self.gate!r}")
        schedule = ResidualShiftSchedule.from_config(preset.schedule)
        schedule.kept(len(schedule) if self.steps is None else self.steps)
        if self.text_sampler not in ("fixed", "categorical"):
            raise InputError(f"text sampler {self.text_sampler!r}: choose fixed or categorical")
        if self.text_sampler == "categorical" and not samples_text:
            raise InputError("this bundle has no graphs for the categorical text sampler: use fixed")
        if self.batch_size < 1:
            raise InputError(f"batch size must be at least 1, not {self.batch_size}")
        if not 0 < self.scale <= LARGEST_SCALE:
            raise InputError(f"scale must be above 0 and at most {LARGEST_SCALE:g}, not {self.scale}")
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise InputError(f"strength must be from 0 to 1, not {self.strength}")
        if self.paint is not None and not 0 <= self.paint <= MOST_PAINT:
            raise InputError(f"paint must be from 0 to {MOST_PAINT:g}, not {self.paint}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"seed must be a whole number, not {self.seed!r}")
        if self.deadline_ms is not None and not 0 < self.deadline_ms <= LONGEST_MS:
            raise InputError(f"deadline_ms must be above 0 and at most {LONGEST_MS:g}, not {self.deadline_ms}")
        self.split.check(preset)
        self.gate.check()


def _require(whose: str, kind: type, *, optional: bool = True, **values: object) -> None:
    """Raises InputError that names a value that is no number of ``kind``; None may stand for none."""
    for name, value in values.items():
        if (value is None and optional) or (isinstance(value, kind) and not isinstance(value, bool)):
            continue
        raise InputError(f"{whose}: {name} must be a {'whole ' if kind is Integral else ''}number, not {value!r}")
