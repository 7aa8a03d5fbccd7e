"""``python -m train.ablations``: the diffusion trained whole and without one part at a time, side by side.

All variants start from one autoencoder and from the same random weights, and each batch goes to all of them, with the
same degradations, times and noise: they differ in what they lack, and have seen equally many lines whenever a run ends.
On a CPU one process makes the batches for all; on a GPU each makes them for itself, from the same seeds.
Training without the curriculum is the exception that it is about: its lines are degraded otherwise, all else is equal.
"""

from __future__ import annotations

import argparse
import json
import logging
import queue
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import multiprocessing, nn
from tqdm import tqdm

import train.compat  # noqa: F401  (before timm)

# isort: split
from timm.utils import ModelEmaV3

from textsr.config import PRESETS, ablated
from textsr.errors import InputError, TextSRError
from textsr.graphs import Model
from train.curves import Averages
from train.diffusion import DiffusionStage
from train.harness import learning_rate
from train.lessons import CURRICULUM, VARIANTS, Lesson, Plan, lessons, whole_model
from train.runfolder import DAMAGE, replacing
from train.start import starting_weights

log = logging.getLogger(__name__)

DONE = "done"
ROW_STEPS = 20
"""Steps that a row of the curves sums up."""
WAITING = 10.0
"""Seconds between looks at whether the processes that train are alive."""


@torch.no_grad()
def without(whole: Model, names: Sequence[str]) -> Model:
    """The variant of ``whole`` that lacks some parts, with its weights for all that is left.

    The first convolution of a variant without canvas has the weights of the inputs that it still sees: the painted
    line, which goes with the canvas, is the last of them.
    """
    model, given = Model(ablated(whole.preset, names)), whole.state_dict()
    unet = whole.preset.unet
    before = unet.latent_channels + unet.lq_channels
    for name, tensor in model.state_dict().items():
        value = given[name]
        if value.shape != tensor.shape:
            seen = before + unet.glyph_channels
            value = torch.cat([value[:, :before], value[:, seen : seen + unet.prior_channels]], dim=1)
        tensor.copy_(value)
    return model


