"""Engines of TensorRT and TensorRT-RTX: planned, built, and kept in a cache that only this user can have filled."""

from __future__ import annotations

from runtime.engines.cache import EngineCache, default_folder
from runtime.engines.gpu import GpuFacts, find_gpu
from runtime.engines.library import MODULES, Library, log_of, open_library, refusal
from runtime.engines.planning import EnginePlan, PlannedEngine, Settings, Target, plan
from runtime.engines.preparing import ReadyEngine, keep_kernels, prepare, read_kernels
from runtime.engines.profiles import BATCHES, profile_for
from runtime.engines.source import CachedEngines

__all__ = [
    "BATCHES",
    "MODULES",
    "CachedEngines",
    "EngineCache",
    "EnginePlan",
    "GpuFacts",
    "Library",
    "PlannedEngine",
    "ReadyEngine",
    "Settings",
    "Target",
    "default_folder",
    "find_gpu",
    "keep_kernels",
    "log_of",
    "open_library",
    "plan",
    "prepare",
    "profile_for",
    "read_kernels",
    "refusal",
]
