"""ONNX Runtime and arrays on the device: what is bound, waited for and given; strict sessions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from runtime.bundle import Bundle
from runtime.cuda import Cuda
from runtime.executors import onnxruntime as ours
from runtime.executors.onnxruntime import OrtExecutor
from runtime.executors.ortvalues import Borrowed, Given
from tests.runtime.executors.fake_cuda import FakeCuda
from tests.runtime.executors.test_cuda import foreign
from textsr.device import Device
from textsr.errors import DeviceError, EngineError


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


def on_cuda(bundle: Bundle) -> tuple[OrtExecutor, FakeCuda]:
    """An executor that takes itself to be on CUDA."""
    executor, fake = OrtExecutor(bundle, "cpu", 1), FakeCuda()
    executor.device, executor._cuda = Device("cuda"), Cuda(0, fake)
    return executor, fake


def test_a_foreign_array_is_waited_for_and_bound_where_it_lies(bundle: Bundle) -> None:
    executor, fake = on_cuda(bundle)
    values = np.arange(24, dtype=np.float32).reshape(1, 24)
    (stream,) = fake.do_cudaStreamCreateWithFlags(1)
    array = foreign(fake, values, stream=stream)
    handle = executor.put(array)
    assert "cudaStreamSynchronize" in fake.calls
    assert "cudaMemcpy" not in fake.calls
    assert isinstance(handle, Borrowed)
    assert executor.get_device(handle) is array
    assert (executor.get(handle) == values).all()
    bound: list[Any] = []
    binding = SimpleNamespace(
        bind_input=lambda *told: bound.append(told),
        bind_ortvalue_input=lambda *told: bound.append(told),
        bind_output=lambda *told: bound.append(told),
        get_outputs=lambda: ["out"],
    )
    session: Any = SimpleNamespace(io_binding=lambda: binding, run_with_iobinding=lambda binding: None)
    assert executor._run_cuda(session, ["c_cond"], {"weights": handle, "tokens": "value"}) == ["out"]
    assert bound[0] == ("weights", "cuda", 0, np.float32, (1, 24), handle.address)
    assert bound[1:] == [("tokens", "value"), ("c_cond", "cuda", 0)]


def test_values_are_given_with_address_and_type() -> None:
    values = np.arange(6, dtype=np.int64).reshape(2, 3)
    given = Given(ort.OrtValue.ortvalue_from_numpy(values))
    told = given.__cuda_array_interface__
    assert (told["shape"], told["typestr"], told["version"], told["stream"]) == ((2, 3), "<i8", 3, None)
    assert told["data"] == (given.value.data_ptr(), False)
    with pytest.raises(EngineError, match="string"):
        Given(SimpleNamespace(data_type=lambda: "tensor(string)"))


def test_on_the_cpu_nothing_is_on_a_device(bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match="host memory"):
        OrtExecutor(bundle, "cpu", 1).get_device(np.zeros(3))


def test_a_strict_session_names_cuda_alone(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime refuses a session that names the CPU and forbids it; played by a provider that takes no node."""
    asked: list[Any] = []
    real = ort.InferenceSession

    def session(path: str, options: Any, providers: list[Any]) -> Any:
        asked.append(providers)
        return real(path, options, providers=["AzureExecutionProvider"])

    if "AzureExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has no provider that takes no node")
    monkeypatch.setattr(ours.ort, "InferenceSession", session)
    path = bundle.graphs["text_condition"].path
    with pytest.raises(EngineError, match="fallback to CPU EP has been explicitly disabled"):
        ours.open_session(path, Device("cuda"), 1, strict=True)
    assert [entry[0] for entry in asked[0]] == ["CUDAExecutionProvider"]
    with pytest.raises(DeviceError, match="asked for cuda:0, but"):
        ours.open_session(path, Device("cuda"), 1)
    assert asked[1][1:] == ["CPUExecutionProvider"]
