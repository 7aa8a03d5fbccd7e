"""The command line of ``train.run``: options and their defaults, by stage."""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textsr.config import ABLATIONS, PRESETS, preset
from textsr.errors import InputError
from train.data import HELP
from train.harness import RunConfig, TrainConfig
from train.paper_config import PaperConfig
from train.pool import PoolJob, write_pool

log = logging.getLogger(__name__)

FAMILIES = 12  # Chinese font families that rendering asks for at least
VALIDATION_LINES = 300
PAPER_STEPS = 400_000

DESCRIPTION = (
    """\
Trains a preset. A run ends with its budget and leaves OUT/model.safetensors (averaged weights of the whole model, a
checkpoint for export.build), curves.png, curves.jsonl, samples_*.png and what --resume needs to go on.

  paper         the paper's Algorithm 1 on --data: every line decoded, all losses of Eq. 5, batch 64, Adam 1e-5,
                400,000 steps with its curriculum. Started by torchrun --nproc-per-node N it shares each step's
                batch among N processes; --accumulate K takes it in K parts. It resumes bit for bit.
  autoencoder   the VQGAN on crops of rendered lines, for --minutes
  diffusion     UNet, MoM and TDM on latents of rendered lines, for --minutes: a tenth of the work a step
  distil        the same networks taught to reach in 4 steps and in 1 what those of --checkpoint reach in all
  reader        PP-OCRv6, which reads the lines for a model, taught to read degraded ones; of the presets it needs none

On a CPU, malloc's habit of giving memory back costs half the time: set MALLOC_MMAP_MAX_=0,
MALLOC_TRIM_THRESHOLD_=100000000000 and MALLOC_TOP_PAD_=268435456 in the environment.

Data sets:
"""
    + HELP
)


@dataclass(frozen=True)
class Defaults:
    """What an option is where the command does not say."""

    batch_size: int
    learning_rate: float
    save_minutes: float = 5.0
    ema_decay: float = 0.998
    warmup_steps: int = 100
    clip: float = 1.0


DEFAULTS = {
    "autoencoder": Defaults(16, 1.5e-3),
    "diffusion": Defaults(8, 4e-4),
    "distil": Defaults(8, 1e-4),
    "reader": Defaults(32, 1.5e-4),
    "paper": Defaults(64, 1e-5, save_minutes=30.0, ema_decay=0.999, warmup_steps=0, clip=0.0),
}
DISTIL_ONLY = ("few_steps", "taught_share", "teacher")
POOLED = (
    "pool",
    "val_pool",
    "lines",
    "own_estimates",
    "recognizer_weight",
    "true_text_share",
    "small_share",
    *DISTIL_ONLY,
)
"""Options of the stages that train on pools of rendered lines; the paper's stage takes the first two as well."""
PAPER_ONLY = (
    "data", "val_data", "phases", "stand_in", "ocr", "text", "mom", "tdm", "text_loss", "recompute",
    "validate", "accumulate",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m train.run", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--stage", default="paper", choices=sorted(DEFAULTS), help="default: paper")
    made.add_argument("--preset", default="compact", choices=sorted(PRESETS))
    made.add_argument("--out", type=Path, required=True, help="folder for weights, curves and samples")
    made.add_argument(
        "--checkpoint", type=Path, help="start from these weights; by default the shipped ones, none for autoencoder"
    )
    made.add_argument("--resume", type=Path, help="go on with the run in this folder, optimiser included")
    _budget(made)
    _recipe(made)
    _pools(made)
    _paper(made)
    return made


