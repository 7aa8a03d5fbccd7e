"""Engines on demand: what an executor loads from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from runtime.bundle import Bundle, GraphSpec
from runtime.engines.cache import EngineCache
from runtime.engines.library import Library, refusal
from runtime.engines.planning import EnginePlan, Settings, Target, plan
from runtime.engines.preparing import OnMismatch, prepare
from textsr.errors import EngineError


class CachedEngines:
    """The engines of a bundle, each taken from the cache, or built, when it is asked for the first time."""

    def __init__(
        self,
        bundle: Bundle,
        settings: Settings | None = None,
        target: Target | None = None,
        *,
        cache: EngineCache | Path | None = None,
        on_mismatch: OnMismatch = "rebuild",
    ) -> None:
        """Raises what `Target.here` and `EngineCache` raise."""
        self.settings, self.target = settings or Settings(), target or Target.here()
        self._bundle, self._on_mismatch = bundle, on_mismatch
        self._cache = cache if isinstance(cache, EngineCache) else EngineCache(cache)

    @property
    def library(self) -> Library:
        """What builds the engines and loads them."""
        return self.target.library

    def plan(self, graphs: Iterable[str] | None = None) -> EnginePlan:
        """The plan for these graphs, or for all."""
        return plan(self._bundle, self.settings, self.target, cache=self._cache, graphs=graphs)

    def serialized(self, graph: GraphSpec) -> bytes:
        """The verified bytes of a graph's engine.

        :raises EngineError: TensorRT-RTX does not run it on this GPU; and what `prepare` and `ReadyEngine.read` raise.
        """
        data = prepare(self.plan([graph.name]), on_mismatch=self._on_mismatch)[graph.name].read()
        reason = refusal(self.library, data)
        if reason:
            raise EngineError(f"{self.library.name} does not run engines on {self.target.gpu or 'no GPU'}: {reason}")
        return data
