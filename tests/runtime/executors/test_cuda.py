"""The layer over CUDA's runtime: errors, memory, and arrays of other libraries, against a stand-in."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cuda import Cuda, Pinned, Pool, is_device_object
from runtime.cuda.memory import ALIGNMENT, size_class
from runtime.executors.tensorrt import TensorRTExecutor
from tests.runtime.executors.fake_cuda import Attributes, FakeCuda, cudaMemoryType
from tests.runtime.executors.fake_tensorrt import FakeSource
from textsr.errors import DeviceError, EngineError, InputError


def opened() -> tuple[TensorRTExecutor, FakeCuda]:
    fake = FakeCuda()
    return TensorRTExecutor({}, FakeSource(fake, lambda graph, arrays: arrays), api=fake), fake


def test_a_failing_call_is_named_with_cudas_words() -> None:
    fake = FakeCuda(fail_at=1)
    cuda = Cuda(0, fake)
    with pytest.raises(EngineError, match=r"cudaStreamCreateWithFlags on cuda:0: made to fail \(cudaErrorLaunch"):
        cuda.stream()
    with pytest.raises(DeviceError, match="has 1 CUDA device"):
        Cuda(1, FakeCuda())
    with pytest.raises(DeviceError, match="cudaGetDeviceCount"):
        Cuda(0, FakeCuda(fail_at=0))


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(EngineError, match="cuda-bindings"):
        Cuda()


def test_the_callers_device_is_its_own_again() -> None:
    fake = FakeCuda(devices=2)
    cuda = Cuda(1, fake)
    inside = []
    with suppress(ValueError), cuda.current():
        inside.append(fake.device.index)
        raise ValueError
    assert inside == [1]
    assert fake.device.index == 0


@given(st.integers(0, 1 << 31))
def test_size_classes_hold_their_size_without_much_waste(size: int) -> None:
    found = size_class(size)
    assert found >= size
    assert found % ALIGNMENT == 0
    assert found <= max(512, 2 * size)
    assert size_class(found) == found


def test_buffers_come_back_and_are_used_again() -> None:
    fake = FakeCuda()
    cuda = Cuda(0, fake)
    pool = Pool(cuda, cuda.stream())
    first = pool.take(1000)
    address = first.address
    assert pool.take(1000).address != address
    del first
    assert {pool.take(900).address for _ in range(3)} <= {address, address + 8192}
    assert pool.allocated == 2048
    pool.trim()
    assert pool.allocated == 0
    kept = pool.take(1)
    pool.close()
    cuda.close()
    cuda.close()
    del kept
    assert not fake.leaks()


def test_pinned_memory_is_zero_and_typed() -> None:
    fake = FakeCuda()
    pinned = Pinned(Cuda(0, fake), 64)
    view = pinned.array(16, (2, 3), np.float32)
    assert view.shape == (2, 3)
    assert (view == 0).all()
    view[...] = 1
    assert pinned.bytes[16:40].any()
    assert not pinned.bytes[40:].any()
    pinned.close()
    pinned.close()
    assert not fake.leaks()


@dataclass
class Foreign:
    """An array of another library."""

    __cuda_array_interface__: dict[str, Any]


def foreign(fake: FakeCuda, values: np.ndarray[Any, Any], **changes: Any) -> Foreign:
    """``values`` in memory that another library owns."""
    (base,) = fake.do_cudaMalloc(values.nbytes)
    fake.view(base, values.nbytes)[:] = values.reshape(-1).view(np.uint8)
    told = {"shape": values.shape, "typestr": values.dtype.str, "data": (base, False), "version": 3, "strides": None}
    return Foreign({**told, "stream": None, **changes})


def test_foreign_arrays_are_taken_without_a_copy_and_after_their_producer() -> None:
    executor, fake = opened()
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    (stream,) = fake.do_cudaStreamCreateWithFlags(1)
    array = foreign(fake, values, stream=stream)
    before = len(fake.calls)
    handle = executor.put(array)
    calls = fake.calls[before:]
    assert "cudaMemcpyAsync" not in calls
    assert calls[-2:] == ["cudaEventRecord", "cudaStreamWaitEvent"]
    assert handle.address == array.__cuda_array_interface__["data"][0]
    assert handle.owner is array
    assert (executor.get(handle) == values).all()
    executor.close()
    assert fake.blocks[handle.address].alive, "memory of others is not freed"


def test_a_producer_that_is_not_waited_for_is_a_race() -> None:
    """The same with an interface that hides the producer's stream: the stand-in notices what a GPU would not."""
    executor, fake = opened()
    array = foreign(fake, np.zeros(4, np.float32))
    (stream,) = fake.do_cudaStreamCreateWithFlags(1)
    fake.enqueue(stream, [], [(array.__cuda_array_interface__["data"][0], 16)], lambda: None)
    with pytest.raises(AssertionError, match="race"):
        executor.get(executor.put(array))
    executor.close()


