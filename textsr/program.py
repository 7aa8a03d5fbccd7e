"""The loop's calls as a program over numbered values, which an executor can capture as a whole. Torch-free.

`textsr.loop.restore` calls an executor's ``put``, ``run`` and ``get`` in an order that depends on its `LoopKey` alone
and does no arithmetic on handles. So the calls of one pass are a straight program.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from textsr.config import Preset

TEXT_BRANCH = frozenset({"text_time_condition", "mom_image", "text_step"})
"""Graphs that sampled text needs besides: nothing of the same step's image branch waits for them."""

DRAWING = frozenset({"painted_encoder", "glyph_canvas"})
"""Graphs that draw what was read: not every preset has them."""


def drawing(preset: Preset) -> frozenset[str]:
    """Those of `DRAWING` that a preset has."""
    has = {"painted_encoder": preset.unet.painted_channels > 0, "glyph_canvas": preset.glyph is not None}
    return frozenset(name for name in DRAWING if has[name])


@dataclass(frozen=True)
class Put:
    """A host array that became a value; ``dtype`` in NumPy's short form, empty for an array on the device."""

    value: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Run:
    """A graph on values; inputs and outputs are (name, value) in the order given."""

    graph: str
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]

    @property
    def side(self) -> bool:
        """Whether it belongs to the text branch."""
        return self.graph in TEXT_BRANCH


@dataclass(frozen=True)
class Get:
    """A value that was brought to the host."""

    value: int


Call = Put | Run | Get


@dataclass(frozen=True)
class Program:
    """All calls of one pass."""

    calls: tuple[Call, ...]

    @property
    def puts(self) -> tuple[Put, ...]:
        """The host arrays, in order."""
        return tuple(call for call in self.calls if isinstance(call, Put))

    @property
    def runs(self) -> tuple[Run, ...]:
        """The graphs, in order."""
        return tuple(call for call in self.calls if isinstance(call, Run))

    @property
    def gets(self) -> tuple[int, ...]:
        """Values brought to the host, each once, in order."""
        return tuple(dict.fromkeys(call.value for call in self.calls if isinstance(call, Get)))

    def refusal(self) -> str:
        """Why it cannot be captured; empty where it can."""
        if any(not put.dtype for put in self.puts):
            return "an array was on the device already"
        kinds = [type(call) for call in self.calls]
        if Run not in kinds or Get not in kinds:
            return "no graph ran, or nothing was asked back"
        first = kinds.index(Get)
        return "a graph ran after a value was asked back" if set(kinds[first:]) != {Get} else ""

    @cached_property
    def branches(self) -> dict[int, frozenset[bool]]:
        """For each value the branches (False image, True text) that write or read it; arrays from and to the host
        belong to the image branch."""
        found: dict[int, set[bool]] = {}
        for call in self.calls:
            if isinstance(call, Run):
                for _, value in (*call.inputs, *call.outputs):
                    found.setdefault(value, set()).add(call.side)
            else:
                found.setdefault(call.value, set()).add(False)
        return {value: frozenset(sides) for value, sides in found.items()}

    @cached_property
    def last_use(self) -> dict[int, int]:
        """For each value the place of the last call that writes or reads it."""
        found: dict[int, int] = {}
        for place, call in enumerate(self.calls):
            values = [value for _, value in (*call.inputs, *call.outputs)] if isinstance(call, Run) else [call.value]
            found.update(dict.fromkeys(values, place))
        return found

    @cached_property
    def waits(self) -> tuple[int | None, ...]:
        """For each run the run of the other branch (its place in ``runs``; -1: the arrays from the host) that it has
        to wait for, None where its branch has waited for that already or needs nothing from there."""
        written = {put.value: (False, -1) for put in self.puts}
        seen = {False: -1, True: -2}  # the arrays from the host come on the image branch
        found: list[int | None] = []
        for place, run in enumerate(self.runs):
            sources = [written[value] for _, value in run.inputs]
            need = max((source for side, source in sources if side is not run.side), default=-2)
            waits = need > seen[run.side]
            seen[run.side] = max(need, seen[run.side])
            found.append(need if waits else None)
            written |= {value: (run.side, place) for _, value in run.outputs}
        return tuple(found)
