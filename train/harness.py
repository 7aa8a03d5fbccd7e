"""What every training stage shares: budget, mixed precision, EMA, schedule, resume, curves, samples."""

from __future__ import annotations

import json
import logging
import math
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

import train.compat  # noqa: F401  (before timm)

# isort: split
from timm.utils import ModelEmaV3

from textsr.checkpoint import read_metadata
from textsr.errors import InputError

log = logging.getLogger(__name__)

Module = TypeVar("Module", bound=nn.Module)

DAMAGE = (EOFError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError, pickle.PickleError)
"""What the readers of a run's files raise for a file that is not what it should be."""

ROW_STEPS = 20
"""Steps that a row of the curves sums up."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of a run; written beside its weights."""

    stage: str
    preset: str
    minutes: float
    device: str
    out: Path
    pool: Path
    val_pool: Path
    resume: Path | None = None
    checkpoint: Path | None = None
    batch_size: int = 16
    learning_rate: float = 4e-4
    warmup_steps: int = 100
    ema_decay: float = 0.998
    seed: int = 0
    threads: int = 0
    save_minutes: float = 5.0
    own_estimates: float = 0.5  # share of lines trained on the network's own first estimate (diffusion)
    without: tuple[str, ...] = ()  # of textsr.config.ABLATIONS


class Stage(Protocol):
    """One kind of training: what is trained, on which batches, with which loss."""

    @property
    def model(self) -> nn.Module:
        """What is trained and averaged."""

    def batches(self, seed: int) -> Iterator[Any]:
        """Endless batches on the host."""

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


class Averages:
    """Means of figures since they were last taken, each over the steps that measured it."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def __bool__(self) -> bool:
        """Whether anything was added."""
        return bool(self._sums)

    def add(self, figures: dict[str, float]) -> None:
        """The figures of one step."""
        for name, value in figures.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value, count + 1

    def take(self) -> dict[str, float]:
        """The means; the next ones start from nothing."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to that takes the place of ``path`` once it is complete."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    yield unfinished
    unfinished.replace(path)


