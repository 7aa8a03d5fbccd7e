"""NVIDIA GPUs as the driver itself tells of them, through its C library: needs no package. Not tried on a GPU yet."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WINDOWS = sys.platform == "win32"
DRIVER, NVML = ("nvcuda.dll", "nvml.dll") if WINDOWS else ("libcuda.so.1", "libnvidia-ml.so.1")
_SUCCESS, _NO_DEVICE = 0, 100
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_CUDART = re.compile(r"libcudart\.so\.(\d+(?:\.\d+)+)")
Loader = Callable[[str], Any]


class DriverError(Exception):
    """A call of the driver failed; the message is the finding."""


@dataclass(frozen=True)
class Gpu:
    """A device as the driver counts them; ``capability`` is (major, minor)."""

    index: int
    name: str
    capability: tuple[int, int]


@dataclass(frozen=True)
class GpuFound:
    """``driver`` is its release, ``cuda`` the newest CUDA that it offers; both empty where they cannot be told.

    ``runtimes``: versions of CUDA's runtime library that lie on this machine, as the system or a wheel brings it.
    ``problem`` says why there is no GPU; empty where there is one. ``cards`` of NVIDIA are plugged in, driver or not.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str = ""
    cuda: str = ""
    problem: str = ""
    runtimes: tuple[str, ...] = ()
    cards: int = 0

    @property
    def cuda_major(self) -> int:
        """Of the driver's CUDA; 0 where there is none."""
        return int(self.cuda.split(".")[0]) if self.cuda else 0


def find_gpus(
    load: Loader = ctypes.CDLL, pci: Path = Path("/sys/bus/pci/devices"), folders: Sequence[Path] | None = None
) -> GpuFound:
    """What the driver says; ``load`` opens a C library by its name. Never raises for what it finds."""
    runtimes, cards = find_runtimes(runtime_folders() if folders is None else folders), nvidia_cards(pci)
    try:
        driver = load(DRIVER)
    except OSError as error:
        problem = f"no NVIDIA driver ({error})"
        if cards:
            problem += f", although this machine has {cards} NVIDIA card(s): install the driver"
        return GpuFound(problem=problem, runtimes=runtimes, cards=cards)
    release = _release(load)
    try:
        gpus, cuda = _ask(driver)
    except DriverError as error:
        return GpuFound((), release, "", str(error), runtimes, cards)
    return GpuFound(gpus, release, cuda, "" if gpus else "the driver counts no GPU", runtimes, cards)


def _ask(driver: Any) -> tuple[tuple[Gpu, ...], str]:
    started = driver.cuInit(0)
    if started == _NO_DEVICE:
        raise DriverError("the driver finds no GPU (is CUDA_VISIBLE_DEVICES set, or the container without --gpus?)")
    _check(started, "cuInit")
    version, count = ctypes.c_int(), ctypes.c_int()
    _check(driver.cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
    _check(driver.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return tuple(_gpu(driver, index) for index in range(count.value)), cuda


def _gpu(driver: Any, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    _check(driver.cuDeviceGet(ctypes.byref(device), index), "cuDeviceGet")
    _check(driver.cuDeviceGetName(name, len(name), device), "cuDeviceGetName")
    for value, attribute in ((major, _MAJOR), (minor, _MINOR)):
        _check(driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device), "cuDeviceGetAttribute")
    return Gpu(index, name.value.decode("utf-8", "replace"), (major.value, minor.value))


def _check(status: int, call: str) -> None:
    if status != _SUCCESS:
        raise DriverError(f"the driver answers {call} with error {status}: is it in order (nvidia-smi)?")


def _release(load: Loader) -> str:
    """The driver's release, as 580.95.05; empty where NVML, its management library, is not there or says nothing."""
    try:
        nvml = load(NVML)
    except OSError:
        return ""
    if nvml.nvmlInit_v2() != _SUCCESS:
        return ""
    text = ctypes.create_string_buffer(96)
    status = nvml.nvmlSystemGetDriverVersion(text, len(text))
    nvml.nvmlShutdown()
    return text.value.decode("ascii", "replace") if status == _SUCCESS else ""


def nvidia_cards(pci: Path) -> int:
    """Display adapters of NVIDIA on the PCI bus, driver or not (Linux; 0 elsewhere)."""
    found = 0
    for device in sorted(pci.glob("*")):
        try:
            vendor, kind = ((device / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
        except OSError:  # gone meanwhile, or hidden: then it is none that could be used
            continue
        found += vendor == _NVIDIA and kind.startswith(_DISPLAY)
    return found


def runtime_folders() -> list[Path]:
    """Where CUDA's runtime library usually lies."""
    system = [Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib/aarch64-linux-gnu"), Path("/usr/lib64")]
    toolkits = sorted(Path("/usr/local").glob("cuda*/lib64"))
    return [*system, *toolkits, *_wheels()]


def _wheels() -> Iterator[Path]:
    for entry in map(Path, sys.path):
        yield from sorted(entry.glob("nvidia/*/lib"))


def find_runtimes(folders: Sequence[Path]) -> tuple[str, ...]:
    """Versions of libcudart in these folders. The files are not loaded: that could change which one others get."""
    found = set()
    for folder in folders:
        for path in folder.glob("libcudart.so.*"):
            match = _CUDART.fullmatch(path.resolve().name) or re.fullmatch(r"libcudart\.so\.(\d+)", path.name)
            if match:
                found.add(match[1])
    full = {version for version in found if "." in version}
    return tuple(sorted(full | {v for v in found if not any(f.split(".")[0] == v for f in full)}))
