"""What to install for a faster executor on this machine, as commands to copy."""

from __future__ import annotations

import platform
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from runtime.doctor.gpu import Gpu, GpuFound
from runtime.doctor.kept import BundleFound
from runtime.doctor.libraries import Library, OnnxRuntime

NEEDED_CUDA = 13
"""Major version of CUDA that the wheels of onnxruntime-gpu, tensorrt-rtx and cuda-bindings on PyPI are built for."""
RTX = ((7, 5), (8, 0), (8, 6), (8, 9))
RTX_MAJOR = 12
"""Compute capabilities that TensorRT for RTX's documentation lists: these four, and 12.x."""
ORT_GPU = '"onnxruntime-gpu[cuda,cudnn]>=1.20"'


@dataclass(frozen=True)
class Advice:
    """``command`` is for a shell, empty where there is nothing to run; ``why`` one sentence."""

    executor: str
    command: str
    why: str


def advise(
    gpu: GpuFound,
    libraries: Sequence[Library],
    ort: OnnxRuntime,
    bundle: BundleFound,
    failed: Collection[str] = (),
    *,
    index: int = 0,
    bf16: bool = False,
    machine: str | None = None,
    system: str | None = None,
) -> list[Advice]:
    """What would make restoring faster, best first; nothing where all is there or nothing here could use it.

    :param failed: executors that ``auto`` tried on the GPU in vain.
    :param index: of the GPU to use, where there are several.
    :param bf16: whether the processor multiplies in bfloat16.
    """
    versions = {library.name: library.version for library in libraries if library.version}
    mended = _mended(versions, ort)
    if not gpu.gpus:
        return [*mended, *(_openvino() if bf16 and "openvino" not in versions else [])]
    if (machine or platform.machine()).lower() not in ("x86_64", "amd64"):
        return [*mended, Advice("", "", "the commands known here are for x86-64: see the packages' pages for yours")]
    if gpu.cuda_major < NEEDED_CUDA:
        why = f"the driver offers CUDA {gpu.cuda}, the packages on PyPI need CUDA {NEEDED_CUDA}: driver 580 or newer"
        return [*mended, Advice("", "", why)]
    found = []
    if (system or sys.platform) == "linux":
        found += _tensorrt(gpu.gpus[min(index, len(gpu.gpus) - 1)], versions)
    if not ort.has_cuda or "onnxruntime" in versions:
        found.append(_ort_gpu(versions))
    elif "onnxruntime" in failed:
        why = "ONNX Runtime was built with CUDA but did not start there: these bring CUDA's libraries and cuDNN"
        found.append(Advice("onnxruntime", f"pip install {ORT_GPU}", why))
    if not bundle.problem and not bundle.all_half:
        command = "python -m export.build --precision fp16"
        found.append(Advice("", command, "the bundle has no half-precision graphs, which are what is fast on a GPU"))
    return found if any(advice.executor == "onnxruntime" for advice in found) else [*mended, *found]


def _openvino() -> list[Advice]:
    why = "this processor multiplies in bfloat16: --executor openvino takes about half the time of ONNX Runtime"
    return [Advice("openvino", 'pip install "openvino>=2025"', why)]


def _mended(versions: dict[str, str], ort: OnnxRuntime) -> list[Advice]:
    """One ONNX Runtime instead of two, or of a broken one."""
    both = "onnxruntime" in versions and "onnxruntime-gpu" in versions
    if not both and not ort.problem:
        return []
    why = "two packages own the same files" if both else "ONNX Runtime cannot be imported"
    return [Advice("onnxruntime", f'{_uninstall(versions)}pip install "onnxruntime>=1.20"', f"{why}: install one anew")]


def _uninstall(versions: dict[str, str]) -> str:
    there = [name for name in ("onnxruntime", "onnxruntime-gpu") if name in versions]
    return f"pip uninstall -y {' '.join(there)} && " if there else ""


def _ort_gpu(versions: dict[str, str]) -> Advice:
    why = "ONNX Runtime on CUDA; onnxruntime must go first, since both packages own the same files"
    return Advice("onnxruntime", f"{_uninstall(versions)}pip install {ORT_GPU}", why)


def _tensorrt(gpu: Gpu, versions: dict[str, str]) -> list[Advice]:
    capability = ".".join(map(str, gpu.capability))
    bindings = [] if "cuda-bindings" in versions else ['"cuda-bindings>=13"']
    if "tensorrt" in versions:
        missing: list[str] = []
        why = "TensorRT's executor talks to CUDA through it"
    elif gpu.capability in RTX or gpu.capability[0] == RTX_MAJOR:
        missing = [] if "tensorrt-rtx" in versions else ['"tensorrt-rtx>=1.7"']
        why = f"TensorRT for RTX runs on compute capability {capability}"
    else:
        missing = ['"tensorrt>=11"']
        why = f"compute capability {capability} is none that TensorRT for RTX lists, so TensorRT itself"
    wanted = [*missing, *bindings]
    return [Advice("tensorrt", f"pip install {' '.join(wanted)}", why)] if wanted else []
