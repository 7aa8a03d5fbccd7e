"""``python -m train.throughput DATA...``: samples a second of each data set against what a training step takes.

Three rates: reading (decode, fit; with one process and with several), degradation in batch on the device, with a seed a
sample, and training steps on lines that are at hand already. A data set keeps the device busy where its processes read
more than the steps take; where all cores together do not, lines are better written ahead (`train.pool`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from textsr.config import PRESETS, preset
from textsr.errors import TextSRError
from train.data import HELP, Dataset, open_data, sound
from train.degrade_ops import Seeds
from train.degrade_sources import three_sources
from train.distributed import open_group
from train.options import config
from train.options import parser as training_parser
from train.run import new_model, new_stage

log = logging.getLogger(__name__)

WARM = 6
"""Training steps before the clock starts: more than the batches that a stage makes ahead."""


@dataclass(frozen=True)
class Reading:
    """Samples a second of a data set, with one process (of the clock, and of its CPU time) and with ``workers``."""

    name: str
    alone: float
    by_cpu: float
    workers: int
    together: float | None

    def verdict(self, need: float, cores: int) -> str:
        """Whether it keeps up with ``need`` samples a second."""
        count = math.ceil(need / self.alone)
        if count <= cores:
            return f"keeps up with {count} process{'es' if count > 1 else ''}"
        return f"would need {count} processes of {cores} cores: write its lines ahead with python -m train.pool"


@dataclass(frozen=True)
class Rate:
    """Samples a second of the clock, and of this process's CPU time: less where others take the cores."""

    by_clock: float
    by_cpu: float


def rate(
    make: Iterator[int],
    seconds: float,
    warm: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    cpu: Callable[[], float] = time.process_time,
) -> Rate:
    """The rate of ``make``, which does work and says for how many samples, over ``seconds``.

    The first time does not count, nor what follows in its ``warm`` seconds: fonts are read and files cached then.
    """
    begun = clock()
    next(make)
    while clock() - begun < warm:
        next(make)
    begun, worked, done = clock(), cpu(), 0
    while True:
        done += next(make)
        if (past := clock() - begun) >= seconds:
            return Rate(done / past, done / max(cpu() - worked, 1e-9))


def shuffled(count: int) -> Iterator[int]:
    """Places in a random order, for ever: training reads so."""
    rng = np.random.default_rng(0)
    while True:
        yield from rng.permutation(count).tolist()


class _Pixels(TorchDataset[Tensor]):
    """What the processes of a loader hand over."""

    def __init__(self, data: Dataset) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, place: int) -> Tensor:
        return torch.from_numpy(np.array(sound(self._data, place).image))


def reading(data: Dataset, seconds: float, workers: int, batch: int) -> Reading:
    """Measures a data set."""
    alone = rate((len(sound(data, place).image[:1]) for place in shuffled(len(data))), seconds, seconds)
    if workers < 2:
        return Reading(data.source, alone.by_clock, alone.by_cpu, 1, None)
    loader = DataLoader(
        _Pixels(data), batch, sampler=itertools.islice(shuffled(len(data)), 10**9), num_workers=workers, drop_last=True
    )
    together = rate((len(part) for part in loader), seconds, seconds).by_clock
    return Reading(data.source, alone.by_clock, alone.by_cpu, workers, together)


def degrading(lines: Sequence[np.ndarray], batch: int, device: torch.device, seconds: float) -> Rate:
    """Samples a second through all three sources on the device, in batches, each sample with its own seed."""
    images = np.stack(list(itertools.islice(itertools.cycle(lines), batch)))
    hr = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div(255).contiguous()

    def make() -> Iterator[int]:
        for first in itertools.count(0, batch):
            three_sources(hr, 1.0, Seeds(torch.arange(first, first + batch, device=device)))
            _finish(device)
            yield batch

    with torch.inference_mode():
        return rate(make(), seconds)


