"""Device memory that is used again, and pinned host memory."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.api import Cuda, Stream
from textsr.errors import DeviceError

ALIGNMENT = 256
"""Bytes; what TensorRT asks of its scratch memory and what ``cudaMalloc`` gives."""
_SMALLEST, _LARGE = 512, 2 << 20


def size_class(size: int) -> int:
    """Bytes allocated for ``size`` bytes: a power of two up to 2 MiB, then multiples of 2 MiB."""
    if size > _LARGE:
        return -(-size // _LARGE) * _LARGE
    return max(_SMALLEST, 1 << (size - 1).bit_length()) if size else _SMALLEST


class Buffer:
    """Device memory of a `Pool`. It goes back there when the last reference to it goes."""

    __slots__ = ("_pool", "address", "exported", "size")

    def __init__(self, pool: Pool, address: int, size: int) -> None:
        self._pool = pool
        self.address, self.size = address, size
        self.exported = False  # whether foreign code was told the address

    def __del__(self) -> None:
        self._pool.returned.append((self.address, self.size, self.exported))


class Pool:
    """Device memory for the work of one stream.

    A buffer that comes back may still be in use by work enqueued before; whoever takes it next enqueues behind that
    work on the same stream, which makes it safe. So every use by another stream must be over, or be ordered before
    the stream, when the buffer's last reference goes. The caller holds the lane's lock, except for coming back, which
    may happen anywhere, also in a garbage collection during a capture, and therefore calls nothing.
    """

    def __init__(self, cuda: Cuda, stream: Stream) -> None:
        self._cuda, self._stream = cuda, stream
        self._process = os.getpid()
        self._owned: dict[int, int] = {}
        self._free: dict[int, list[int]] = {}
        self.returned: deque[tuple[int, int, bool]] = deque()

    @property
    def allocated(self) -> int:
        """Bytes of the device that the pool holds, in use or not."""
        return sum(self._owned.values())

    def take(self, size: int) -> Buffer:
        """At least ``size`` bytes, aligned to 256. Raises DeviceError when the device has none left."""
        self._collect()
        size = size_class(size)
        free = self._free.get(size)
        return Buffer(self, free.pop() if free else self._allocate(size), size)

    def _allocate(self, size: int) -> int:
        try:
            (address,) = self._cuda.call("cudaMalloc", size)
        except DeviceError as error:
            self.trim()
            try:
                (address,) = self._cuda.call("cudaMalloc", size)
            except DeviceError:
                held = self.allocated / 2**20
                raise DeviceError(
                    f"{error}; {size / 2**20:.0f} MiB were asked for, {held:.0f} MiB are held: use a smaller batch"
                ) from error
        self._owned[int(address)] = size
        return int(address)

    def _collect(self) -> None:
        """Takes in what came back. What foreign code may still read is freed instead, after the device is done."""
        exported = []
        while self.returned:
            address, size, known = self.returned.popleft()
            if address in self._owned:
                exported.append(address) if known else self._free.setdefault(size, []).append(address)
        if exported:
            self._cuda.call("cudaDeviceSynchronize")
            for address in exported:
                self._release(address)

    def _release(self, address: int) -> None:
        del self._owned[address]
        self._cuda.quietly("cudaFree", address)

    def trim(self) -> None:
        """Gives free memory back to the device, after the stream's work is done."""
        self._collect()
        self._cuda.synchronize(self._stream)
        for addresses in self._free.values():
            for address in addresses:
                self._release(address)
        self._free.clear()

    def close(self) -> None:
        """Frees everything, also what is still referenced; in a forked process nothing is touched."""
        if self._process == os.getpid():
            for address in list(self._owned):
                self._release(address)
        self._free.clear()


class Pinned:
    """Page-locked host memory, which the device copies from and to on its own; zeros at first."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        """Raises DeviceError when it cannot be had."""
        self._cuda, self.size = cuda, max(size, 1)
        (address,) = cuda.call("cudaMallocHost", self.size)
        self.address = int(address)
        self._open = True
        memory: Any = (ctypes.c_ubyte * self.size).from_address(self.address)
        self.bytes: NDArray[Any] = np.frombuffer(memory, np.uint8)
        self.bytes[:] = 0

    def array(self, offset: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A view of the memory; not to be used after `close`."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return self.bytes[offset : offset + size].view(dtype).reshape(shape)

    def close(self) -> None:
        """Frees it; no copy may be under way."""
        if self._open:
            self._open = False
            self._cuda.quietly("cudaFreeHost", self.address)
