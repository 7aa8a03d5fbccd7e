"""What the doctor finds and advises: driver, libraries, cache, commands. GPUs are fakes with the driver's names."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from runtime.doctor import libraries
from runtime.doctor.advice import Advice, advise
from runtime.doctor.gpu import DRIVER, NVML, Gpu, GpuFound, find_gpus, find_runtimes, nvidia_cards
from runtime.doctor.kept import BundleFound, find_bundle, find_cache
from runtime.doctor.libraries import Library, OnnxRuntime, find_libraries, find_onnxruntime, library_warnings
from runtime.engines.cache import EngineCache

NAME = b"NVIDIA GeForce RTX 4090"
ADA = GpuFound((Gpu(0, NAME.decode(), (8, 9)),), "580.95.05", "13.0")
HOPPER = GpuFound((Gpu(0, "NVIDIA H100 80GB HBM3", (9, 0)),), "580.95.05", "13.0")
NO_GPU = GpuFound(problem="no NVIDIA driver")
CPU_ORT = OnnxRuntime("1.32.0", "onnxruntime", "", ("CPUExecutionProvider",))
GPU_ORT = OnnxRuntime("1.31.1", "onnxruntime-gpu", "13.0", ("CUDAExecutionProvider", "CPUExecutionProvider"))
HALF = BundleFound("here", graphs=("a", "b"), half=("a", "b"))
PLAIN = BundleFound("here", graphs=("a", "b"))


class FakeDriver:
    """``libcuda`` of a machine with two GPUs; ``failing`` names calls and the status that they give."""

    def __init__(self, **failing: int) -> None:
        self.failing = failing

    def _give(self, call: str, place: Any, value: int) -> int:
        place._obj.value = value
        return self.failing.get(call, 0)

    def cuInit(self, flags: int) -> int:
        assert flags == 0
        return self.failing.get("cuInit", 0)

    def cuDriverGetVersion(self, version: Any) -> int:
        return self._give("cuDriverGetVersion", version, 13000)

    def cuDeviceGetCount(self, count: Any) -> int:
        return self._give("cuDeviceGetCount", count, 2)

    def cuDeviceGet(self, device: Any, index: int) -> int:
        return self._give("cuDeviceGet", device, 70 + index)

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        assert device.value in (70, 71)
        assert size == len(name)
        name.value = NAME
        return self.failing.get("cuDeviceGetName", 0)

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        return self._give("cuDeviceGetAttribute", value, {75: 8, 76: 9}[attribute])


class FakeNvml:
    """``libnvidia-ml``."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.open = status, 0

    def nvmlInit_v2(self) -> int:
        self.open += not self.status
        return self.status

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:
        assert size == len(text) >= 80  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
        text.value = b"580.95.05"
        return 0

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return 0


def find(tmp_path: Path, driver: FakeDriver | None, nvml: FakeNvml | None = None) -> GpuFound:
    def load(name: str) -> Any:
        found = {DRIVER: driver, NVML: nvml}[name]
        if found is None:
            raise OSError(f"{name}: cannot open shared object file")
        return found

    return find_gpus(load, tmp_path / "pci", [tmp_path / "lib"])


def card(tmp_path: Path, vendor: str, kind: str) -> None:
    folder = tmp_path / "pci" / f"0000:{len(list(tmp_path.glob('pci/*'))):02x}:00.0"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(vendor + "\n")
    (folder / "class").write_text(kind + "\n")


def test_the_fakes_names_are_the_drivers() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    for name in vars(FakeDriver):
        assert not name.startswith("cu") or hasattr(driver, name), name
    attributes = driver.CUdevice_attribute
    assert int(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) == 75
    assert int(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) == 76
    assert int(driver.CUresult.CUDA_ERROR_NO_DEVICE) == 100
    nvml = pytest.importorskip("cuda.bindings.nvml")
    assert hasattr(nvml, "init_v2")
    assert hasattr(nvml, "system_get_driver_version")


