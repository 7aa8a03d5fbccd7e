"""Which libraries are installed, in which versions, and what stands in their way. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runtime.doctor.gpu import GpuFound
from textsr.errors import EngineError

PACKAGES = (
    *("numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "cuda-bindings"),
    *("openvino", "torch", "rapidocr"),
)
CUDA = "CUDAExecutionProvider"
_NO_READER = (
    "rapidocr is not installed, so lines without a given text are restored from the picture alone: "
    'pip install "rapidocr>=3.10"'
)
_TORCH_CUDA = re.compile(r"""^cuda\b[^=\n]*=\s*["']([^"']+)["']""", re.MULTILINE)


@dataclass(frozen=True)
class Library:
    """An installed package, or one that could be: ``version`` is None where it is not. ``note`` says more."""

    name: str
    version: str | None
    note: str = ""


@dataclass(frozen=True)
class OnnxRuntime:
    """The module ``onnxruntime`` as it is imported: its version, the package it came from, and its providers.

    ``cuda`` is the CUDA version it was built with, empty for none or where it does not say. ``problem`` says why it
    cannot be used; the rest is empty then.
    """

    version: str = ""
    package: str = ""
    cuda: str = ""
    providers: tuple[str, ...] = ()
    problem: str = ""

    @property
    def has_cuda(self) -> bool:
        """Whether it was built with CUDA, which is not yet that CUDA works."""
        return CUDA in self.providers


def installed(name: str) -> str | None:
    """Version of an installed distribution; None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def find_libraries(names: Sequence[str] = PACKAGES) -> tuple[Library, ...]:
    """All packages that matter, installed or not."""
    return tuple(Library(name, installed(name), _note(name) if installed(name) else "") for name in names)


def _note(name: str) -> str:
    if name == "torch":
        cuda = torch_cuda()
        return f"CUDA {cuda}" if cuda else "no CUDA"
    if name in ("tensorrt", "tensorrt-rtx"):
        return engine_problem(name)
    return ""


def multiplies_in_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies matrices of bfloat16; False where Linux does not tell."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = {word for line in text.splitlines() if line.startswith("flags") for word in line.split()}
    return not flags.isdisjoint(("amx_bf16", "avx512_bf16"))


def torch_cuda() -> str:
    """The CUDA version that torch was built with, read from its files without importing it; empty for none."""
    try:
        spec = find_spec("torch")
    except ValueError:  # torch is being blocked or half imported
        return ""
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        try:
            match = _TORCH_CUDA.search((Path(folder) / "version.py").read_text(encoding="utf-8"))
        except OSError:  # then it is no torch that could be imported
            continue
        return match[1] if match else ""
    return ""


def engine_problem(name: str) -> str:
    """Why an installed TensorRT cannot be used; empty where it can. Imports it."""
    try:
        import_module("runtime.engines.library").open_library(name)
    except (EngineError, ImportError) as error:  # ImportError: no fcntl, so no engine cache, on Windows
        return str(error)
    return ""


def find_onnxruntime() -> OnnxRuntime:
    """What ``import onnxruntime`` gives."""
    try:
        module: Any = import_module("onnxruntime")
        providers = tuple(module.get_available_providers())
    except (ImportError, OSError) as error:
        return OnnxRuntime(problem=f"onnxruntime cannot be imported: {error}")
    except AttributeError:  # an empty folder is left where one of two packages was uninstalled
        return OnnxRuntime(problem="onnxruntime is only the rest of an uninstalled package: install it again")
    try:
        package = str(import_module("onnxruntime.capi.build_and_package_info").package_name)
    except (ImportError, AttributeError):  # the build does not say
        package = ""
    cuda = str(getattr(module, "cuda_version", "") or "")
    return OnnxRuntime(str(module.__version__), package, cuda, providers)


def library_warnings(found: Sequence[Library], ort: OnnxRuntime, gpu: GpuFound) -> list[str]:
    """What is wrong or missing among the libraries, one sentence each."""
    versions = {library.name: library.version for library in found}
    told = [ort.problem] if ort.problem else []
    if versions.get("onnxruntime") and versions.get("onnxruntime-gpu"):
        kind = "has CUDA" if ort.has_cuda else "has no CUDA"
        named = f"{ort.package} {ort.version}".strip() or "neither whole"
        told.append(
            "onnxruntime and onnxruntime-gpu are both installed: they write the same files, so the one installed last "
            f"has overwritten the other; what is imported is {named}, which {kind}. Uninstall both, install one"
        )
    for library in found:
        if library.name in ("tensorrt", "tensorrt-rtx") and library.note:
            told.append(library.note)
    if (versions.get("tensorrt") or versions.get("tensorrt-rtx")) and not versions.get("cuda-bindings"):
        told.append("TensorRT is installed without cuda-bindings, which its executor needs")
    if gpu.gpus and versions.get("torch") and not torch_cuda():
        told.append("torch is a build without CUDA, so it cannot use the GPU")
    if not versions.get("rapidocr"):
        told.append(_NO_READER)
    return told
