"""The layer over CUDA's runtime on a real device, where there is one: memory, captured graphs, foreign arrays."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import numpy as np
import pytest

from runtime.cuda import Cuda, Pinned, Pool, look
from runtime.executors.device import no_gpu
from textsr.errors import DeviceError, EngineError

pytestmark = pytest.mark.skipif(bool(no_gpu()), reason="there is no CUDA device")


@pytest.fixture
def cuda() -> Iterator[Cuda]:
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    opened = Cuda()
    with opened.current():
        yield opened
    opened.close()


def test_a_captured_copy_over_two_streams_is_launched_again(cuda: Cuda) -> None:
    """Host to device on the first stream, on to another buffer on the second, back on the first."""
    main, side, values = cuda.stream(), cuda.stream(), np.arange(1000, dtype=np.float32)
    pool, kinds = Pool(cuda, main), cuda.api.cudaMemcpyKind
    taken = [pool.take(values.nbytes), pool.take(values.nbytes)]
    one, other = (buffer.address for buffer in taken)
    source, sink = Pinned(cuda, values.nbytes), Pinned(cuda, values.nbytes)
    there, back = cuda.event(), cuda.event()

    def copy(to: int, where: int, kind: object, stream: object) -> None:
        cuda.call("cudaMemcpyAsync", to, where, values.nbytes, kind, stream)

    def enqueue() -> None:
        copy(one, source.address, kinds.cudaMemcpyHostToDevice, main.raw)
        cuda.order(main.raw, side.raw, there)
        copy(other, one, kinds.cudaMemcpyDeviceToDevice, side.raw)
        cuda.order(side.raw, main.raw, back)
        copy(sink.address, other, kinds.cudaMemcpyDeviceToHost, main.raw)

    graph = cuda.capture(main, enqueue)
    for shift in range(3):
        source.array(0, values.shape, values.dtype)[...] = values + shift
        cuda.launch(graph, main)
        cuda.synchronize(main)
        assert (sink.array(0, values.shape, values.dtype) == values + shift).all()
    for made in (graph, there, back):
        cuda.destroy(made)
    del taken[0]
    assert pool.take(values.nbytes).address == one
    pool.trim()
    source.close()
    sink.close()
    pool.close()


def test_what_may_not_be_captured_ends_the_capture_and_leaves_the_stream_usable(cuda: Cuda) -> None:
    stream = cuda.stream()
    with pytest.raises(EngineError, match="cudaStreamSynchronize"):
        cuda.capture(stream, lambda: cuda.synchronize(stream))
    cuda.synchronize(stream)


def test_too_much_memory_is_told(cuda: Cuda) -> None:
    pool = Pool(cuda, cuda.stream())
    with pytest.raises(DeviceError, match="use a smaller batch"):
        pool.take(1 << 50)
    pool.close()


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_arrays_of_other_libraries_are_seen(cuda: Cuda, library: str) -> None:
    module = pytest.importorskip(library)
    if library == "torch" and not module.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    made = module.ones((2, 3), dtype=module.float32, **({"device": "cuda:0"} if library == "torch" else {}))
    seen = look(made, cuda)
    assert (seen.shape, seen.dtype.str) == ((2, 3), "<f4")
    host = Pinned(cuda, 24)
    kinds = import_module("cuda.bindings.runtime").cudaMemcpyKind
    cuda.call("cudaDeviceSynchronize")
    cuda.call("cudaMemcpy", host.address, seen.address, 24, kinds.cudaMemcpyDeviceToHost)
    assert host.array(0, (2, 3), np.float32).tolist() == [[1.0] * 3] * 2
    host.close()