def test_gpus_of_a_machine(tmp_path: Path) -> None:
    nvml = FakeNvml()
    found = find(tmp_path, FakeDriver(), nvml)
    assert found.gpus == tuple(Gpu(index, NAME.decode(), (8, 9)) for index in (0, 1))
    assert (found.driver, found.cuda, found.cuda_major, found.problem) == ("580.95.05", "13.0", 13, "")
    assert nvml.open == 0
    assert find(tmp_path, FakeDriver(), FakeNvml(9)).driver == find(tmp_path, FakeDriver()).driver == ""


def test_no_driver_with_and_without_a_card(tmp_path: Path) -> None:
    assert find(tmp_path, None).problem == f"no NVIDIA driver ({DRIVER}: cannot open shared object file)"
    card(tmp_path, "0x8086", "0x030000")
    card(tmp_path, "0x10de", "0x040300")  # its sound
    assert nvidia_cards(tmp_path / "pci") == 0
    card(tmp_path, "0x10de", "0x030200")
    found = find(tmp_path, None)
    assert found.cards == 1
    assert "has 1 NVIDIA card(s): install the driver" in found.problem


@pytest.mark.parametrize(
    ("failing", "told"),
    [
        ({"cuInit": 100}, "CUDA_VISIBLE_DEVICES"),
        ({"cuInit": 999}, "answers cuInit with error 999"),
        ({"cuDeviceGetCount": 3}, "answers cuDeviceGetCount with error 3"),
        ({"cuDeviceGetAttribute": 1}, "answers cuDeviceGetAttribute with error 1"),
    ],
)
def test_a_driver_that_fails_is_a_finding(tmp_path: Path, failing: dict[str, int], told: str) -> None:
    found = find(tmp_path, FakeDriver(**failing), FakeNvml())
    assert told in found.problem
    assert (found.gpus, found.driver) == ((), "580.95.05")


def test_the_real_loader_says_what_this_machine_has() -> None:
    found = find_gpus()
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        assert "no NVIDIA driver" in found.problem
    assert bool(found.gpus) != bool(found.problem)


