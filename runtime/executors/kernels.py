"""The kernels that TensorRT-RTX compiles while it runs, kept for the next start. TensorRT has no such thing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from textsr.errors import TextSRError

logger = logging.getLogger(__name__)


class Kernels:
    """One runtime cache for all contexts of an executor. Not tried on a GPU yet."""

    def __init__(
        self, read: Callable[[], bytes] | None = None, keep: Callable[[bytes | memoryview], None] | None = None
    ) -> None:
        """A cache that begins with what ``read`` gives and is given to ``keep`` by `store`, where it has changed."""
        self._read, self._keep = read, keep
        self._lock = threading.Lock()
        self._cache: Any = None
        self._stored = b""

    def attach(self, config: Any) -> None:
        """Gives the cache to a context's configuration; does nothing with a library that has none."""
        if not hasattr(config, "create_runtime_cache"):
            return
        with self._lock:
            if self._cache is None:
                self._cache = config.create_runtime_cache()
                self._stored = self._read() if self._read else b""
                if self._stored and not self._cache.deserialize(self._stored):
                    logger.info("kernels kept from an earlier start are for another GPU or version: compiled anew")
            if not config.set_runtime_cache(self._cache):
                logger.warning("the cache of compiled kernels is not accepted: they are compiled at every start")

    def store(self) -> None:
        """Hands over what was compiled, where that is new. A failure is logged: it costs time, not results."""
        with self._lock:
            if self._cache is None or self._keep is None:
                return
            data = bytes(memoryview(self._cache.serialize()))
            if data and data != self._stored:
                try:
                    self._keep(data)
                    self._stored = data
                except (TextSRError, OSError) as error:  # a cache that may be read only, a full disk
                    logger.warning("compiled kernels are not kept: %s", error)
