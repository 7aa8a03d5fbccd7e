"""``python -m train.compact --out runs/compact --minutes 25``: a whole compact model, from lines to weights.

The parts, with their shares of the minutes (`train.plan.SHARES`): lines (rendered unless pools are given; more are
written beside the training), the autoencoder's ceiling, the autoencoder where the ceiling is below 98%, diffusion with
the decoded losses on every line at every step, distillation, and a diagnosis on validation lines that chooses the
weights and the default number of steps. What a part leaves goes to diffusion and distillation.

The run may be cut at any time, by --call-minutes, a signal or the power: the same command goes on where it was, at
most a minute of training is lost, and OUT/weights (or --publish) always holds the newest usable weights in shards of at
most 16 MiB in half precision, with what the run did and PROGRESS.md. Exit code 3: the call is over, the run is not.

To export: python -m train.shards join OUT/weights --out W, then python -m export.build --checkpoint W."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import torch

from runtime.bundle import SHIPPED
from textsr.config import PRESETS
from textsr.errors import InputError, TextSRError
from train.compact_options import Options
from train.compact_parts import Parts
from train.compact_publish import folder as published
from train.diagnosis import RULE
from train.footprint import GIB
from train.harness import pick_device, replacing
from train.plan import SHARES, CallOver, Clock, Plan, commit

log = logging.getLogger(__name__)

UNFINISHED = 3
"""Exit code of a call that ended before the run did."""


def run(options: Options, clock: Clock | None = None) -> Plan:
    """Goes on with the run in ``options.out``, or begins it; returns the plan as it stands when the call is over.

    :raises InputError: an option is out of range, rendering failed, or a loss is not finite.
    """
    if options.minutes <= 0 or options.call_minutes <= 0:
        raise InputError(f"--minutes {options.minutes:g}, --call-minutes {options.call_minutes:g}: give more than 0")
    fresh = Plan(options.preset, options.minutes, options.seed, commit())
    plan = Plan.open(options.out, fresh)
    plan.calls += 1
    clock = clock or Clock(options.call_minutes, plan.spent)
    parts = Parts(options, plan, clock)
    try:
        with _stopped_by_signals(clock):
            _all(parts, plan, clock)
    except CallOver:
        log.info("this call is over; the same command goes on")
    finally:
        parts.close()
        plan.spent += clock.seconds()
        _tell(options, plan)
    return plan


def _all(parts: Parts, plan: Plan, clock: Clock) -> None:
    while (part := plan.next()) is not None:
        _tell(parts.options, plan)
        clock.check()
        log.info("part %s; %.1f of %g minutes are left", part, clock.left(plan.minutes), plan.minutes)
        begun = clock.seconds()
        try:
            parts.run(part)
            plan.done.append(part)
        finally:
            plan.seconds[part] = round(plan.seconds.get(part, 0.0) + clock.seconds() - begun, 1)
    plan.finished = True


@contextlib.contextmanager
def _stopped_by_signals(clock: Clock) -> Iterator[None]:
    """SIGTERM and SIGINT end the call at the next batch, its weights saved."""

    def stop(number: int, frame: FrameType | None) -> None:
        log.info("signal %d: saving, then the call ends", number)
        clock.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(options: Options, plan: Plan) -> None:
    """Writes the plan, and PROGRESS.md beside it and beside the published weights."""
    plan.save(options.out)
    text = progress(options, plan)
    for folder in {options.out, published(options)}:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "PROGRESS.md") as path:
            path.write_text(text, encoding="utf-8")


def progress(options: Options, plan: Plan) -> str:
    """For people: what is done, what it gave, which weights are usable, what to do next."""
    folder = published(options)
    rows = ["| part | share min | took s | |", "|---|---|---|---|"]
    scale = plan.minutes / sum(SHARES.values())
    for name, share in SHARES.items():
        state = "done" if name in plan.done else "next" if name == plan.next() else ""
        rows.append(
            f"| {name} | {plan.given.get(name, scale * share):.2f} | {plan.seconds.get(name, 0):.0f} | {state} |"
        )
    said = [f"# {plan.preset}: {'finished' if plan.finished else 'not finished'} after {plan.spent / 60:.1f} of "
            f"{plan.minutes:g} minutes in {plan.calls} calls (seed {plan.seed}, commit {plan.commit})", ""]  # fmt: skip
    said += [*rows, "", *(f"- {note}" for note in plan.notes)]
    said += [f"- {name}: {json.dumps(value)}" for name, value in plan.figures.items()]
    if plan.weights:
        said += ["", f"Usable weights: {plan.weights}, in shards in {folder.name}. To export them:", ""]
        said += [f"    python -m train.shards join {folder.name} --out W.safetensors"]
        said += [
            f"    python -m export.build --preset {plan.preset} --precision fp16 --checkpoint W.safetensors --out B"
        ]
        chosen = "not chosen yet" if plan.steps is None else f"{plan.steps} ({RULE})"
        said += ["", f"Default number of steps: {chosen}."]
    else:
        start = options.checkpoint.name if options.checkpoint else "none"
        said += ["", f"No usable weights of this run yet; it started from: {start}."]
    return "\n".join(said) + "\n"


def estimate(options: Options, memory: float) -> str:
    """What a step of diffusion and of distillation takes in memory of ``memory`` GiB, worked out on this machine."""
    from train.compact_estimate import footprints

    return "\n".join(
        f"{name}: {footprint.text(lines, round(memory * GIB))}"
        for name, (lines, footprint) in footprints(options).items()
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m train.compact", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the run")
    add("--minutes", type=float, default=25.0, help="of all calls together (default: 25)")
    add("--call-minutes", type=float, default=1e9, help="end this call by then; the same command goes on")
    add("--preset", default="compact", choices=sorted(PRESETS))
    add("--checkpoint", type=Path, help="start from these weights; default: the shipped ones, where there are any")
    add("--from-nothing", action="store_true", help="start from random weights")
    add("--pool", type=Path, help="training lines (train.pool); default: rendered below OUT")
    add("--val-pool", type=Path, help="validation lines; likewise")
    add("--publish", type=Path, help="folder for the newest usable weights (default: OUT/weights)")
    add("--lines", type=int, default=60000, help="training lines to render at most (default: 60000)")
    add("--val-lines", type=int, default=200, help="validation lines to choose on (default: 200)")
    add("--families", type=int, default=Options.families, help="Chinese font families that rendering asks for")
    add("--batch-size", type=int, default=64, help="lines of a step (default: 64)")
    add("--crops", type=int, default=128, help="crops of an autoencoder's step (default: 128)")
    add("--decode-lines", type=int, help="lines of a batch with the decoded losses (default: all)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    add("--seed", type=int, default=0)
    add("--estimate", type=float, metavar="GIB", help="train nothing: tell what fits in so much device memory")
    return parser


def _options(given: argparse.Namespace) -> Options:
    options = {k: v for k, v in vars(given).items() if k not in ("estimate", "from_nothing")}
    shipped = SHIPPED / given.preset / "weights.safetensors"
    if given.from_nothing and given.checkpoint is not None:
        raise InputError("--from-nothing and --checkpoint exclude each other")
    if given.checkpoint is None and shipped.is_file() and not given.from_nothing:
        options["checkpoint"] = shipped
    return Options(**options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    given = _parser().parse_args(arguments)
    try:
        options = _options(given)
        pick_device(options.device)
        if options.threads:
            torch.set_num_threads(options.threads)
        if given.estimate is not None:
            sys.stdout.write(estimate(options, given.estimate) + "\n")
            return 0
        plan = run(options)
    except TextSRError as error:
        sys.stderr.write(f"train.compact: {error}\n")
        return 1
    sys.stdout.write(progress(options, plan))
    return 0 if plan.finished else UNFINISHED


if __name__ == "__main__":
    sys.exit(main())
