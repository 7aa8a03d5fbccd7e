"""What an engine is bound to: the GPU's name, its compute capability, and the driver."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from textsr.errors import DeviceError, EngineError, InputError

_FACTS = re.compile(r"\s*(?P<name>[^,]+?)\s*,\s*(?P<major>\d{1,2})\.(?P<minor>\d)\s*,\s*(?P<driver>[^,\s][^,]*?)\s*")
_MISSING = "DynamicLibNotFoundError"
"""Raised by cuda-bindings where the driver's library is not on this machine."""


@dataclass(frozen=True)
class GpuFacts:
    """``capability`` is (major, minor); ``driver`` the driver's version and the CUDA version that it offers."""

    name: str
    capability: tuple[int, int]
    driver: str

    @classmethod
    def parse(cls, text: str) -> GpuFacts:
        """Facts written as ``NAME,CAPABILITY,DRIVER``, for example ``NVIDIA RTX A2000,8.6,580.95 (CUDA 13.0)``."""
        match = _FACTS.fullmatch(text)
        if match is None:
            raise InputError(f"{text!r} is no GPU: write NAME,CAPABILITY,DRIVER as python -m export.engines shows")
        return cls(match["name"], (int(match["major"]), int(match["minor"])), match["driver"])

    def __str__(self) -> str:
        return f"{self.name},{self.capability[0]}.{self.capability[1]},{self.driver}"


def find_gpu(index: int = 0) -> GpuFacts | None:
    """Facts of CUDA device ``index``; None on a machine without a driver or without a GPU.

    :raises EngineError: cuda-bindings is not installed.
    :raises DeviceError: there are GPUs but none of that number, or the driver fails.
    """
    try:
        driver: Any = import_module("cuda.bindings.driver")
    except ModuleNotFoundError as error:
        raise EngineError("cuda-bindings is not installed: install the extra [tensorrt]") from error
    try:
        (started,) = driver.cuInit(0)
    except RuntimeError as error:
        if type(error).__name__ == _MISSING:
            return None
        raise
    if started == driver.CUresult.CUDA_ERROR_NO_DEVICE:
        return None
    _succeeded(driver, started, "cuInit")
    count = _call(driver, "cuDeviceGetCount")
    if index >= count:
        raise DeviceError(f"there is no cuda:{index}: this machine has {count} GPUs")
    device = _call(driver, "cuDeviceGet", index)
    name = _call(driver, "cuDeviceGetName", 256, device).split(b"\0")[0].decode("utf-8", "replace")
    which = driver.CUdevice_attribute
    major, minor = (
        int(_call(driver, "cuDeviceGetAttribute", part, device))
        for part in (
            which.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            which.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    cuda = int(_call(driver, "cuDriverGetVersion"))
    version = f"CUDA {cuda // 1000}.{cuda % 1000 // 10}"
    release = _driver_release()
    return GpuFacts(name.replace(",", " "), (major, minor), f"{release} ({version})" if release else version)


def _call(driver: Any, function: str, *arguments: Any) -> Any:
    """The one value that a driver function gives."""
    result, value = getattr(driver, function)(*arguments)
    _succeeded(driver, result, function)
    return value


def _succeeded(driver: Any, result: Any, function: str) -> None:
    if result != driver.CUresult.CUDA_SUCCESS:
        raise DeviceError(f"the CUDA driver answers {function} with {result.name}: is it in order (nvidia-smi)?")


def _driver_release() -> str:
    """The driver's release, as ``580.95.05``; empty in containers and systems that lack NVML."""
    nvml: Any = import_module("cuda.bindings.nvml")
    try:
        nvml.init_v2()
    except RuntimeError as error:
        if type(error).__name__ == _MISSING:
            return ""
        raise
    try:
        return str(nvml.system_get_driver_version())
    finally:
        nvml.shutdown()