class Pupil:
    """One variant in training."""

    def __init__(self, name: str, plan: Plan) -> None:
        self.name, self.cfg = name, plan.config(name)
        whole = whole_model(plan)
        model = without(whole, VARIANTS[name]) if VARIANTS[name] else whole
        self.device = torch.device(plan.device)
        self.stage = DiffusionStage(model, self.cfg, self.device)
        self.ema = ModelEmaV3(self.stage.model, decay=self.cfg.ema_decay, use_warmup=True)
        self.optimizer = torch.optim.AdamW(
            self.stage.model.parameters(), lr=self.cfg.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        self.averages, self.curves, self.steps = Averages(), list[dict[str, float]](), 0
        if plan.resume:
            self._resume(self.cfg.out / "resume.pt")

    def _resume(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.stage.model.load_state_dict(state["raw"])
            self.ema.module.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.steps = self.stage.count = state["steps"]
            self.curves = state["curves"]
        except (*DAMAGE, OSError) as error:
            raise InputError(f"--resume: {path}: {error}; start without --resume") from error

    def take(self, lesson: Lesson) -> None:
        """One step, none where it was done before. Raises InputError for a loss that is not finite."""
        if lesson.index < self.steps:
            return
        batch = lesson.mixed if CURRICULUM not in self.cfg.without else lesson.camera
        assert batch is not None, "a lesson has what its variants ask for"
        torch.manual_seed((self.cfg.seed << 32) + lesson.index)  # the noise of own estimates, the crops
        rate = learning_rate(self.cfg.learning_rate, self.steps, self.cfg.warmup_steps, lesson.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, figures = self.stage.loss(self.stage.told(batch), lesson.progress)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.stage.model.parameters(), 1.0)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise InputError(f"{self.name}: loss {loss.item()}, gradient {norm.item()} at step {self.steps}")
        self.optimizer.step()
        self.ema.update(self.stage.model, step=self.steps)
        self.steps += 1
        self.averages.add({"loss": loss.item(), **figures, "grad_norm": norm.item(), "lr": rate})
        if self.steps % ROW_STEPS == 0:
            self.curves.append({"step": self.steps, "lines": self.lines, **self.averages.take()})
            log.info("%s: step %d, latent %.4f", self.name, self.steps, self.curves[-1]["latent"])

    @property
    def lines(self) -> int:
        """Lines trained on."""
        return self.steps * self.cfg.batch_size

    def save(self) -> None:
        """Averaged weights as ``model.safetensors``, what ``--resume`` reads, and ``curves.jsonl``."""
        out = self.cfg.out
        out.mkdir(parents=True, exist_ok=True)
        parts = {"raw": self.stage.model, "ema": self.ema.module, "optimizer": self.optimizer}
        kept = {"steps": self.steps, "curves": self.curves, **{name: part.state_dict() for name, part in parts.items()}}
        with replacing(out / "resume.pt") as path:  # first: it may be ahead of the weights, not behind
            torch.save(kept, path)
        told = {"stage": "diffusion", "preset": self.cfg.preset, "without": self.cfg.without, "seed": self.cfg.seed}
        state = {"progress": {"step": self.steps, "lines": self.lines}, "options": told, "start": "autoencoder alone"}
        self.stage.save(self.ema.module, out / "model.safetensors", {"training": json.dumps([state])})
        rows = "".join(json.dumps(row) + "\n" for row in self.curves)
        (out / "curves.jsonl").write_text(rows, encoding="utf-8")


class Lane(Protocol):
    """What some of the variants are trained by: this process or another."""

    def give(self, lesson: Lesson | None) -> None:
        """Hands over a batch; None has all saved."""

    def end(self) -> None:
        """Returns when all is done."""


class Here:
    """Trains variants in this process."""

    def __init__(self, names: Sequence[str], plan: Plan) -> None:
        self.pupils = [Pupil(name, plan) for name in names]

    def give(self, lesson: Lesson | None) -> None:
        """Every variant's step."""
        for pupil in self.pupils:
            if lesson is None:
                pupil.save()
            else:
                pupil.take(lesson)

    def end(self) -> None:
        """Nothing is under way."""


class _Process:
    """A process of its own that trains variants."""

    def __init__(self, names: Sequence[str], target: Callable[..., None], *given: Any) -> None:
        self.names = names
        self.process = multiprocessing.get_context("spawn").Process(target=target, args=given, daemon=True)
        self.process.start()

    def ended(self) -> InputError:
        """Says that it has, where it should not."""
        return InputError(f"the process that trains {', '.join(self.names)} has ended; its log says why")

    def end(self) -> None:
        """Waits for the process. Raises InputError where it failed."""
        self.process.join()
        if self.process.exitcode:
            raise InputError(f"the process that trains {', '.join(self.names)} ended with {self.process.exitcode}")


class Elsewhere(_Process):
    """Trains variants in a process of its own, which is at most two batches behind.

    A batch is pickled here, not by the queue's thread: that moves its tensors to shared memory, and would do so while
    this process reads them.
    """

    def __init__(self, names: Sequence[str], plan: Plan) -> None:
        self.queue = multiprocessing.get_context("spawn").Queue(2)
        self.queue.cancel_join_thread()  # or this process would wait for one that died to read on
        super().__init__(names, _serve, tuple(names), plan, self.queue)

    def give(self, lesson: Lesson | str | None) -> None:
        """Waits until the process takes the batch. Raises InputError where it has ended."""
        packed = bytes(ForkingPickler.dumps(lesson))
        while self.process.is_alive():
            try:
                return self.queue.put(packed, timeout=WAITING)
            except queue.Full:
                continue
        raise self.ended()

    def end(self) -> None:
        """Waits for the process. Raises InputError where it failed."""
        self.give(DONE)
        super().end()


class Apart(_Process):
    """Trains variants in a process that makes its batches itself, which a GPU does faster than handing them over."""

    def __init__(self, names: Sequence[str], plan: Plan) -> None:
        super().__init__(names, _study, replace(plan, variants=tuple(names)))

    def give(self, lesson: Lesson | None) -> None:
        """Nothing is handed over. Raises InputError where the process failed."""
        if self.process.exitcode:
            raise self.ended()


def _serve(names: Sequence[str], plan: Plan, given: Any) -> None:
    _alone()
    here = Here(names, plan)
    while (lesson := ForkingPickler.loads(given.get())) != DONE:
        here.give(lesson)


def _study(plan: Plan) -> None:
    _alone()
    for _ in _taught(plan, [Here(plan.variants, plan)]):
        pass


def _alone() -> None:
    """Sets up a process beside others."""
    _log()
    torch.set_num_threads(1)


def _taught(plan: Plan, lanes: Sequence[Lane]) -> Iterator[int]:
    """Gives the plan's batches to all ``lanes``, and has them save; yields the steps done, after each."""
    steps = plan.start()
    for lesson in lessons(plan):
        for lane in lanes:
            lane.give(lesson)
        steps += 1
        if plan.saves(steps):
            _have_saved(lanes)
        yield steps
    _have_saved(lanes)


def _have_saved(lanes: Sequence[Lane]) -> None:
    for lane in lanes:
        lane.give(None)


def run(plan: Plan) -> int:
    """Trains the plan's variants; returns the lines that each has seen. Writes OUT/VARIANT and OUT/plan.json.

    :raises InputError: a pool that cannot be used, a loss that is not finite, a process that died.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    steps = plan.start()
    here, *others = [plan.variants[place :: plan.processes] for place in range(plan.processes)][::-1]
    other, own = (Elsewhere, plan) if plan.kind == "cpu" else (Apart, replace(plan, variants=here))
    lanes: list[Lane] = [*(other(share, plan) for share in others), Here(here, plan)]
    with tqdm(total=plan.steps, initial=steps, desc="ablations", unit="step", mininterval=10) as bar:
        for steps in _taught(own, lanes):
            bar.update()
            if plan.saves(steps):
                _tell(plan, steps)
    _tell(plan, steps)
    for lane in lanes:
        lane.end()
    return steps * plan.batch_size


def _tell(plan: Plan, steps: int) -> None:
    told = {
        "preset": plan.preset, "variants": list(plan.variants), "lines": steps * plan.batch_size, "steps": steps,
        "planned_lines": plan.lines, "batch_size": plan.batch_size, "learning_rate": plan.learning_rate,
        "seed": plan.seed, "device": plan.kind,
    }  # fmt: skip
    with replacing(plan.out / "plan.json") as path:
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser("python -m train.ablations", description=(__doc__ or "").split("\n")[0])
    made.add_argument("--lines", type=int, required=True, help="lines that each variant is trained on")
    made.add_argument("--out", type=Path, required=True, help="folder; each variant gets one of its own in it")
    made.add_argument("--pool", type=Path, required=True, help="folder of training lines (python -m train.pool)")
    made.add_argument("--val-pool", type=Path, help="folder of validation lines (default: the training lines)")
    made.add_argument("--checkpoint", type=Path, help="gives the autoencoder; default: the shipped weights")
    made.add_argument("--preset", default="compact", choices=sorted(PRESETS))
    made.add_argument("--minutes", type=float, help="stop all variants after so many minutes")
    made.add_argument("--resume", action="store_true", help="go on with the run in OUT")
    made.add_argument("--processes", type=int, default=1, help="processes that train; 1: everything in this one")
    made.add_argument("--variants", default=",".join(VARIANTS), help="with commas between (default: all)")
    made.add_argument("--batch-size", type=int, default=8)
    made.add_argument("--learning-rate", type=float, default=4e-4)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    return made


def plan_of(given: argparse.Namespace) -> Plan:
    """The command's plan. Raises InputError for an option that cannot be used."""
    variants = tuple(dict.fromkeys(given.variants.split(",")))
    if set(variants) - set(VARIANTS):
        raise InputError(f"--variants {given.variants}: choose of {', '.join(VARIANTS)}")
    if given.batch_size < 1 or given.lines < given.batch_size:
        raise InputError(f"--lines {given.lines}: give at least one batch of {given.batch_size}")
    if not 1 <= given.processes <= len(variants):
        raise InputError(f"--processes {given.processes}: give 1 to {len(variants)}, the number of variants")
    if given.minutes is not None and given.processes > 1 and given.device != "cpu":
        raise InputError("--minutes: processes on a GPU would not stop at the same batch; give --lines alone")
    start = starting_weights(argparse.Namespace(**{**vars(given), "stage": "diffusion", "resume": None}))
    assert start is not None, "a diffusion starts from some autoencoder"
    options = {"checkpoint": start, "variants": variants, "val_pool": given.val_pool or given.pool}
    return Plan(**{**vars(given), **options})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    _log()
    given = parser().parse_args(arguments)
    try:
        lines = run(plan_of(given))
    except TextSRError as error:
        sys.stderr.write(f"train.ablations: {error}\n")
        return 1
    sys.stdout.write(f"each variant has seen {lines} lines; evaluate: python -m benchmarks.ablations {given.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