def training(options: argparse.Namespace, lines: Sequence[np.ndarray], seconds: float) -> Rate:
    """Samples a second of steps on ``lines``, optimiser included: degradation, encoding and what else a stage does."""
    with tempfile.TemporaryDirectory() as folder:
        pool = write_blank_pool(Path(folder) / "pool", lines, options.batch_size)
        words = ["--stage", options.stage, "--preset", options.preset, "--device", options.device, "--steps", "1"]
        words += ["--batch-size", str(options.batch_size), "--out", folder]
        words += ["--pool", str(pool), "--val-pool", str(pool)]
        cfg, group = config(training_parser().parse_args(words)), open_group(options.device)
        try:
            stage = new_stage(cfg, new_model(cfg, None, {}), group, {})
            optimizer = torch.optim.AdamW(stage.model.parameters(), lr=0.0, fused=True)

            def make() -> Iterator[int]:
                for number, batch in enumerate(stage.batches(0)):
                    optimizer.zero_grad(set_to_none=True)
                    with torch.autocast(group.device.type, torch.bfloat16):
                        loss, _ = stage.loss(batch, 1.0)
                    loss.backward()
                    optimizer.step()
                    _finish(group.device)
                    if number >= WARM:
                        yield options.batch_size

            return rate(make(), seconds)
        finally:
            group.close()


def write_blank_pool(folder: Path, lines: Sequence[np.ndarray], least: int) -> Path:
    """A pool of at least ``least`` lines with these pixels; what they say does not matter to the clock."""
    folder.mkdir(parents=True)
    images = np.stack(list(itertools.islice(itertools.cycle(lines), max(least, len(lines)))))
    places = [round((i + 0.5) / 6, 4) for i in range(6)]
    record = {"text": "文字文字文字", "centres": places, "widths": [0.15] * 6, "width": 512, "font": "", "kind": ""}
    np.save(folder / "lines-00000.npy", images)
    rows = [json.dumps(record)] * len(images)
    (folder / "lines-00000.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def _told(found: Rate) -> str:
    return f"{found.by_clock:.1f} samples/s ({found.by_cpu:.1f} a second of CPU time)"


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m train.throughput",
        description=f"Whether data sets keep a device busy. DATA is:\n{HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("data", nargs="+", metavar="DATA")
    made.add_argument("--stage", default="diffusion", choices=("paper", "diffusion"), help="default: diffusion")
    made.add_argument("--preset", default="compact", choices=sorted(PRESETS), help="default: compact")
    made.add_argument("--batch-size", type=int, default=8, help="default: 8")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    made.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    made.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="reading processes (default: all cores)")
    made.add_argument("--seconds", type=float, default=5.0, help="of each measurement at least (default: 5)")
    made.add_argument("--need", type=float, help="samples a second that steps take; measured here by default")
    return made


def measure(options: argparse.Namespace) -> None:
    """Measures and prints, a row at a time. Raises TextSRError where a data set or device cannot be used."""
    group, out = open_group(options.device), sys.stdout
    group.close()
    sets = [open_data(spec, preset=preset(options.preset)) for spec in options.data]
    few = min(len(sets[0]), options.batch_size)
    lines = [np.array(sound(sets[0], place).image) for place in range(few)]
    cores = os.cpu_count() or 1
    out.write(f"on {group.device}, {torch.get_num_threads()} CPU threads, {cores} cores; batch {options.batch_size}\n")
    need = options.need
    if need is None:
        steps = training(options, lines, options.seconds)
        need = steps.by_clock
        out.write(f"steps of stage {options.stage}, preset {options.preset}: {_told(steps)}\n")
    made = degrading(lines, options.batch_size, group.device, options.seconds)
    share = need / made.by_clock
    out.write(f"degradation on the device: {_told(made)}; {share:.0%} of the device's time at the steps' rate\n")
    for data in sets:
        found = reading(data, options.seconds, options.workers, options.batch_size)
        more = "" if found.together is None else f", {found.together:.1f} with {found.workers}"
        alone = _told(Rate(found.alone, found.by_cpu))
        out.write(f"{found.name}: {alone} with one process{more}; {found.verdict(need, cores)}\n")
        out.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    options = parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        measure(options)
    except TextSRError as error:
        sys.stderr.write(f"train.throughput: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
