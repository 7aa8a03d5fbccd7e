"""All findings of one machine and one bundle."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from runtime.bundle import Bundle
from runtime.doctor.advice import Advice, advise
from runtime.doctor.gpu import GpuFound, find_gpus
from runtime.doctor.kept import BundleFound, CacheFound, find_bundle, find_cache
from runtime.doctor.libraries import (
    Library,
    OnnxRuntime,
    find_libraries,
    find_onnxruntime,
    library_warnings,
    multiplies_in_bf16,
)
from runtime.doctor.line import FAILURES, STEPS, Trial, close, draw_line, told, try_executor
from runtime.executors import EXECUTORS, ON_CUDA, choose_executor, open_executor
from runtime.options import Options
from runtime.restorer import Restorer
from textsr.device import Device

FORMAT = 1
"""Of the JSON; higher where a key goes or changes its meaning."""
REFERENCE = ("onnxruntime", "cpu")
"""What all others are compared with, in float32."""


@dataclass(frozen=True)
class Considered:
    """An executor on a device as ``auto`` sees it: ``taken``, or not for this ``reason``."""

    executor: str
    device: str
    taken: bool
    reason: str
    tried: bool


@dataclass(frozen=True)
class Auto:
    """What ``auto`` takes: its ``name`` as results have it (empty: nothing works, see ``problem``), and the others."""

    name: str
    considered: tuple[Considered, ...]
    problem: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was found. ``ok``: an executor passed the self-test (on CUDA, where that is asked for),
    or, without one, ``auto`` opened one."""

    ok: bool
    device: str
    python: str
    system: str
    gpu: GpuFound
    libraries: tuple[Library, ...]
    onnxruntime: OnnxRuntime
    bundle: BundleFound
    cache: CacheFound
    auto: Auto
    steps: int | None
    trials: tuple[Trial, ...]
    warnings: tuple[str, ...]
    advice: tuple[Advice, ...]


def diagnose(
    bundle: str | Path = "compact", device: str = "auto", *, steps: int = STEPS, self_test: bool = True
) -> Diagnosis:
    """Looks at everything. What fails is a finding, not an error.

    Opens what ``auto`` would open, so on a GPU the first call builds engines as the first restoration would. torch is
    imported only where it is tried.

    :param device: auto, cpu, cuda or cuda:N; limits what is chosen from and tested.
    :param steps: of the self-test.
    :raises InputError: malformed device, or steps that the bundle does not have.
    """
    wanted = Device.parse(device)
    gpu, libraries, ort = find_gpus(), find_libraries(), find_onnxruntime()
    found, opened = find_bundle(bundle)
    cache = find_cache()
    warnings = library_warnings(libraries, ort, gpu) + _troubles(gpu, found, cache)
    auto = Auto("", (), "there is no bundle to run")
    trials: tuple[Trial, ...] = ()
    if opened is not None:
        Options(steps=steps).check(opened.preset, samples_text=opened.samples_text)
        auto = ask_auto(opened, device)
        trials = try_all(opened, places(wanted, gpu), steps, auto) if self_test else ()
    warnings += [auto.problem] if auto.problem else []
    failed = {at.executor for at in auto.considered if at.tried and not at.taken}
    return Diagnosis(
        ok=any(trial.passed and asked_for(trial, wanted) for trial in trials) if self_test else bool(auto.name),
        device=device,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        gpu=gpu,
        libraries=libraries,
        onnxruntime=ort,
        bundle=found,
        cache=cache,
        auto=auto,
        steps=steps if self_test else None,
        trials=trials,
        warnings=tuple(warnings),
        advice=tuple(advise(gpu, libraries, ort, found, failed, index=wanted.index, bf16=multiplies_in_bf16())),
    )


def _troubles(gpu: GpuFound, bundle: BundleFound, cache: CacheFound) -> list[str]:
    told_of = [gpu.problem] if gpu.cards else []
    told_of += [problem for problem in (bundle.problem, cache.problem) if problem]
    if cache.strangers:
        told_of.append(f"files in the engine cache that are not ours, never read: {', '.join(cache.strangers)}")
    return told_of


def ask_auto(bundle: Bundle, device: str) -> Auto:
    """What `runtime.executors.choose_executor` takes for this bundle, closed again, and why nothing else."""
    try:
        executor, choice = choose_executor(bundle, device)
        close(executor)
    except FAILURES as error:
        return Auto("", (), told(error))
    tried = [Considered(at.executor, at.device, not at.reason, at.reason, True) for at in choice.attempts]
    return Auto(choice.name, (*tried, *_passed_over(tried, device)))


def _passed_over(tried: Sequence[Considered], device: str) -> list[Considered]:
    """The executors that `choose_executor` did not come to, with the reason."""
    taken = tried[-1]
    behind = f"not tried: {taken.executor} on {taken.device} comes first"
    on_cpu = "not tried: on the CPU auto takes ONNX Runtime alone"
    rest = [] if taken.device == "cpu" else [(name, taken.device, behind) for name in ON_CUDA]
    if not device.startswith("cuda"):
        rest += [(name, "cpu", behind if (name, "cpu") == REFERENCE else on_cpu) for name in EXECUTORS]
    known = {(at.executor, at.device) for at in tried}
    return [
        Considered(name, place, False, reason, False)
        for name, place, reason in rest
        if (name, place) not in known and _tested(name, place)
    ]


def _tested(executor: str, device: str) -> bool:
    """torch-compile is torch, and takes minutes to open: it is not tried."""
    return executor != "torch-compile" and (executor, device) != ("tensorrt", "cpu")


def places(wanted: Device, gpu: GpuFound) -> list[tuple[str, str]]:
    """Executors and devices to test, the reference first: on the GPU where one is there or asked for, and on the CPU
    unless the GPU is asked for."""
    found = [REFERENCE]
    if wanted.kind == "cuda" or (wanted.kind == "auto" and gpu.gpus):
        found += [(name, str(Device("cuda", wanted.index))) for name in ON_CUDA]
    if wanted.kind != "cuda":
        found += [(name, "cpu") for name in EXECUTORS if _tested(name, "cpu") and (name, "cpu") != REFERENCE]
    return found


def try_all(bundle: Bundle, where: Sequence[tuple[str, str]], steps: int, auto: Auto) -> tuple[Trial, ...]:
    """A trial of each executor, in order. One that ``auto`` could not open is not opened again."""
    line = draw_line()
    refused = {(at.executor, at.device): at.reason for at in auto.considered if at.tried and not at.taken}
    trials: list[Trial] = []
    for executor, device in tqdm(where, desc="self-test", unit="executor", leave=False, disable=None):
        if (executor, device) in refused:
            trials.append(Trial(executor, device, reason=refused[executor, device]))
            continue
        first = trials[0] if trials else None
        reference = first.images[0] if first is not None and first.passed else None
        opening = partial(_restorer, bundle, executor, device)
        trials.append(try_executor(executor, device, opening, line, steps, reference, is_reference=first is None))
    return tuple(trials)


def asked_for(trial: Trial, wanted: Device) -> bool:
    """Whether a trial counts: where CUDA is asked for, the reference on the CPU is there to compare with alone."""
    return wanted.kind != "cuda" or trial.device == str(wanted)


def _restorer(bundle: Bundle, executor: str, device: str) -> Restorer:
    precision = "fp32" if device == "cpu" and executor != "openvino" else "auto"
    return Restorer(bundle, open_executor(bundle, device, executor=executor, precision=precision), None)
