"""A diagnosis as text for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from runtime.doctor.diagnosis import FORMAT, Diagnosis
from runtime.doctor.line import ENOUGH_DB, TEXT, Trial

CLEARLY = 0.8
"""A share of another's time that one self-test on a busy machine does not come to by chance."""
_DIGITS = {"psnr": 2, "opened": 4, "first": 4, "seconds": 4}


def as_json(found: Diagnosis) -> dict[str, Any]:
    """All findings as JSON values. Keys are those of the dataclasses, and ``format``; pictures are left out."""
    data = {**asdict(found), "trials": [_trial(trial) for trial in found.trials], "line": TEXT}
    return {"format": FORMAT, **data}


def _trial(trial: Trial) -> dict[str, Any]:
    data = {name: value for name, value in vars(trial).items() if name != "images"}
    return data | {name: round(data[name], digits) for name, digits in _DIGITS.items() if data[name] is not None}


def as_text(found: Diagnosis) -> str:
    """The report, a finding a line, ending in a newline."""
    lines: list[str] = []
    for title, content in (
        ("system", [f"{found.system}, Python {found.python}"]),
        ("gpu", list(_gpu(found))),
        ("libraries", list(_libraries(found))),
        ("bundle", [_bundle(found)]),
        ("engines", [_cache(found)]),
        ("auto", list(_auto(found))),
        ("self-test", list(_trials(found))),
        ("warnings", list(found.warnings)),
        ("advice", list(_advice(found))),
    ):
        lines += [f"{title if not place else '':<11}{text}" for place, text in enumerate(content)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _gpu(found: Diagnosis) -> Iterator[str]:
    gpu = found.gpu
    for one in gpu.gpus:
        yield f"cuda:{one.index} {one.name}, compute capability {one.capability[0]}.{one.capability[1]}"
    if gpu.problem:
        yield f"none: {gpu.problem}"
    driver = [f"driver {gpu.driver}"] if gpu.driver else []
    driver += [f"offers CUDA {gpu.cuda}"] if gpu.cuda else []
    if gpu.gpus or gpu.runtimes:
        driver.append(f"CUDA runtime {', '.join(gpu.runtimes) or 'not found'}")
    if driver:
        yield ", ".join(driver)


def _libraries(found: Diagnosis) -> Iterator[str]:
    there = [library for library in found.libraries if library.version]
    yield ", ".join(f"{it.name} {it.version}{f' ({it.note})' if it.name == 'torch' else ''}" for it in there)
    missing = [library.name for library in found.libraries if not library.version]
    if missing:
        yield f"not installed: {', '.join(missing)}"
    ort = found.onnxruntime
    if ort.providers:
        cuda = f" (CUDA {ort.cuda})" if ort.cuda else ""
        yield f"ONNX Runtime {ort.version}{cuda} has {', '.join(ort.providers)}"


def _bundle(found: Diagnosis) -> str:
    it = found.bundle
    if it.problem:
        return f"none: {it.problem}"
    half = "all" if it.all_half else f"{len(it.half)} of {len(it.graphs)}" if it.half else "none"
    return (
        f"{it.path}: {it.preset}, weights {it.weights}, graphs in half precision: {half}; "
        f"{it.files} files of {it.bytes / 2**20:.1f} MiB verified"
    )


def _cache(found: Diagnosis) -> str:
    it = found.cache
    if it.problem:
        return f"not used: {it.problem}"
    state = f"{it.engines} engines, {it.bytes / 2**20:.1f} MiB, mode {it.mode}" if it.mode else "not made yet"
    return f"{it.folder}: {state}"


def _auto(found: Diagnosis) -> Iterator[str]:
    yield found.auto.name or f"nothing: {found.auto.problem}"
    rows = [
        (at.executor, at.device, "taken: the first that works" if at.taken else at.reason)
        for at in found.auto.considered
    ]
    yield from columns(rows)


def _trials(found: Diagnosis) -> Iterator[str]:
    if found.steps is None:
        yield "left out"
        return
    yield f"{TEXT!r}, steps: {found.steps}; to pass: finite, not blank, at least {ENOUGH_DB:g} dB to the reference"
    rows = []
    for trial in found.trials:
        state = "passed" if trial.passed else "failed" if trial.opened is not None else "no"
        told = (
            "" if trial.seconds is None else f"{trial.seconds:.2f} s (first {trial.first:.2f}, open {trial.opened:.2f})"
        )
        if trial.psnr is not None:
            told += f", {trial.psnr:.1f} dB"
        if trial.reference and trial.passed:
            told += ", the reference"
        told = "; ".join(part for part in (told, trial.reason) if part)
        rows.append((trial.name or f"{trial.executor}:{trial.device}", state, told))
    yield from columns(rows)


def _advice(found: Diagnosis) -> Iterator[str]:
    if not found.advice:
        yield "nothing to install"
    yield from _faster(found)
    for advice in found.advice:
        yield advice.why
        if advice.command:
            yield f"  {advice.command}"


def _faster(found: Diagnosis) -> Iterator[str]:
    """The executor that passed in clearly less time than the one that ``auto`` takes, which goes by a fixed order."""
    passed = {trial.seconds: trial for trial in found.trials if trial.passed and trial.seconds is not None}
    taken = [seconds for seconds, trial in passed.items() if trial.name == found.auto.name]
    if taken and min(passed) < CLEARLY * taken[0]:
        best, share = passed[min(passed)], min(passed) / taken[0]
        yield f"{best.name} passed in {share:.0%} of auto's time: ask for it by --executor {best.executor}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their cells aligned."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
