"""Arrays of other libraries in and out of ONNX Runtime on CUDA, without a copy. Not tried on a GPU yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.cuda import Cuda, look
from textsr.errors import EngineError

_TYPES = {
    **{"tensor(float)": "<f4", "tensor(float16)": "<f2", "tensor(double)": "<f8", "tensor(int64)": "<i8"},
    **{"tensor(int32)": "<i4", "tensor(uint8)": "|u1", "tensor(bool)": "|b1"},
}


@dataclass(frozen=True)
class Borrowed:
    """A foreign array that is bound where it lies; ``owner`` keeps it alive."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any

    def copied(self, cuda: Cuda) -> NDArray[Any]:
        """The values on the host."""
        array = np.empty(self.shape, self.dtype)
        if array.nbytes:
            kind = cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
            with cuda.current():
                cuda.call("cudaMemcpy", array.ctypes.data, self.address, array.nbytes, kind)
        return array


def borrow_now(value: Any, cuda: Cuda) -> Borrowed:
    """A foreign array, after its producer's stream was waited for: ONNX Runtime's own stream is not known.

    Raises what `runtime.cuda.look` raises.
    """
    with cuda.current():
        seen = look(value, cuda)
        if seen.producer is not None:
            cuda.call("cudaStreamSynchronize", seen.producer)
    return Borrowed(seen.address, seen.shape, seen.dtype, value)


class Given:
    """An ``OrtValue`` on CUDA as others take it. ONNX Runtime waits for its runs, so the values are there."""

    def __init__(self, value: Any) -> None:
        """Raises EngineError for an element type that NumPy lacks."""
        kind = value.data_type()
        if kind not in _TYPES:
            raise EngineError(f"a value of type {kind} cannot be given to others")
        self.value = value
        self.__cuda_array_interface__ = {
            "shape": tuple(value.shape()),
            "typestr": _TYPES[kind],
            "data": (value.data_ptr() if math.prod(value.shape()) else 0, False),
            "strides": None,
            "stream": None,
            "version": 3,
        }
