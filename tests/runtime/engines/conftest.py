"""Fixtures of the engines' tests."""

from __future__ import annotations

from tests.runtime.engines.helpers import bundle, cache, quick

__all__ = ["bundle", "cache", "quick"]
