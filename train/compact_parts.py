"""The parts of `train.compact`: each works in a folder of its own and leaves the plan saying what came of it."""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from runtime.recognizer import LineReader, PPOCRReader, open_reader
from textsr.checkpoint import load_model, load_weights
from textsr.config import Preset, preset
from textsr.errors import InputError
from textsr.graphs import Model
from train.autoencoder import AutoencoderStage
from train.compact_options import Options, Watched
from train.compact_publish import publish
from train.decoded import DecodedStage
from train.diagnose import Diagnostician
from train.diagnosis import CEILING_BAR, StepsChoice, decide
from train.distil import DistilStage
from train.harness import Stage, TrainConfig, Trainer, pick_device
from train.plan import CallOver, Clock, Plan
from train.pool import LinePool, PoolJob, write_pool
from train.validation import ModelRestorer, ValidationLine, validation_lines

log = logging.getLogger(__name__)

TEACHER = "ACC of all steps against one, before distillation"
"""A figure of the plan."""
FLOOR = 0.02
"""Share of all minutes that diffusion and distillation get in any case."""


class Parts:
    """All parts of a run; `run` does one by its name. Each may raise CallOver, and goes on when done again."""

    def __init__(self, options: Options, plan: Plan, clock: Clock) -> None:
        self.options, self.plan, self.clock = options, plan, clock
        self.out, self.device = options.out, pick_device(options.device)
        self.config: Preset = preset(options.preset)
        self._renderer: subprocess.Popen[bytes] | None = None
        self._reader: LineReader | None = None
        self._validation: list[ValidationLine] = []
        self._undistilled: tuple[Diagnostician, ModelRestorer] | None = None

    def run(self, part: str) -> None:
        """One part to its end."""
        work: dict[str, Callable[[], None]] = {
            "lines": self._lines,
            "ceiling": self._ceiling,
            "autoencoder": self._autoencoder,
            "diffusion": partial(self._diffusion, "diffusion", DecodedStage, 1),
            "distil": partial(self._diffusion, "distil", DistilStage, 2),
            "diagnose": self._diagnose,
        }
        work[part]()

    def close(self) -> None:
        """Ends the renderer that this call started."""
        if self._renderer is not None and self._renderer.poll() is None:
            self._renderer.terminate()
            self._renderer.wait(30)

    # lines

    @property
    def pool(self) -> Path:
        """Training lines."""
        return self.options.pool or self.out / "lines" / "train"

    @property
    def val_pool(self) -> Path:
        """Validation lines."""
        return self.options.val_pool or self.out / "lines" / "val"

    def _lines(self) -> None:
        """Validation lines, and first shards of training lines; more are written beside the training."""
        given = self.options
        workers = max(1, (os.cpu_count() or 1) - 1)
        if given.val_pool is None:
            job = PoolJob(out=str(self.val_pool), lines=given.val_lines, seed=given.seed, split="val",
                          families=given.families, shard=max(1, -(-given.val_lines // workers)))  # fmt: skip
            write_pool(job, workers)
        self.start_renderer()
        while self._renderer is not None and not list(self.pool.glob("lines-*.npy")):
            self.clock.check()
            if self._renderer.poll() not in (None, 0):
                raise InputError(f"rendering failed, see {self.out / 'lines.log'}; or give --pool")
            time.sleep(0.2)
        self.plan.notes.append(f"training began with {len(LinePool(self.pool))} lines")

    def start_renderer(self) -> None:
        """Starts writing what is missing of the training lines, in processes of its own; it ends with this call."""
        given = self.options
        if given.pool is not None or self._renderer is not None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        workers = max(1, (os.cpu_count() or 1) - 2)
        command = [sys.executable, "-m", "train.pool", "--out", str(self.pool.resolve()), "--lines", str(given.lines),
                   "--seed", str(given.seed), "--workers", str(workers), "--families", str(given.families)]  # fmt: skip
        root = Path(__file__).resolve().parents[1]
        with (self.out / "lines.log").open("ab") as record:
            self._renderer = subprocess.Popen(command, cwd=root, stdout=record, stderr=subprocess.STDOUT)

    # training

    @property
    def start(self) -> Path | None:
        """What diffusion starts from: the autoencoder's run where there was one, else the given checkpoint."""
        trained = self.out / "autoencoder" / "model.safetensors"
        return trained if trained.is_file() else self.options.checkpoint

    def _ceiling(self) -> None:
        """How much of the clean lines the starting autoencoder keeps readable."""
        if self.options.checkpoint is not None:
            self.plan.figures["ceiling at the start"] = self._measured_ceiling(self.options.checkpoint, "ceiling")

    def _measured_ceiling(self, checkpoint: Path, name: str) -> float:
        work, restorer = self._diagnostician(checkpoint, name)
        return round(work.clean_and_ceiling(restorer), 4)

    def _autoencoder(self) -> None:
        """Trains the autoencoder where its ceiling is too low."""
        ceiling = self.plan.figures.get("ceiling at the start", 0.0)
        if ceiling >= CEILING_BAR:
            self.plan.notes.append(f"autoencoder kept: its ceiling is {100 * ceiling:.1f}%")
            return
        rate = self.options.rates[0]
        if self._train("autoencoder", AutoencoderStage, self.options.crops, rate, self.options.checkpoint):
            trained = self.out / "autoencoder" / "model.safetensors"
            self.plan.figures["ceiling after training"] = self._measured_ceiling(trained, "ceiling_after")

    def _diffusion(self, part: str, stage: type[DecodedStage], rate: int) -> None:
        before = self.start if part == "diffusion" else self.out / "diffusion" / "model.safetensors"
        if part == "distil" and not (before and before.is_file()):
            self.plan.notes.append("nothing to distil: there was no time for diffusion")
            return
        factory: Callable[..., Stage] = partial(stage, decode_lines=self.options.decode_lines)
        teacher = part == "distil" and self._teaches()
        self._train(part, factory, self.options.batch_size, self.options.rates[rate], before, teacher=teacher)

    def _teaches(self) -> bool:
        """Whether the undistilled weights in all steps read no worse than in one, within the paired interval."""
        figures = self.plan.figures
        if TEACHER not in figures:
            doctor, restorer = self._undistilled = self._diagnostician(
                self.out / "diffusion" / "model.safetensors", "diffusion"
            )
            self._rows(doctor, restorer, "recogniser", [1, self.config.schedule.steps])
            rows = doctor.found.by_steps()
            difference = StepsChoice.of(rows[self.config.schedule.steps], rows[1]).accuracy
            figures[TEACHER] = {**asdict(difference), "teaches": difference.high >= 0}
        return bool(figures[TEACHER]["teaches"])

    def _train(
        self,
        part: str,
        factory: Callable[..., Stage],
        batch: int,
        rate: float,
        checkpoint: Path | None,
        *,
        teacher: bool = False,
    ) -> bool:
        """Trains a part within its minutes, going on where an earlier call left it; False where there were none."""
        self.start_renderer()
        given, out = self.options, self.out / part
        resume = out if (out / "state.json").is_file() else None
        cfg = TrainConfig(
            stage=part, preset=given.preset, minutes=1.0, device=given.device, out=out, pool=self.pool,
            val_pool=self.val_pool, resume=resume, checkpoint=checkpoint, batch_size=batch, learning_rate=rate,
            seed=given.seed, threads=given.threads, warmup_steps=100, save_minutes=given.save_minutes, teacher=teacher,
        )  # fmt: skip
        torch.manual_seed(given.seed)
        model = Model(self.config)
        start = out / "model.safetensors" if resume else checkpoint
        if start is not None:
            load_weights(model, start)
        stage = factory(model, cfg, self.device)
        minutes = self._minutes(part)
        if minutes <= 0:
            self.plan.notes.append(f"no time was left for {part}")
            return False
        usable = self.publish if part != "autoencoder" else _nothing
        cfg = replace(cfg, minutes=minutes)
        trainer = Trainer(Watched(stage, self.clock, usable), cfg)
        try:
            trainer.run()
        except CallOver:
            if trainer.at.step:  # the trainer's own way out is the end of its budget
                trainer._save(final=False)
            raise
        finally:
            del trainer, stage, model
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return True

    def _minutes(self, part: str) -> float:
        """The part's minutes, those of earlier calls included; never more than the whole budget still allows."""
        state, trained = self.out / part / "state.json", 0.0
        if state.is_file():
            trained = json.loads(state.read_text(encoding="utf-8"))["progress"]["seconds"] / 60
        share = self.plan.share(part, max(0.0, self.clock.left(self.plan.minutes)))
        self.plan.given.setdefault(part, share)
        most = trained + share
        if part != "autoencoder":  # a run without these has no weights: rather a little over its minutes than that
            most = max(most, FLOOR * self.plan.minutes)
        return min(max(self.plan.given[part], FLOOR * self.plan.minutes), most)

    # results

    def publish(self, checkpoint: Path) -> None:
        """Makes ``checkpoint`` the newest usable weights."""
        publish(checkpoint, self.options, self.plan)

    def _diagnostician(self, checkpoint: Path, name: str) -> tuple[Diagnostician, ModelRestorer]:
        self._reader = self._reader or PPOCRReader(threads=self.options.threads or None)
        if not self._validation:
            reader = open_reader(threads=self.options.threads or None)
            self._validation = validation_lines(LinePool(self.val_pool), self.options.val_lines, reader)
        model = load_model(checkpoint, self.config)
        assert isinstance(model, Model)
        named = f"{checkpoint.parent.name}/{checkpoint.name}"
        about: dict[str, object] = {"preset": self.config.name, "checkpoint": named}
        work = Diagnostician(self._validation, self._reader, self.out / "diagnosis" / name, about, self.device)
        batch = 32 if self.device.type == "cuda" else 8
        return work, ModelRestorer(model, self.device, batch_size=batch)

    def _diagnose(self) -> None:
        """Chooses weights and default steps on the validation lines; then what is good to know, while there is time."""
        most = self.config.schedule.steps
        work: dict[str, tuple[Diagnostician, ModelRestorer]] = {}
        for name in ("diffusion", "distil"):
            checkpoint = self.out / name / "model.safetensors"
            if not checkpoint.is_file():
                continue
            begun = self._undistilled if name == "diffusion" else None
            work[name] = begun or self._diagnostician(checkpoint, name)
            known = work[name][0].found.by_steps()
            self._rows(*work[name], "recogniser", sorted({most, *TrainConfig.few_steps} - set(known)))
        if not work:
            raise InputError(f"{self.out} holds no trained weights: the minutes were too few; give more --minutes")
        name, steps, why = decide({name: doctor.found for name, (doctor, _) in work.items()})
        self.plan.steps = steps
        self.plan.figures["choice"] = why
        self.publish(self.out / name / "model.safetensors")
        doctor, restorer = work[name]
        for text in ("true", "wrong"):
            if self.clock.left(self.plan.minutes) > 0:
                self._rows(doctor, restorer, text, [most])

    def _rows(self, doctor: Diagnostician, restorer: ModelRestorer, text: str, steps: Sequence[int]) -> None:
        for count in steps:
            self.clock.check()
            doctor.restored(restorer, text, count)


def _nothing(_: Path) -> None:
    """Of an autoencoder alone nothing can be published: the UNet beside it belongs to other latents."""
