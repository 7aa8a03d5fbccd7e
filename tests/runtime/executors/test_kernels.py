"""Compiled kernels of TensorRT-RTX: read once, shared, and kept where they are new."""

from __future__ import annotations

import logging

import pytest

from runtime.executors.kernels import Kernels
from textsr.errors import EngineError


class Cache:
    """A runtime cache; it takes only what begins with R."""

    def __init__(self) -> None:
        self.data = b""

    def deserialize(self, blob: bytes) -> bool:
        self.data = blob if blob.startswith(b"R") else self.data
        return blob.startswith(b"R")

    def serialize(self) -> memoryview:
        return memoryview(self.data)


class Config:
    """A runtime configuration of TensorRT-RTX."""

    def __init__(self) -> None:
        self.cache: Cache | None = None

    def create_runtime_cache(self) -> Cache:
        return Cache()

    def set_runtime_cache(self, cache: Cache | None = None) -> bool:
        self.cache = cache
        return True


def test_all_contexts_share_one_cache_that_is_kept_where_it_changed() -> None:
    kept: list[bytes | memoryview] = []
    kernels = Kernels(lambda: b"R1", kept.append)
    one, other = Config(), Config()
    kernels.attach(one)
    kernels.attach(other)
    assert one.cache is not None
    assert one.cache is other.cache
    assert one.cache.data == b"R1"
    kernels.store()
    assert kept == []
    one.cache.data = b"R2"
    kernels.store()
    kernels.store()
    assert kept == [b"R2"]


@pytest.mark.parametrize("error", [EngineError("the cache is locked"), OSError(30, "Read-only file system")])
def test_what_does_not_fit_and_what_cannot_be_kept_is_logged(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(data: bytes | memoryview) -> None:
        raise error

    with caplog.at_level(logging.INFO):
        kernels, config = Kernels(lambda: b"old", fail), Config()
        kernels.attach(config)
        assert config.cache is not None
        config.cache.data = b"R3"
        kernels.store()
    assert "another GPU" in caplog.text
    assert str(error) in caplog.text


def test_tensorrt_has_none() -> None:
    kernels = Kernels(lambda: b"R", None)
    kernels.attach(object())
    kernels.store()


def test_the_names_are_those_of_tensorrt_rtx() -> None:
    module = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    for name in ("create_runtime_cache", "set_runtime_cache"):
        assert hasattr(module.IRuntimeConfig, name)
    for name in ("serialize", "deserialize"):
        assert hasattr(module.IRuntimeCache, name)
