"""What every training stage shares: budget, mixed precision, EMA, schedule, resume, curves, samples."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

import train.compat  # noqa: F401  (before timm)

# isort: split
from timm.utils import ModelEmaV3

from textsr.errors import InputError
from train.curves import ROW_STEPS, Averages, Board, plot_curves, thinned
from train.distributed import Group, pick_device
from train.runfolder import (
    DAMAGE,
    plain,
    random_state,
    replacing,
    replacing_all,
    set_random_state,
    step_of,
    training_history,
    write_module,
)
from train.shards import write_shards

__all__ = [
    "Averages", "Group", "Progress", "RunConfig", "Stage", "TrainConfig", "Trainer", "learning_rate", "pick_device",
    "place", "plot_curves", "replacing",
]  # fmt: skip

log = logging.getLogger(__name__)

Module = TypeVar("Module", bound=nn.Module)

FREE = {
    "device", "out", "minutes", "steps", "resume", "checkpoint", "accumulate", "threads", "save_minutes", "tensorboard",
    "workers", "recompute", "validate", "val_data", "val_pool", "shards",
}  # fmt: skip
"""Options that may change from one part of a run to the next; another one changes what is trained."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Options that every run has; written beside its weights."""

    stage: str
    preset: str
    device: str
    out: Path
    minutes: float | None = None  # wall-clock budget, the time before a resume included
    steps: int | None = None  # budget of optimiser steps; the run ends with the first that is spent
    resume: Path | None = None
    checkpoint: Path | None = None
    batch_size: int = 16  # samples of an optimiser step, over all processes and micro-batches
    accumulate: int = 1  # micro-batches of a step in each process
    learning_rate: float = 4e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0  # largest norm of the gradient; 0 leaves it as it is
    precision: Literal["bf16", "fp32"] = "bf16"
    ema_decay: float = 0.998
    seed: int = 0
    threads: int = 0
    workers: int = 0  # for each process, others that read data or draw lines, and fit glyphs; 0: none
    save_minutes: float = 5.0
    shards: Path | None = None  # folder for the weights of every save in parts (train.shards)
    tensorboard: bool = False
    without: tuple[str, ...] = ()  # of textsr.config.ABLATIONS

    def told(self) -> dict[str, Any]:
        """The options as they stand beside the weights: of paths the last name only."""
        return {k: v.name if isinstance(v, Path) else v for k, v in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Options of the stages ``autoencoder`` and ``diffusion``, which train on pools."""

    pool: Path
    val_pool: Path
    own_estimates: float = 0.5  # share of lines trained on the network's own first estimate (diffusion)
    few_steps: tuple[int, ...] = (4, 1)  # numbers of steps that the student is taught for (distil)
    taught_share: float = 0.5  # share of a batch's lines that are taught them; the others have the ordinary losses
    teacher: bool = True  # whether it is a teacher that shows them, or the truth alone
    recognizer_weight: float = 0.02  # of the recogniser's loss on decoded images; paper: 0.02
    true_text_share: float = 0.0  # share of lines read as easy ones are, surely and right, however degraded
    small_share: float = 0.0  # share of lines that are merely small (`train.degrade.small`)


class Stage(Protocol):
    """One kind of training: what is trained, on which batches, with which loss."""

    @property
    def model(self) -> nn.Module:
        """What is trained and averaged."""

    def batches(self, step: int) -> Iterator[Any]:
        """Endless batches on the host, as a run takes them that has done ``step`` steps."""

    def loss(self, batch: Any, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch and its parts, at ``progress`` in [0, 1] of the run."""

    def samples(self, model: nn.Module, path: Path) -> dict[str, float]:
        """Validation figures of ``model``; writes a picture of samples."""

    def save(self, model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
        """Writes the whole checkpoint with ``model`` as its trained part."""


@dataclass
class Progress:
    """Where a run stands, in seconds of training and in steps."""

    step: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    lines: int = 0


def place(module: Module, device: torch.device) -> Module:
    """``module`` on the device, its convolutions channels-last."""
    options: dict[str, Any] = {"memory_format": torch.channels_last}  # which torch's own types leave out
    return module.to(device, **options)


def learning_rate(base: float, step: int, warmup: int, progress: float) -> float:
    """Linear warm-up, then a cosine over the run's share that is done down to a fiftieth."""
    return base * _warmth(step, warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def _warmth(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / max(1, warmup))


class Trainer:
    """Runs a stage within its budget; every run ends with saved EMA weights, curves and samples."""

    def __init__(self, stage: Stage, cfg: RunConfig, group: Group | None = None) -> None:
        """``group``: the processes that train together; by default this one alone."""
        self.stage, self.cfg = stage, cfg
        self.group = group or Group(pick_device(cfg.device))
        self.device = self.group.device
        # With no weight decay this is Adam.
        self.optimizer = torch.optim.AdamW(
            stage.model.parameters(), lr=cfg.learning_rate, betas=cfg.betas, weight_decay=0.0, fused=True
        )
        self.ema = ModelEmaV3(stage.model, decay=cfg.ema_decay, use_warmup=True)
        self.at = Progress()
        self.curves: list[dict[str, float]] = []
        self.averages = Averages()
        self.history = training_history(cfg.checkpoint)
        self.data: dict[str, int] = getattr(stage, "records", {})
        if cfg.resume is not None:
            self._resume(cfg.resume)
        self.board = Board(None)

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]; of two budgets the one that is spent more."""
        shares = [0.0]
        if self.cfg.minutes is not None:
            shares.append(self.at.seconds / (self.cfg.minutes * 60))
        if self.cfg.steps is not None:
            shares.append(self.at.step / self.cfg.steps)
        return min(1.0, max(shares))

    def run(self) -> None:
        """Trains until the budget is spent. Raises InputError (with the batch saved) for a loss that is not finite.

        A resumed run whose budget is spent already is left as it is.
        """
        cfg = self.cfg
        if cfg.resume is not None and self.progress >= 1:
            log.warning(
                "nothing to do: the run in %s has trained %d steps, %.1f minutes; give more --minutes or --steps to "
                "go on", cfg.resume, self.at.step, self.at.seconds / 60,
            )  # fmt: skip
            return
        if self.group.leads:
            cfg.out.mkdir(parents=True, exist_ok=True)
            self.board = Board(cfg.out / "tensorboard" if cfg.tensorboard else None, self.at.step)
        self.group.wait()
        batches = self.stage.batches(self.at.step)
        start = self.at.seconds
        saved = begun = time.monotonic()
        with self._bar() as bar:
            while self.progress < 1:
                self.averages.add(self._step(self._next(batches)))
                now = self.group.first(time.monotonic() - begun) + begun
                self.at.seconds = start + now - begun
                bar.update(self._done() - bar.n)
                if self.at.step % ROW_STEPS == 0:
                    means = self._record()
                    shown = {"step": str(self.at.step)} | {k: f"{v:.4f}" for k, v in means.items()}
                    bar.set_postfix(shown, refresh=False)
                if now - saved > cfg.save_minutes * 60:
                    self._save(final=False)
                    saved = now
        self._save(final=True)
        self.board.close()

    def _bar(self) -> tqdm[Any]:
        by_steps, minutes = self.cfg.minutes is None, self.cfg.minutes or 0.0
        total, unit = (self.cfg.steps, "step") if by_steps else (round(minutes * 60), "s")
        leads = self.group.leads
        return tqdm(
            total=total, initial=self._done(), unit=unit, desc=self.cfg.stage, mininterval=10, disable=not leads
        )

    def _done(self) -> int:
        return self.at.step if self.cfg.minutes is None else round(self.at.seconds)

    def _next(self, batches: Iterator[Any]) -> list[Any]:
        waiting = time.monotonic()
        found = [next(batches) for _ in range(self.cfg.accumulate)]
        self.at.waited += time.monotonic() - waiting
        return found

    def _step(self, batches: list[Any]) -> dict[str, float]:
        """One optimiser step on the micro-batches of this process."""
        cfg, figures, progress = self.cfg, Averages(), self.progress
        rate = cfg.learning_rate * _warmth(self.at.step, cfg.warmup_steps)
        if cfg.schedule == "cosine":
            rate = learning_rate(cfg.learning_rate, self.at.step, cfg.warmup_steps, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        for number, batch in enumerate(batches, 1):
            with self.group.accumulating() if number < len(batches) else nullcontext():
                with torch.autocast(self.device.type, torch.bfloat16, enabled=cfg.precision == "bf16"):
                    loss, parts = self.stage.loss(batch, progress)
                if self.group.any(not bool(torch.isfinite(loss))):
                    raise self._not_finite("loss", loss, batches)
                (loss / len(batches)).backward()
            figures.add({"loss": loss.item(), **parts})
        self.group.average_gradients(self.stage.model.parameters())
        norm = nn.utils.clip_grad_norm_(self.stage.model.parameters(), cfg.clip or math.inf)
        if not torch.isfinite(norm):  # the step would spoil every weight
            raise self._not_finite("gradient", norm, batches)
        self.optimizer.step()
        self.ema.update(self.stage.model, step=self.at.step)
        self.at.step += 1
        self.at.lines += cfg.batch_size
        return {**figures.take(), "grad_norm": norm.item(), "lr": rate}

    def _not_finite(self, what: str, value: Tensor, batches: list[Any]) -> InputError:
        path = self.cfg.out / ("bad_batch.pt" if self.group.leads else f"bad_batch_rank{self.group.rank}.pt")
        torch.save(plain(batches[0] if len(batches) == 1 else batches), path)
        return InputError(f"{what} is {value.item()} at step {self.at.step}; the batch is in {path}")

    def _record(self) -> dict[str, float]:
        """A row of the curves: the means of the steps since the last one, over all processes, which it returns."""
        seconds, means = max(self.at.seconds, 1e-9), self.group.means(self.averages.take())
        row = {"step": self.at.step, "seconds": round(seconds, 1), **means}
        row |= {"samples_per_second": self.at.lines / seconds, "data_wait_share": self.at.waited / seconds}
        self.curves.append(row)
        self.board.figures({k: v for k, v in row.items() if k != "step"}, self.at.step)
        return means

    def _save(self, *, final: bool) -> None:
        if self.averages:
            self._record()
        if self.group.leads:
            self._write()
            if final:
                seconds = max(self.at.seconds, 1e-9)
                rate, wait = self.at.lines / seconds, 100 * self.at.waited / seconds
                log.info("done: %d steps, %.1f lines/s, %.1f%% of the time waiting for data", self.at.step, rate, wait)
        self.group.wait()

    def _write(self) -> None:
        out, model = self.cfg.out, self.ema.module
        model.eval()
        chance = random_state(self.device)  # that of the training, whatever the samples draw
        picture = out / f"samples_{self.at.step:06d}.png"
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.cfg.precision == "bf16"):
            figures = self.stage.samples(model, picture)
        set_random_state(chance, self.device)
        log.info("step %d, %.0f s: %s", self.at.step, self.at.seconds, {k: round(v, 4) for k, v in figures.items()})
        named = {f"val_{k}": v for k, v in figures.items()}
        if self.curves:
            self.curves[-1] |= named
        self.board.figures(named, self.at.step)
        self.board.picture(picture, self.at.step)
        state = {"progress": asdict(self.at), "validation": figures, "options": self.cfg.told(), "data": self.data}
        self.stage.save(model, out / "model.safetensors", {"training": json.dumps([*self.history, state])})
        if self.cfg.shards is not None:
            write_shards(out / "model.safetensors", self.cfg.shards, {"curves": json.dumps(thinned(self.curves))})
        self._write_resume(out, state, chance)
        plot_curves(self.curves, out / "curves.png")

    def _write_resume(self, out: Path, state: dict[str, Any], chance: dict[str, Any]) -> None:
        """What `_resume` reads, all files complete or as they were before."""
        names = ("raw.safetensors", "ema.safetensors", "optimizer.pt", "random.pt", "curves.jsonl", "state.json")
        with replacing_all(*(out / name for name in names)) as (raw, ema, optimizer, random, curves, told):
            write_module(self.stage.model, raw, self.at.step)
            write_module(self.ema.module, ema, self.at.step)
            torch.save(self.optimizer.state_dict(), optimizer)
            torch.save(chance, random)
            curves.write_text("".join(json.dumps(row) + "\n" for row in self.curves), encoding="utf-8")
            told.write_text(json.dumps({**state, "history": self.history}, indent=1), encoding="utf-8")

    def _resume(self, folder: Path) -> None:
        cfg = self.cfg
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            self._check(folder, state)
            self.stage.model.load_state_dict(load_file(folder / "raw.safetensors"))
            self.optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
            rows = (folder / "curves.jsonl").read_text(encoding="utf-8").splitlines()
            self.curves = [json.loads(row) for row in rows]
            self.at = Progress(**state["progress"])
            self.history = state.get("history", [])
            self.ema = ModelEmaV3(self.stage.model, decay=cfg.ema_decay, use_warmup=True)
            if (folder / "ema.safetensors").is_file():
                self.ema.module.load_state_dict(load_file(folder / "ema.safetensors"))
            else:
                log.warning("%s has no ema.safetensors: the averages start again from its last weights", folder)
            if not self.group.leads:  # the draws kept are those of the process that leads
                torch.manual_seed(self.group.seed(cfg.seed) + self.at.step)
            elif (folder / "random.pt").is_file():
                set_random_state(torch.load(folder / "random.pt", weights_only=True), self.device)
            else:
                log.warning("%s has no random.pt (an older run): it goes on with other random draws", folder)
        except (*DAMAGE, OSError) as error:
            raise InputError(f"--resume {folder}: {error}; give the folder of an earlier run") from error

    def _check(self, folder: Path, state: dict[str, Any]) -> None:
        """Raises InputError for the folder of a run of another kind, or one whose saving was cut short."""
        cfg, options = self.cfg, state["options"]
        found = options["stage"], options["preset"]
        if found != (cfg.stage, cfg.preset):
            raise InputError(f"--resume {folder}: a run of {found}, not of {(cfg.stage, cfg.preset)}")
        left_out = tuple(options.get("without", ()))
        if left_out != cfg.without:
            raise InputError(f"--resume {folder}: a run without {left_out}, not without {cfg.without}")
        now = json.loads(json.dumps(cfg.told()))
        for name in sorted(now.keys() & options.keys() - FREE):
            if now[name] != options[name]:
                log.warning("%s: %s is %s now and was %s before", folder, name, now[name], options[name])
        if state.get("data", self.data) != self.data:
            log.warning("%s: its data were %s and are %s: other samples follow", folder, state["data"], self.data)
        step = step_of(folder / "raw.safetensors")
        if step not in (None, state["progress"]["step"]):
            raise InputError(
                f"--resume {folder}: weights of step {step} beside a state of step {state['progress']['step']}: the "
                "run ended while it saved; start from its model.safetensors with --checkpoint"
            )
