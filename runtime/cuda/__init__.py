"""A thin layer over ``cuda.bindings.runtime``: checked calls, memory, streams, captured graphs. Needs no torch."""

from __future__ import annotations

from runtime.cuda.api import Cuda, Stream
from runtime.cuda.arrays import DeviceArray, Seen, borrow, is_device_object, look
from runtime.cuda.memory import Buffer, Pinned, Pool

__all__ = ["Buffer", "Cuda", "DeviceArray", "Pinned", "Pool", "Seen", "Stream", "borrow", "is_device_object", "look"]