def test_cuda_runtimes_are_found_without_loading_them(tmp_path: Path) -> None:
    system, wheel = tmp_path / "lib64", tmp_path / "wheel"
    for folder in (system, wheel):
        folder.mkdir()
    (system / "libcudart.so.12.8.90").write_bytes(b"no library")
    (system / "libcudart.so.12").symlink_to("libcudart.so.12.8.90")
    (wheel / "libcudart.so.13").write_bytes(b"no library")
    assert find_runtimes([system, wheel, tmp_path / "none"]) == ("12.8.90", "13")


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is installed, instead of what is; nothing at first."""
    there: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in there:
            raise metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(libraries.metadata, "version", version)
    return there


def test_both_onnxruntimes_are_told(packages: dict[str, str]) -> None:
    packages |= {"onnxruntime": "1.32.0", "rapidocr": "3.10.0"}
    assert library_warnings(find_libraries(), CPU_ORT, HOPPER) == []
    packages["onnxruntime-gpu"] = "1.31.1"
    (told,) = library_warnings(find_libraries(), CPU_ORT, HOPPER)
    assert "both installed" in told
    assert "what is imported is onnxruntime 1.32.0, which has no CUDA" in told
    (told,) = library_warnings(find_libraries(), GPU_ORT, HOPPER)
    assert "onnxruntime-gpu 1.31.1, which has CUDA" in told


def test_what_is_imported_as_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_onnxruntime()
    assert found.package in ("onnxruntime", "onnxruntime-gpu")
    assert "CPUExecutionProvider" in found.providers
    assert not found.problem
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "cannot be imported" in find_onnxruntime().problem
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    assert "rest of an uninstalled package" in find_onnxruntime().problem


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n", ""),
        ("__version__ = '2.13.0'\ncuda: Optional[str] = '13.0'\nhip = None\n", "13.0"),
        ('cuda = "12.8"\n', "12.8"),
        ("debug = False\n", ""),
    ],
)
def test_torchs_cuda_is_read_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packages: dict[str, str], text: str, cuda: str
) -> None:
    (tmp_path / "version.py").write_text(text)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(libraries, "find_spec", lambda name: spec)
    assert libraries.torch_cuda() == cuda
    packages |= {"torch": "2.13.0", "rapidocr": "3.10.0"}
    (torch,) = (library for library in find_libraries() if library.name == "torch")
    assert torch == Library("torch", "2.13.0", f"CUDA {cuda}" if cuda else "no CUDA")
    assert bool(library_warnings(find_libraries(), GPU_ORT, HOPPER)) == (not cuda)
    assert library_warnings(find_libraries(), GPU_ORT, NO_GPU) == []


def test_torch_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    assert libraries.torch_cuda() == ""
    rest = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(libraries, "find_spec", lambda name: rest)
    assert libraries.torch_cuda() == ""


def test_a_broken_tensorrt_is_a_finding(packages: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("tensorrt")
    old.__dict__["__version__"] = "10.9.0"
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    packages |= {"tensorrt": "10.9.0", "rapidocr": "3.10.0"}
    told = library_warnings(find_libraries(), CPU_ORT, NO_GPU)
    assert told[0] == "tensorrt 10.9.0 is too old: 11 or newer is needed"
    assert "without cuda-bindings" in told[1]


UNINSTALL = "pip uninstall -y onnxruntime && "
BOTH = "pip uninstall -y onnxruntime onnxruntime-gpu && "
ORT_GPU = 'pip install "onnxruntime-gpu[cuda,cudnn]>=1.20"'


def commands(
    gpu: GpuFound,
    installed: Sequence[str],
    ort: OnnxRuntime = CPU_ORT,
    bundle: BundleFound = HALF,
    failed: Sequence[str] = (),
    machine: str = "x86_64",
) -> list[str]:
    found = [Library(name, "1") for name in installed]
    return [at.command for at in advise(gpu, found, ort, bundle, failed, machine=machine, system="linux")]


def test_nothing_is_advised_where_nothing_helps() -> None:
    assert commands(NO_GPU, ["onnxruntime"]) == []
    assert commands(ADA, ["onnxruntime-gpu", "tensorrt-rtx", "cuda-bindings"], GPU_ORT) == []
    assert commands(HOPPER, ["onnxruntime-gpu", "tensorrt", "cuda-bindings"], GPU_ORT) == []


def test_openvino_is_for_processors_that_multiply_in_bfloat16(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    for flags, bf16 in (("fpu avx512f avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx2 avx512f", False)):
        cpuinfo.write_text(f"model name : amx_bf16\nflags : {flags}\n", encoding="utf-8")
        assert libraries.multiplies_in_bf16(cpuinfo) is bf16
    assert not libraries.multiplies_in_bf16(tmp_path / "absent")
    (told,) = advise(NO_GPU, [], CPU_ORT, HALF, bf16=True)
    assert (told.executor, told.command) == ("openvino", 'pip install "openvino>=2025"')
    assert advise(NO_GPU, [Library("openvino", "2026")], CPU_ORT, HALF, bf16=True) == []


def test_commands_for_a_machine() -> None:
    rtx, bindings = '"tensorrt-rtx>=1.7"', '"cuda-bindings>=13"'
    assert commands(ADA, ["onnxruntime"]) == [f"pip install {rtx} {bindings}", UNINSTALL + ORT_GPU]
    assert commands(ADA, ["onnxruntime", "tensorrt-rtx"]) == [f"pip install {bindings}", UNINSTALL + ORT_GPU]
    assert commands(ADA, [], OnnxRuntime(problem="none")) == [f"pip install {rtx} {bindings}", ORT_GPU]
    hopper = commands(HOPPER, ["onnxruntime", "cuda-bindings"])
    assert hopper == ['pip install "tensorrt>=11"', UNINSTALL + ORT_GPU]
    blackwell = GpuFound((Gpu(0, "NVIDIA GeForce RTX 5090", (12, 0)),), "580.95.05", "13.0")
    assert commands(blackwell, ["onnxruntime-gpu", "cuda-bindings"], GPU_ORT) == [f"pip install {rtx}"]


def test_the_command_is_for_the_gpu_that_is_asked_for() -> None:
    two = GpuFound((*ADA.gpus, Gpu(1, "NVIDIA H100 80GB HBM3", (9, 0))), "580.95.05", "13.0")
    for index, package in enumerate(("tensorrt-rtx>=1.7", "tensorrt>=11")):
        found = advise(two, [], GPU_ORT, HALF, machine="x86_64", system="linux", index=index)
        assert found[0].command == f'pip install "{package}" "cuda-bindings>=13"'


def test_commands_that_mend() -> None:
    both = ["onnxruntime", "onnxruntime-gpu"]
    assert commands(NO_GPU, both) == [BOTH + 'pip install "onnxruntime>=1.20"']
    assert commands(HOPPER, [*both, "tensorrt", "cuda-bindings"], GPU_ORT) == [BOTH + ORT_GPU]
    assert commands(NO_GPU, ["onnxruntime"], OnnxRuntime(problem="broken")) == [
        UNINSTALL + 'pip install "onnxruntime>=1.20"'
    ]
    whole = ["onnxruntime-gpu", "tensorrt", "cuda-bindings"]
    assert commands(HOPPER, whole, GPU_ORT, failed=["onnxruntime"]) == [ORT_GPU]
    assert commands(HOPPER, whole, GPU_ORT, PLAIN) == ["python -m export.build --precision fp16"]


def test_where_no_command_is_known_that_is_said() -> None:
    old = GpuFound(ADA.gpus, "550.54", "12.4")
    (told,) = advise(old, [], CPU_ORT, HALF, machine="x86_64", system="linux")
    assert told == Advice("", "", told.why)
    assert "offers CUDA 12.4" in told.why
    assert "driver 580 or newer" in told.why
    (told,) = advise(ADA, [], CPU_ORT, HALF, machine="aarch64", system="linux")
    assert "x86-64" in told.why


def test_the_shipped_bundle_and_one_that_is_damaged(tmp_path: Path) -> None:
    found, bundle = find_bundle("compact")
    assert bundle is not None
    assert (found.preset, found.verified, found.problem) == ("compact", True, "")
    assert found.bytes > 2**20
    assert set(found.half) <= set(found.graphs)
    (tmp_path / "bundle.json").write_text("{")
    found, bundle = find_bundle(tmp_path)
    assert bundle is None
    assert "cannot be read as JSON" in found.problem
    assert not found.verified


def test_the_engine_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTSR_CACHE", str(tmp_path))
    folder = tmp_path.resolve() / "engines"
    found = find_cache()
    assert (found.folder, found.mode, found.engines, found.problem) == (str(folder), "", 0, "")
    assert not folder.exists()
    cache = EngineCache()
    with cache.lock() as writer:
        writer.write("engine", "compact-unet_step-fp16", {"kind": "engine"}, b"x" * 1000)
        writer.write("timing", "times", {"kind": "timing"}, b"t")
    (folder / "strange.engine").write_bytes(b"")
    found = find_cache()
    assert (found.mode, found.engines, found.bytes, found.problem) == ("700", 1, 1000, "")
    assert found.strangers == ("strange.engine",)
    os.chmod(folder, 0o777)
    found = find_cache()
    assert "may be written by other users" in found.problem
    assert found.mode == "777"
    assert found.engines == 0


def test_a_cache_that_would_lie_where_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chmod(tmp_path, 0o777)
    monkeypatch.setenv("TEXTSR_CACHE", str(tmp_path))
    assert "may be written by other users" in find_cache().problem
    os.chmod(tmp_path, 0o700)
    (tmp_path / "engines").write_text("no folder")
    assert "is not a folder" in find_cache().problem