def pick_device(name: str) -> torch.device:
    """``auto``: CUDA where there is one. Raises InputError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {name}: this torch sees no CUDA device; use --device cpu or auto")
    return torch.device(name)


def place(module: Module, device: torch.device) -> Module:
    """``module`` on the device, its convolutions channels-last."""
    options: dict[str, Any] = {"memory_format": torch.channels_last}  # which torch's own types leave out
    return module.to(device, **options)


def training_history(checkpoint: Path | None) -> list[Any]:
    """The runs that a checkpoint tells of in its metadata, first to last; a run that starts from it adds its own."""
    if checkpoint is None:
        return []
    told = json.loads(read_metadata(checkpoint).get("training", "[]"))
    return told if isinstance(told, list) else [told]


def learning_rate(base: float, step: int, warmup: int, progress: float) -> float:
    """Linear warm-up, then a cosine over the run's wall-clock share down to a fiftieth."""
    warm = min(1.0, (step + 1) / max(1, warmup))
    return base * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Trainer:
    """Runs a stage for a number of minutes; every run ends with saved EMA weights, curves and samples."""

    def __init__(self, stage: Stage, cfg: TrainConfig) -> None:
        self.stage, self.cfg = stage, cfg
        self.device = pick_device(cfg.device)
        self.optimizer = torch.optim.AdamW(
            stage.model.parameters(), lr=cfg.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        self.ema = ModelEmaV3(stage.model, decay=cfg.ema_decay, use_warmup=True)
        self.at = Progress()
        self.curves: list[dict[str, float]] = []
        self.averages = Averages()
        self.history = training_history(cfg.checkpoint)
        if cfg.resume is not None:
            self._resume(cfg.resume)

    def run(self) -> None:
        """Trains until the budget is spent. Raises InputError (with the batch saved) for a loss that is not finite.

        A resumed run whose budget is spent already is left as it is.
        """
        cfg, budget = self.cfg, self.cfg.minutes * 60
        if cfg.resume is not None and self.at.seconds >= budget:
            log.warning(
                "nothing to do: the run in %s has trained %.1f of %.1f minutes; give more --minutes to go on",
                cfg.resume, self.at.seconds / 60, cfg.minutes,
            )  # fmt: skip
            return
        cfg.out.mkdir(parents=True, exist_ok=True)
        batches = self.stage.batches(cfg.seed + self.at.step)
        start = self.at.seconds
        saved = begun = time.monotonic()
        with tqdm(total=round(budget), initial=round(start), unit="s", desc=cfg.stage, mininterval=10) as bar:
            while self.at.seconds < budget:
                waiting = time.monotonic()
                batch = next(batches)
                self.at.waited += time.monotonic() - waiting
                self.averages.add(self._step(batch, min(1.0, self.at.seconds / budget)))
                now = time.monotonic()
                bar.update(round(start + now - begun) - round(self.at.seconds))
                self.at.seconds = start + now - begun
                if self.at.step % ROW_STEPS == 0:
                    means = self._record()
                    shown = {"step": str(self.at.step)} | {k: f"{v:.4f}" for k, v in means.items()}
                    bar.set_postfix(shown, refresh=False)
                if now - saved > cfg.save_minutes * 60:
                    self._save(final=False)
                    saved = time.monotonic()
        self._save(final=True)

    def _step(self, batch: Any, progress: float) -> dict[str, float]:
        rate = learning_rate(self.cfg.learning_rate, self.at.step, self.cfg.warmup_steps, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, figures = self.stage.loss(batch, progress)
        if not torch.isfinite(loss):
            raise self._not_finite("loss", loss, batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.stage.model.parameters(), 1.0)
        if not torch.isfinite(norm):  # the step would spoil every weight
            raise self._not_finite("gradient", norm, batch)
        self.optimizer.step()
        self.ema.update(self.stage.model, step=self.at.step)
        self.at.step += 1
        self.at.lines += self.cfg.batch_size
        return {"loss": loss.item(), **figures, "grad_norm": norm.item(), "lr": rate}

    def _not_finite(self, what: str, value: Tensor, batch: Any) -> InputError:
        path = self.cfg.out / "bad_batch.pt"
        torch.save(batch, path)
        return InputError(f"{what} is {value.item()} at step {self.at.step}; the batch is in {path}")

    def _record(self) -> dict[str, float]:
        """A row of the curves: the means of the steps since the last one, which it returns."""
        seconds, means = max(self.at.seconds, 1e-9), self.averages.take()
        row = {"step": self.at.step, "seconds": round(seconds, 1), **means}
        row |= {"samples_per_second": self.at.lines / seconds, "data_wait_share": self.at.waited / seconds}
        self.curves.append(row)
        return means

    def _save(self, *, final: bool) -> None:
        out, model = self.cfg.out, self.ema.module
        model.eval()
        if self.averages:
            self._record()
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            figures = self.stage.samples(model, out / f"samples_{self.at.step:06d}.png")
        log.info("step %d, %.0f s: %s", self.at.step, self.at.seconds, {k: round(v, 4) for k, v in figures.items()})
        if self.curves:
            self.curves[-1] |= {f"val_{k}": v for k, v in figures.items()}
        options = {k: v.name if isinstance(v, Path) else v for k, v in asdict(self.cfg).items()}  # no machine's paths
        state = {"progress": asdict(self.at), "validation": figures, "options": options}
        self.stage.save(model, out / "model.safetensors", {"training": json.dumps([*self.history, state])})
        self._save_resume(out, state)
        plot_curves(self.curves, out / "curves.png")
        if final:
            seconds = max(self.at.seconds, 1e-9)
            rate, wait = self.at.lines / seconds, self.at.waited / seconds
            log.info(
                "done: %d steps, %.1f lines/s, %.1f%% of the time waiting for data", self.at.step, rate, 100 * wait
            )

    def _save_resume(self, out: Path, state: dict[str, Any]) -> None:
        """What `_resume` reads, each file complete or as it was before."""
        for name, module in (("raw", self.stage.model), ("ema", self.ema.module)):
            with replacing(out / f"{name}.safetensors") as path:
                save_file({k: v.contiguous() for k, v in module.state_dict().items()}, path)
        with replacing(out / "optimizer.pt") as path:
            torch.save(self.optimizer.state_dict(), path)
        with replacing(out / "curves.jsonl") as path:
            path.write_text("".join(json.dumps(row) + "\n" for row in self.curves), encoding="utf-8")
        with replacing(out / "state.json") as path:
            path.write_text(json.dumps({**state, "history": self.history}, indent=1), encoding="utf-8")

    def _resume(self, folder: Path) -> None:
        cfg = self.cfg
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            found = state["options"]["stage"], state["options"]["preset"]
            if found != (cfg.stage, cfg.preset):
                raise InputError(f"--resume {folder}: a run of {found}, not of {(cfg.stage, cfg.preset)}")
            left_out = tuple(state["options"].get("without", ()))
            if left_out != cfg.without:
                raise InputError(f"--resume {folder}: a run without {left_out}, not without {cfg.without}")
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
        except (*DAMAGE, OSError) as error:
            raise InputError(f"--resume {folder}: {error}; give the folder of an earlier run") from error


def plot_curves(curves: list[dict[str, float]], path: Path) -> None:
    """One panel a figure, over training seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = sorted({k for row in curves for k in row} - {"step", "seconds"})
    if not names:
        return
    columns = 4
    figure, axes = pyplot.subplots(
        -(-len(names) // columns), columns, figsize=(16, 3 * -(-len(names) // columns)), squeeze=False
    )
    for axis, name in zip(axes.flat, names, strict=False):
        points = [(row["seconds"], row[name]) for row in curves if name in row]
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 20 else None)
        axis.set_title(name)
    figure.tight_layout()
    figure.savefig(path, dpi=60)
    pyplot.close(figure)