def test_borrowed_arrays_live_until_the_work_is_done() -> None:
    executor, fake = opened()
    died: list[int] = []
    for _ in range(100):
        array = foreign(fake, np.ones(4, np.float32))

        class Owned:
            __cuda_array_interface__ = array.__cuda_array_interface__

            def __del__(self) -> None:
                died.append(1)

        handle = executor.put(Owned())
        executor.get_device(handle)  # a use on the stream
        del handle
    gc.collect()
    assert 0 < len(died) < 100  # kept for a while, but not for ever
    executor.get(executor.put(np.zeros(1)))
    gc.collect()
    assert len(died) == 100
    executor.close()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"strides": (4, 12)}, InputError, "contiguous"),
        ({"mask": "m"}, InputError, "mask"),
        ({"version": 1}, InputError, "version 1"),
        ({"typestr": "what"}, InputError, "what"),
        ({"stream": 0}, InputError, "stream 0"),
        ({"data": (64, False)}, DeviceError, "not on cuda:0"),
        ({"data": (0, False)}, EngineError, "no address"),
    ],
)
def test_foreign_arrays_that_cannot_be_taken(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    executor, fake = opened()
    array = foreign(fake, np.zeros((3, 4), np.float32), **changes)
    with pytest.raises(error, match=words):
        executor.put(array)
    executor.close()


def test_contiguous_strides_are_taken() -> None:
    executor, fake = opened()
    values = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert (executor.get(executor.put(foreign(fake, values, strides=(24, 8)))) == values).all()
    executor.close()


def test_handles_are_given_without_a_copy_and_then_not_used_again() -> None:
    executor, fake = opened()
    handle = executor.get_device(executor.put(np.ones((2, 3), np.float16)))
    told = handle.__cuda_array_interface__
    assert told["version"] == 3
    assert (told["shape"], told["typestr"], told["strides"]) == ((2, 3), "<f2", None)
    assert told["stream"] in fake.live["stream"]
    address, _ = told["data"]
    assert is_device_object(handle)
    del handle
    again = executor.put(np.ones((2, 3), np.float16))
    assert again.address != address, "someone may still read what was given"
    assert "cudaDeviceSynchronize" in fake.calls
    executor.close()
    assert not fake.leaks()


def test_torch_tensors_and_arrays_on_the_host_are_no_device_objects() -> None:
    torch = pytest.importorskip("torch")
    assert not is_device_object(np.zeros(3))
    assert not is_device_object(torch.zeros(3))
    assert not is_device_object(torch.zeros(3, requires_grad=True))
    assert not is_device_object(None)


def test_empty_arrays() -> None:
    executor, _ = opened()
    assert executor.get(executor.put(np.zeros((0, 3), np.float32))).shape == (0, 3)
    executor.close()


def test_memory_of_the_host_is_refused() -> None:
    executor, fake = opened()
    attributes = Attributes(cudaMemoryType.cudaMemoryTypeHost, 0)
    fake.do_cudaPointerGetAttributes = lambda address: [attributes]  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match="not on cuda:0"):
        executor.put(foreign(fake, np.zeros(3, np.float32)))
    executor.close()


def test_a_real_fork_raises_in_the_child() -> None:
    executor, fake = opened()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            executor.put(np.zeros(3))
        except EngineError:
            executor.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    executor.close()
    assert not fake.leaks()