def _budget(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("budget; of two the one that is spent first ends the run")
    group.add_argument("--minutes", type=float, help="of wall clock, time before --resume included")
    group.add_argument("--steps", type=int, help=f"of the optimiser; paper: {PAPER_STEPS} by default")
    group.add_argument("--save-minutes", type=float, help="minutes between saves (default: 5; paper: 30)")
    group.add_argument(
        "--shards", type=Path, metavar="DIR",
        help="also leave the weights of every save in DIR, in half precision, in files of at most 16 MiB",
    )  # fmt: skip


def _recipe(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("recipe")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    group.add_argument("--precision", default="bf16", choices=("bf16", "fp32"), help="default: bf16 autocast")
    group.add_argument("--batch-size", type=int, help="of a step: 16 crops, 8 lines; paper: 64 over all processes")
    group.add_argument("--learning-rate", type=float, help="autoencoder 1.5e-3, diffusion 4e-4, paper 1e-5")
    group.add_argument("--warmup-steps", type=int, help="default: 100; paper: 0")
    group.add_argument("--clip", type=float, help="largest norm of the gradient, 0: any (default: 1; paper: 0)")
    group.add_argument("--ema-decay", type=float, help="of the averaged weights (default: 0.998; paper: 0.999)")
    group.add_argument(
        "--without", action="append", default=[], choices=ABLATIONS,
        help="train without this part (the paper's ablations; not autoencoder; may be given again)",
    )  # fmt: skip
    group.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    group.add_argument(
        "--workers", type=int, default=0,
        help="processes that read the data or draw the lines, and fit glyphs, for each process (0; not autoencoder)",
    )  # fmt: skip
    group.add_argument("--seed", type=int, default=0)
    group.add_argument(
        "--tensorboard", action=argparse.BooleanOptionalAction, help="events in OUT/tensorboard (default for paper)"
    )


def _pools(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("rendered lines")
    group.add_argument("--pool", type=Path, help="folder of training lines (python -m train.pool)")
    group.add_argument("--val-pool", type=Path, help="folder of validation lines")
    group.add_argument(
        "--lines", type=int, default=24000, help="not paper: lines to render below OUT without --pool (24000)"
    )
    group.add_argument(
        "--own-estimates", type=float, default=0.5,
        help="diffusion: share of lines trained on the network's own estimate (0.5)",
    )  # fmt: skip
    group.add_argument(
        "--recognizer-weight", type=float, default=0.02,
        help="diffusion and distil: of the recogniser's loss on decoded lines (0.02, as in the paper)",
    )  # fmt: skip
    group.add_argument(
        "--true-text-share", type=float, default=0.0,
        help="diffusion and distil: share of lines whose text is read right, however degraded they are (0)",
    )  # fmt: skip
    group.add_argument(
        "--small-share", type=float, default=0.0,
        help="diffusion, distil and reader: share of lines that are merely small, as in photographs from afar (0)",
    )  # fmt: skip
    group.add_argument(
        "--few-steps", type=int, nargs="+", default=[4, 1], metavar="N", help="distil: numbers of steps taught (4 1)"
    )
    group.add_argument("--taught-share", type=float, default=0.5, help="distil: share of lines taught them (0.5)")
    group.add_argument(
        "--teacher", action=argparse.BooleanOptionalAction, default=True,
        help="distil: taught by what --checkpoint reaches in all its steps (default), or by the truth alone",
    )  # fmt: skip


def _paper(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("stage paper")
    add = group.add_argument
    add("--data", action="append", default=[], metavar="SPEC", help="a data set, see above; may be given again")
    add("--val-data", action="append", default=[], metavar="SPEC", help="lines for samples; default: of --data")
    add("--validate", type=int, default=16, help="lines of the samples; 0: none (16)")
    add("--accumulate", type=int, default=1, help="parts that each process takes its share of a step in (1)")
    add("--recompute", action="store_true", help="compute the decoder's activations twice to save memory")
    add(
        "--phases", type=int, nargs=2, default=[10_000, 20_000], metavar=("A", "B"),
        help="real lines come in at step A, degraded real ones at step B (10000 20000)",
    )  # fmt: skip
    add(
        "--stand-in", default="camera", choices=("camera", "degraded"),
        help="lines without a real picture get a simulated one (camera), or are degraded at every step",
    )  # fmt: skip
    add(
        "--ocr", default="auto", choices=("auto", "transocr", "ppocr"),
        help="what reads and gives the loss; auto: the checkpoint's TransOCR, else PP-OCRv6",
    )  # fmt: skip
    add(
        "--text", default="ocr", choices=("ocr", "truth", "noised"),
        help="tokens that guide: as read (default), the true ones, or the true ones noised to step t, as printed in "
        "Algorithm 1; the weights are always the recogniser's confidences",
    )  # fmt: skip
    add(
        "--mom", default="text", choices=("text", "whole", "frozen"),
        help="of MoM train the text transformer (default), all, or nothing",
    )  # fmt: skip
    add("--tdm", default="frozen", choices=("frozen", "trained"), help="train TDM with its cross-entropy")
    add("--text-loss", type=float, help="weight of that cross-entropy (0; 0.1 with --mom whole or --tdm trained)")


def config(given: argparse.Namespace) -> RunConfig:
    """The options with their defaults filled in; missing pools are rendered. Raises InputError for a bad one."""
    _check(given)
    defaults = vars(DEFAULTS[given.stage])
    options = vars(given) | {name: value for name, value in defaults.items() if getattr(given, name) is None}
    options["without"] = tuple(dict.fromkeys(given.without))
    if given.stage == "paper":
        return _paper_config(given, options)
    for name in ("lines", *PAPER_ONLY):
        del options[name]
    options |= {"tensorboard": bool(given.tensorboard), "few_steps": tuple(given.few_steps)}
    options["pool"] = given.pool or rendered(given, "train", given.lines)
    options["val_pool"] = given.val_pool or rendered(given, "val", VALIDATION_LINES)
    return TrainConfig(**options)


def _paper_config(given: argparse.Namespace, options: dict[str, Any]) -> PaperConfig:
    for name in POOLED:
        del options[name]
    pools = [f"pool:{pool}?split=all" for pool in (given.pool,) if pool is not None]
    val_pools = [f"pool:{pool}?split=all" for pool in (given.val_pool,) if pool is not None]
    options |= {
        "data": (*given.data, *pools),
        "val_data": (*given.val_data, *val_pools),
        "phases": tuple(given.phases),
        "steps": PAPER_STEPS if given.steps is None else given.steps,
        "tensorboard": given.tensorboard is not False,
        "schedule": "constant",
        "betas": (0.9, 0.999),
    }
    if not options["data"]:
        raise InputError("--stage paper needs --data (or --pool); to train on rendered lines give --data render:train")
    return PaperConfig(**options)


def _check(given: argparse.Namespace) -> None:
    usual = parser().parse_args(["--out", "."])
    if given.minutes is not None and given.minutes <= 0:
        raise InputError(f"--minutes {given.minutes}: give a positive number of minutes")
    if given.steps is not None and given.steps <= 0:
        raise InputError(f"--steps {given.steps}: give a positive number of steps")
    if given.accumulate < 1 or given.workers < 0 or given.validate < 0:
        raise InputError("--accumulate is at least 1, --workers and --validate at least 0")
    shares = given.taught_share, given.true_text_share, given.small_share
    if not all(0 <= share <= 1 for share in shares) or given.recognizer_weight < 0:
        raise InputError(
            "--taught-share, --small-share and --true-text-share lie in [0, 1], --recognizer-weight is at least 0"
        )
    steps = preset(given.preset).schedule.steps
    if given.stage == "distil" and not all(1 <= count <= steps for count in given.few_steps):
        raise InputError(f"--few-steps {given.few_steps}: {given.preset} takes 1 to {steps} steps")
    if given.workers and given.stage == "autoencoder":
        raise InputError("--workers concerns the other stages: the autoencoder draws its crops itself")
    if given.without and given.stage in ("autoencoder", "reader"):
        raise InputError(f"--without concerns the other stages: the {given.stage} has none of these parts")
    if given.stage == "paper":
        foreign = [name for name in POOLED[2:] if getattr(given, name) != getattr(usual, name)]
    else:
        others = PAPER_ONLY if given.stage == "distil" else (*PAPER_ONLY, *DISTIL_ONLY)
        foreign = [name for name in others if getattr(given, name) != getattr(usual, name)]
        if given.minutes is None and given.steps is None:
            raise InputError(f"--stage {given.stage} needs a budget: give --minutes or --steps")
    if foreign:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
        raise InputError(f"{names}: not an option of --stage {given.stage}")


def rendered(given: argparse.Namespace, split: str, lines: int) -> Path:
    """A pool below OUT, rendered now as far as it is not there yet."""
    folder = Path(given.out) / "lines" / split
    log.info("%d %s lines in %s; rendering what is missing", lines, split, folder)
    job = PoolJob(out=str(folder), lines=lines, seed=given.seed, split=split, families=FAMILIES)
    write_pool(job, max(1, (os.cpu_count() or 1) - 1))
    return folder
