"""A guard for restored lines: what reads well and says something else is not applied. See `runtime.guard.guard`."""

from __future__ import annotations

from runtime.guard.decide import decide
from runtime.guard.evidence import Evidence
from runtime.guard.guard import Guard
from runtime.guard.options import GuardOptions

__all__ = ["Evidence", "Guard", "GuardOptions", "decide"]
