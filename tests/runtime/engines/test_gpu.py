"""GPU facts from the driver, and none where there is none; which library is taken."""

from __future__ import annotations

import sys
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from runtime.engines import GpuFacts, find_gpu, open_library
from textsr.errors import DeviceError, EngineError, InputError

CUresult = IntEnum("CUresult", {"CUDA_SUCCESS": 0, "CUDA_ERROR_NO_DEVICE": 100, "CUDA_ERROR_UNKNOWN": 999})
CUdevice_attribute = IntEnum(
    "CUdevice_attribute",
    {"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": 75, "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": 76},
)
FACTS = GpuFacts("NVIDIA H100 80GB HBM3", (9, 0), "580.95.05 (CUDA 13.0)")


class DynamicLibNotFoundError(RuntimeError):
    """As cuda-bindings calls it."""


def missing(*_: Any) -> None:
    raise DynamicLibNotFoundError("no libcuda")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """cuda.bindings' driver and nvml on a machine with one H100. Names as in the real modules, where installed."""
    driver = SimpleNamespace(
        CUresult=CUresult,
        CUdevice_attribute=CUdevice_attribute,
        cuInit=lambda flags: (CUresult.CUDA_SUCCESS,),
        cuDeviceGetCount=lambda: (CUresult.CUDA_SUCCESS, 1),
        cuDeviceGet=lambda index: (CUresult.CUDA_SUCCESS, index),
        cuDeviceGetName=lambda size, device: (CUresult.CUDA_SUCCESS, b"NVIDIA H100 80GB HBM3".ljust(size, b"\0")),
        cuDeviceGetAttribute=lambda part, device: (CUresult.CUDA_SUCCESS, {75: 9, 76: 0}[int(part)]),
        cuDriverGetVersion=lambda: (CUresult.CUDA_SUCCESS, 13000),
    )
    nvml = SimpleNamespace(init_v2=lambda: None, system_get_driver_version=lambda: "580.95.05", shutdown=lambda: None)
    for name, module in (("driver", driver), ("nvml", nvml)):
        monkeypatch.setitem(sys.modules, f"cuda.bindings.{name}", module)
    return driver, nvml


def test_the_fakes_names_are_the_real_ones(machine: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, fake in zip(("driver", "nvml"), machine, strict=True):
        monkeypatch.delitem(sys.modules, f"cuda.bindings.{name}")
        real = pytest.importorskip(f"cuda.bindings.{name}", reason="cuda-bindings is not installed")
        for member in vars(fake):
            assert hasattr(real, member), member
    driver = pytest.importorskip("cuda.bindings.driver")
    for kind in (CUresult, CUdevice_attribute):
        for member in kind:
            assert getattr(getattr(driver, kind.__name__), member.name) == member


def test_facts_of_a_gpu(machine: tuple[Any, Any]) -> None:
    assert find_gpu() == FACTS
    machine[1].init_v2 = missing
    assert find_gpu() == GpuFacts(FACTS.name, FACTS.capability, "CUDA 13.0")
    with pytest.raises(DeviceError, match="there is no cuda:1: this machine has 1 GPUs"):
        find_gpu(1)


def test_no_driver_or_no_gpu_is_none(machine: tuple[Any, Any]) -> None:
    machine[0].cuInit = lambda flags: (CUresult.CUDA_ERROR_NO_DEVICE,)
    assert find_gpu() is None
    machine[0].cuInit = missing
    assert find_gpu() is None


def test_a_failing_driver_is_an_error_not_a_missing_gpu(machine: tuple[Any, Any]) -> None:
    machine[0].cuDeviceGetCount = lambda: (CUresult.CUDA_ERROR_UNKNOWN, None)
    with pytest.raises(DeviceError, match="answers cuDeviceGetCount with CUDA_ERROR_UNKNOWN"):
        find_gpu()


def test_without_cuda_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(EngineError, match=r"extra \[tensorrt\]"):
        find_gpu()


def test_facts_in_words_and_back() -> None:
    assert GpuFacts.parse(str(FACTS)) == FACTS
    for text in ("", "RTX", "RTX,8.9", "RTX,eight,580", ",8.9,580"):
        with pytest.raises(InputError, match="write NAME,CAPABILITY,DRIVER"):
            GpuFacts.parse(text)


def library(version: str) -> ModuleType:
    module = ModuleType("fake")
    module.__dict__["__version__"] = version
    return module


def absent(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make ``import name`` say that there is no such module."""
    import runtime.engines.library as own

    real = own.import_module

    def find(name: str) -> Any:
        if name in names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name)

    monkeypatch.setattr(own, "import_module", find)


def test_tensorrt_is_preferred_and_either_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", library("11.4.0"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", library("1.7.1"))
    assert open_library().name == "tensorrt"
    assert open_library("tensorrt-rtx").version == "1.7.1"
    absent(monkeypatch, "tensorrt")
    assert open_library().name == "tensorrt-rtx"
    absent(monkeypatch, "tensorrt", "tensorrt_rtx")
    with pytest.raises(EngineError, match=r"tensorrt and tensorrt-rtx not installed: install the extra \[tensorrt\]"):
        open_library()
    with pytest.raises(InputError, match="unknown engine library 'openvino'"):
        open_library("openvino")


def test_a_broken_or_old_library_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", library("1.7.1"))
    monkeypatch.setitem(sys.modules, "tensorrt", library("10.9.0"))
    with pytest.raises(EngineError, match=r"tensorrt 10\.9\.0 is too old: 11 or newer"):
        open_library()
    import runtime.engines.library as own

    for error, told in (
        (ImportError("libnvinfer.so.11: cannot open shared object file"), "cannot be loaded: libnvinfer"),
        (
            ModuleNotFoundError("No module named 'tensorrt_bindings'", name="tensorrt_bindings"),
            "lacks tensorrt_bindings",
        ),
    ):

        def fail(name: str, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(own, "import_module", fail)
        with pytest.raises(EngineError, match=told):
            open_library()
