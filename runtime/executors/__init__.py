"""Who runs the graphs: the fastest executor that works here, or the one asked for."""

from __future__ import annotations

from runtime.executors.choice import EXECUTORS, ON_CUDA, Attempt, Choice, choose_executor, open_executor

__all__ = ["EXECUTORS", "ON_CUDA", "Attempt", "Choice", "choose_executor", "open_executor"]
