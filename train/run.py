"""``python -m train.run``: trains the autoencoder or the diffusion of a preset for a number of minutes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from runtime.bundle import SHIPPED
from textsr.checkpoint import load_weights, read_metadata, stated_ablations
from textsr.config import ABLATIONS, PRESETS, ablated, preset
from textsr.errors import InputError, TextSRError
from textsr.graphs import Model
from train.autoencoder import AutoencoderStage
from train.diffusion import DiffusionStage
from train.harness import Stage, TrainConfig, Trainer, pick_device
from train.pool import PoolJob, write_pool

log = logging.getLogger(__name__)

STAGES: dict[str, Callable[[Model, TrainConfig, torch.device], Stage]] = {
    "autoencoder": AutoencoderStage,
    "diffusion": DiffusionStage,
}
DEFAULTS = {"autoencoder": (16, 1.5e-3), "diffusion": (8, 4e-4)}  # batch size, learning rate
FAMILIES = 12  # Chinese font families that rendering asks for at least
VALIDATION_LINES = 300

DESCRIPTION = """\
Trains one stage of a preset on rendered lines (python -m train.pool makes pools of them). The autoencoder comes first;
the diffusion takes its checkpoint. A run ends after --minutes with OUT/model.safetensors (averaged weights of the whole
model, a checkpoint for export.build), curves.png, curves.jsonl, samples_*.png and what --resume needs to go on.

On a CPU, malloc's habit of giving memory back costs half the time: set MALLOC_MMAP_MAX_=0,
MALLOC_TRIM_THRESHOLD_=100000000000 and MALLOC_TOP_PAD_=268435456 in the environment."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m train.run", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--stage", required=True, choices=sorted(STAGES))
    made.add_argument("--preset", default="compact", choices=sorted(PRESETS))
    made.add_argument("--minutes", type=float, required=True, help="wall-clock budget, time before --resume included")
    made.add_argument("--out", type=Path, required=True, help="folder for weights, curves and samples")
    made.add_argument("--pool", type=Path, help="folder of training lines; without it they are rendered below OUT")
    made.add_argument("--val-pool", type=Path, help="folder of validation lines; likewise")
    made.add_argument("--lines", type=int, default=24000, help="training lines to render without --pool (24000)")
    made.add_argument(
        "--checkpoint", type=Path, help="start from these weights; diffusion: by default the shipped ones"
    )
    made.add_argument("--resume", type=Path, help="go on with the run in this folder, optimiser included")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    made.add_argument("--batch-size", type=int, help="default: 16 crops, 8 lines")
    made.add_argument("--learning-rate", type=float, help="default: 1.5e-3 autoencoder, 4e-4 diffusion")
    made.add_argument("--ema-decay", type=float, default=0.998)
    made.add_argument(
        "--own-estimates", type=float, default=0.5, help="share of lines trained on the network's own estimate (0.5)"
    )
    made.add_argument(
        "--without", action="append", default=[], choices=ABLATIONS,
        help="train without this part (the paper's ablations; diffusion; may be given again)",
    )  # fmt: skip
    made.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    made.add_argument("--save-minutes", type=float, default=5.0, help="minutes between saves (default: 5)")
    made.add_argument("--seed", type=int, default=0)
    return made


def starting_weights(given: argparse.Namespace) -> Path | None:
    """The checkpoint to start from, None for random weights. Raises InputError: a diffusion without autoencoder."""
    if given.resume is not None:
        return Path(given.resume) / "model.safetensors"
    if given.checkpoint is not None or given.stage == "autoencoder":
        return given.checkpoint
    shipped = SHIPPED / given.preset / "weights.safetensors"
    if not shipped.exists():
        raise InputError(f"preset {given.preset} ships no autoencoder for --stage diffusion: give --checkpoint")
    log.info("starting from the shipped weights %s", shipped)
    return shipped


def load_start(model: Model, path: Path, without: Sequence[str]) -> None:
    """Fills ``model`` from a checkpoint; one that was trained without other parts gives its autoencoder alone."""
    if set(stated_ablations(read_metadata(path))) == set(without):
        load_weights(model, path)
        return
    log.info("%s was not trained without %s: its autoencoder is taken, the rest is new", path, ", ".join(without))
    load_weights(model.vqgan, path, prefix="vqgan.")


def rendered(given: argparse.Namespace, split: str, lines: int) -> Path:
    """A pool below OUT, rendered now as far as it is not there yet."""
    folder = Path(given.out) / "lines" / split
    log.info("%d %s lines in %s; rendering what is missing", lines, split, folder)
    job = PoolJob(out=str(folder), lines=lines, seed=given.seed, split=split, families=FAMILIES)
    write_pool(job, max(1, (os.cpu_count() or 1) - 1))
    return folder


def config(given: argparse.Namespace) -> TrainConfig:
    """The options with their defaults filled in. Raises InputError for a bad one."""
    if given.minutes <= 0:
        raise InputError(f"--minutes {given.minutes}: give a positive number of minutes")
    if given.without and given.stage != "diffusion":
        raise InputError("--without concerns --stage diffusion: the autoencoder has none of these parts")
    batch_size, rate = DEFAULTS[given.stage]
    options = {name: value for name, value in vars(given).items() if name != "lines"}
    options["without"] = tuple(dict.fromkeys(given.without))
    options |= {"batch_size": given.batch_size or batch_size, "learning_rate": given.learning_rate or rate}
    options["pool"] = given.pool or rendered(given, "train", given.lines)
    options["val_pool"] = given.val_pool or rendered(given, "val", VALIDATION_LINES)
    return TrainConfig(**options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    given = parser().parse_args(arguments)
    try:
        start = starting_weights(given)
        device = pick_device(given.device)
        cfg = config(given)
        if cfg.threads:
            torch.set_num_threads(cfg.threads)
        torch.manual_seed(cfg.seed)
        model = Model(ablated(preset(cfg.preset), cfg.without))
        if start is not None:
            load_start(model, start, cfg.without)
        Trainer(STAGES[cfg.stage](model, cfg, device), cfg).run()
    except TextSRError as error:
        sys.stderr.write(f"train.run: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
