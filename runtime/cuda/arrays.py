"""Arrays on the device, and the ``__cuda_array_interface__`` (version 3) in both directions, without a copy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.cuda.api import Cuda, Stream
from runtime.cuda.memory import Buffer
from textsr.errors import DeviceError, EngineError, InputError

INTERFACE = "__cuda_array_interface__"


class DeviceArray:
    """A C-contiguous array on the device: what a handle of the executor is.

    CuPy, Numba and torch take it as it is. They must order their reads behind the interface's ``stream``, hold the
    object until their work is done, and be done before the executor is closed. It was made by (``lane``), and is
    valid behind the work of, the stream of that lane; ``owner`` is the foreign object whose memory it is, if any.
    """

    def __init__(
        self,
        lane: Any,
        stream: Stream,
        memory: Buffer | int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        owner: Any = None,
    ) -> None:
        self.lane, self.stream, self.shape, self.dtype, self.owner = lane, stream, shape, dtype, owner
        self._buffer = memory if isinstance(memory, Buffer) else None
        self.address = memory.address if isinstance(memory, Buffer) else memory

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The interface, version 3. Raises EngineError after the executor's `close`."""
        self.lane.check()
        if self._buffer is not None:
            self._buffer.exported = True
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": self.stream.handle,
            "version": 3,
        }


def is_device_object(value: Any) -> bool:
    """Whether a value offers the interface; torch raises from the property of a tensor on the CPU."""
    try:
        return not isinstance(value, np.ndarray) and getattr(value, INTERFACE, None) is not None
    except (TypeError, RuntimeError):  # a tensor that is on the CPU or needs a gradient
        return False


def borrow(value: Any, lane: Any, cuda: Cuda, stream: Stream, event: Any) -> DeviceArray:
    """A foreign array on the device as a handle on the same memory; ``stream`` waits for the producer's work.

    Raises what `look` raises.
    """
    seen = look(value, cuda)
    if seen.producer is not None and seen.producer != stream.handle:
        cuda.order(seen.producer, stream.raw, event)
    return DeviceArray(lane, stream, seen.address, seen.shape, seen.dtype, owner=value)


@dataclass(frozen=True)
class Seen:
    """What the interface of a foreign array tells; ``producer`` is the stream whose work it is, if any."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    producer: int | None


def look(value: Any, cuda: Cuda) -> Seen:
    """The interface of a foreign array that can be taken as it is.

    :raises InputError: it is strided, masked or of an unknown type or version.
    :raises DeviceError: its memory is not on this device.
    """
    told = getattr(value, INTERFACE)
    version, shape, (address, _) = int(told.get("version", 0)), tuple(int(side) for side in told["shape"]), told["data"]
    try:
        dtype = np.dtype(told["typestr"])
    except TypeError as error:
        raise InputError(f"array on the device: element type {told['typestr']!r} is not known") from error
    if version < 2 or told.get("mask") is not None:
        raise InputError(f"array on the device: {INTERFACE} version {version}, or a mask, which is not supported")
    if told.get("strides") is not None and tuple(told["strides"]) != _contiguous(shape, dtype):
        raise InputError(f"array on the device: strides {told['strides']} of shape {shape}: make it contiguous first")
    if address:
        (found,) = cuda.call("cudaPointerGetAttributes", int(address))
        kinds = cuda.api.cudaMemoryType
        if found.type not in (kinds.cudaMemoryTypeDevice, kinds.cudaMemoryTypeManaged) or found.device != cuda.index:
            raise DeviceError(f"array on the device: its memory is not on cuda:{cuda.index}")
    elif math.prod(shape):
        raise EngineError("array on the device: no address")
    producer = told.get("stream")
    if producer == 0:
        raise InputError(f"array on the device: stream 0 is not allowed by {INTERFACE} version 3")
    return Seen(int(address), shape, dtype, None if producer is None else int(producer))


def _contiguous(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    return tuple(dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
