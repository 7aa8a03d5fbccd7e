"""What is compared: functions from low-resolution lines to lines of four times their size, by name."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from benchmarks.testset import enlarge
from textsr.config import SCALE, Preset
from textsr.describe import Cost
from textsr.errors import InputError

if TYPE_CHECKING:
    from runtime import Restorer

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("realesrgan-x4plus", "realesr-animevideov3", "dat-light")
"""General super-resolution with published weights, see `benchmarks.peers`."""
ALL = ("bicubic", "lanczos", *PEERS, "ours:1", "ours:1+0", "ours:4", "ours:18")
_NOT_RESTORING = (
    "textsr/checkpoint/",
    "textsr/describe.py",
    "textsr/reference/",
    "runtime/doctor/",
    "runtime/infer.py",
)
"""Sources that no restored line depends on."""
_OURS = re.compile(r"ours(?::(\d+))?(?:@(\d*\.?\d+))?(?:\+(\d*\.?\d+))?")


@dataclass(frozen=True)
class Output:
    """A method's line: ``image`` (4h, 4w, 3) uint8 RGB; ``text`` where the method read the line itself."""

    image: NDArray[np.uint8]
    text: str | None = None


Method = Callable[[Sequence[NDArray[np.uint8]]], Sequence[Output]]
"""From lines (h, w, 3) uint8 RGB to as many outputs, in order."""


@dataclass(frozen=True)
class Opened:
    """A method ready to run.

    ``key`` names all that its outputs depend on (versions, hashes of weights and code): scores are reused where it is
    the same; empty where nobody can tell. ``gflop`` is of a line of 32 x 128 pixels, the largest of the test split.
    ``runs_on``: executor and device. ``licence``: of the weights.
    """

    name: str
    run: Method
    key: str = ""
    runs_on: str = "numpy, CPU"
    parameters: int | None = None
    gflop: float | None = None
    licence: str = ""


@dataclass(frozen=True)
class MethodOptions:
    """What methods are opened with; ``threads`` of the CPU for every one of them, ``steps`` for plain ``ours``."""

    bundle: str = "compact"
    device: str = "auto"
    seed: int = 0
    steps: int | None = None
    threads: int = 1


def bicubic(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
    """Bicubic enlargement, a = -0.75."""
    return [Output(enlarge(image)) for image in images]


def lanczos(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
    """Lanczos enlargement (a = 3), as Pillow does it."""
    sizes = [(image.shape[1] * SCALE, image.shape[0] * SCALE) for image in images]
    return [
        Output(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)))
        for image, size in zip(images, sizes, strict=True)
    ]


def ours(
    name: str, options: MethodOptions, steps: int | None, strength: float | None = None, paint: float | None = None
) -> Opened:
    """The bundle, through the runtime's public door, reading the lines itself; None takes its defaults.

    :raises InputError: there are not so many steps, or the strength or the paint is out of range.
    """
    from runtime.bundle import MANIFEST
    from runtime.options import Options

    restorer = _restorer(options.bundle, options.device, options.threads)
    preset = restorer.preset
    taken = steps if steps is not None else preset.default_steps or preset.schedule.steps
    restorer.check(Options(steps=taken, strength=strength, paint=paint))

    def run(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
        results = restorer(images, seed=options.seed, steps=taken, strength=strength, paint=paint)
        return [Output(result.image, result.text) for result in results]

    executor = f"{restorer.executor.name}, onnxruntime {onnxruntime.__version__}"
    reader = f"rapidocr {version('rapidocr')}" if restorer.reader is not None else "no recogniser"
    files = json.loads((restorer.bundle.path / MANIFEST).read_text(encoding="utf-8"))["files"]
    parts = repr((sorted(files.items()), replace(preset, default_steps=None, default_strength=1.0, default_paint=0.0)))
    bundle = hashlib.sha256(parts.encode()).hexdigest()[:16]
    how = f"seed {options.seed}, steps {taken}, strength {strength}, paint {paint}"
    key = f"ours, bundle {bundle}, code {_code()}, {executor}, {reader}, {how}"
    cost = _cost(preset)
    return Opened(name, run, key, executor, cost.trained, cost.line(taken), "Apache-2.0")


@cache
def _restorer(bundle: str, device: str, threads: int) -> Restorer:
    """One for all numbers of steps: each would hold its graphs' memory."""
    from runtime import Restorer

    return Restorer.open(bundle, device, threads=threads)


def _cost(preset: Preset) -> Cost:
    """A preset is counted once, however many numbers of steps are asked for."""
    from benchmarks import flops

    name = repr(preset)
    if name not in _COSTS:
        _COSTS[name] = flops.measure(preset)
    return _COSTS[name]


_COSTS: dict[str, Cost] = {}


@cache
def _code() -> str:
    """A hash of the sources that restore a line."""
    digest = hashlib.sha256()
    for path in sorted(path for package in ("textsr", "runtime") for path in (ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(_NOT_RESTORING):
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def sha256(path: Path) -> str:
    """The first 16 digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def names(given: str) -> list[str]:
    """Names of methods, separated by commas, each once and bicubic first; ``all`` stands for `ALL`."""
    words = [word.strip() for word in given.split(",") if word.strip()]
    return list(dict.fromkeys(["bicubic", *(name for word in words for name in (ALL if word == "all" else (word,)))]))


def find_method(name: str, options: MethodOptions) -> Opened:
    """A method by name: one of `ALL`, ``ours``, ``ours:STEPS``, ``ours:STEPS@STRENGTH+PAINT`` or ``module:function``.

    Such a function takes lines (h, w, 3) uint8 and returns as many arrays (4h, 4w, 3) uint8, or `Output`s.
    Raises InputError when there is none of that name, or its package is not installed.
    """
    if name == "bicubic":
        return Opened(name, bicubic, f"bicubic, numpy {version('numpy')}, code {sha256(ROOT / 'textsr/resize.py')}")
    if name == "lanczos":
        return Opened(name, lanczos, f"lanczos, pillow {version('pillow')}", runs_on="Pillow, CPU")
    if name in PEERS:
        from benchmarks.peers import open_peer

        return open_peer(name, options)
    match = _OURS.fullmatch(name)
    if match:
        steps, *shares = match.groups()
        strength, paint = (float(share) if share else None for share in shares)
        return ours(name, options, int(steps) if steps else options.steps, strength, paint)
    module, _, function = name.partition(":")
    if not function:
        raise InputError(
            f"unknown method {name!r}: use {', '.join(ALL)}, ours, ours:STEPS@STRENGTH+PAINT or module:function"
        )
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"method {name}: {error}") from error
    return Opened(name, _wrapped(found), runs_on="")


def _wrapped(function: Callable[[Sequence[NDArray[np.uint8]]], Sequence[Any]]) -> Method:
    def run(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
        return [item if isinstance(item, Output) else Output(np.asarray(item)) for item in function(images)]

    return run
