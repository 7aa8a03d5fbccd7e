"""Stage ``paper``: the paper's training, its Algorithm 1, at any preset's size.

Every sample is decoded and has the losses of equation 5. What chance decides for a sample (its line, degradation, step
and noise) hangs on its number in the run alone: not on the process that trains on it, nor on the batch it is in. So a
run that is resumed goes on as if it had not stopped, and several processes do what one would.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from textsr.checkpoint import WITHOUT, save_model, stated_alphabet, stated_symbols
from textsr.errors import InputError
from textsr.fit import Place
from textsr.graphs import Model
from textsr.reading import TextArrays
from textsr.schedule import CategoricalSchedule, ResidualShiftSchedule, text_times
from train.camera import camera
from train.data import Dataset, open_data, sound
from train.degrade import degrade, degrade_again
from train.degrade_ops import Draws, Seeds, sample_seed
from train.diffusion import enlarge, painted_latent, picture, psnr, restored_by, text_tensors
from train.distributed import Group
from train.harness import place
from train.paper_config import PaperConfig
from train.paper_losses import Noised, PaperLosses, Text
from train.placing import Fitter
from train.recognisers import choose, text_arrays
from train.samples import Samples, collate, micro_batch, sample_batches

log = logging.getLogger(__name__)

OWN_STREAM = 16
"""Of a sample's draws: those of the degradations have other streams (`train.degrade_ops.Draws`)."""
VALIDATION_SEED = 1
UNUSED_HEAD = "mom.Transformer.transformer.to_logits"
"""A projection that the published checkpoint holds and nothing uses: no gradient reaches it."""


class Trained(nn.Module):
    """The parts of a model that are trained, by their names in it with ``_`` for a dot."""

    def __init__(self, full: Model, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        for name in names:
            self.add_module(name.replace(".", "_"), full.get_submodule(name))

    def parts(self) -> dict[str, nn.Module]:
        """By their names in the model."""
        return {name: self.get_submodule(name.replace(".", "_")) for name in self.names}


def trained_parts(full: Model, cfg: PaperConfig) -> Trained:
    """Freezes ``full`` but for what is trained: UNet, MoM's text transformer, and what ``cfg`` adds or leaves out.

    Raises InputError where no loss would reach a part.
    """
    if (cfg.tdm == "trained" or cfg.mom == "whole") and not cfg.text_weight:
        raise InputError(
            "Eq. 5 reaches neither MoM's image half nor TDM: --mom whole and --tdm trained need --text-loss"
        )
    if cfg.text_weight and not full.preset.text:
        raise InputError("--text-loss, --mom whole and --tdm trained have no effect on a model without text")
    names = ["unet"]
    if cfg.mom == "whole":
        names.append("mom")
    elif cfg.mom == "text" and full.preset.unet.context_dim is not None:
        names.append("mom.Transformer")
    if cfg.tdm == "trained":
        names.append("tdm")
    full.requires_grad_(False)
    trained = Trained(full, tuple(names))
    trained.requires_grad_(True)
    if full.preset.mom.unused_head:
        full.get_submodule(UNUSED_HEAD).requires_grad_(False)
    if cfg.mom == "whole" and full.preset.unet.context_dim is None:
        full.mom.Transformer.requires_grad_(False)
    return trained


class PaperStage:
    """Trains ``trained_parts`` of ``full`` by Algorithm 1."""

    def __init__(self, full: Model, cfg: PaperConfig, group: Group, metadata: Mapping[str, str]) -> None:
        """``metadata``: of the checkpoint that the weights came from; its alphabets are used and passed on.

        Raises InputError where data, recogniser or options cannot be used.
        """
        preset, self.cfg, self.group, self.device = full.preset, cfg, group, group.device
        micro_batch(cfg, group.world)
        self.full = place(full, group.device).eval()
        trained = trained_parts(full, cfg)
        self.model: nn.Module = trained
        self.metadata, self.alphabet = dict(metadata), stated_alphabet(metadata)
        if len(self.alphabet.symbols) != preset.padding:
            raise InputError(f"{len(self.alphabet.symbols)} symbols, but preset {preset.name} has {preset.padding}")
        self.schedule = ResidualShiftSchedule.from_config(preset.schedule)
        self.categorical = CategoricalSchedule(preset.symbols)
        self.etas = torch.tensor(self.schedule.etas, dtype=torch.float32, device=self.device)
        times = text_times(self.schedule, tuple(range(len(self.schedule))), preset.schedule.text_start)
        self.times = torch.tensor(times, device=self.device)
        self.keep = torch.tensor(np.exp(self.categorical.log_cumulative), dtype=torch.float32, device=self.device)
        self.fitted = Fitter(preset, cfg.workers)
        self.recogniser = choose(cfg.ocr, full, stated_symbols(metadata), self.alphabet)
        losses = PaperLosses(full, self.recogniser, text_weight=cfg.text_weight, recompute=cfg.recompute)
        self.losses: PaperLosses = losses.to(self.device)
        self.wrapped = group.wrap(self.losses)
        self.data = self._open(cfg.data, "train")
        self.records = {self.data.source: len(self.data)}  # what the order of samples hangs on, beside the seed
        self.val = self._open(cfg.val_data, "test") if cfg.val_data else self.data
        count = sum(parameter.numel() for parameter in trained.parameters() if parameter.requires_grad)
        log.info("training %s: %.1fM parameters; %s reads", ", ".join(trained.names), count / 1e6, self.recogniser.name)

    def _open(self, specs: tuple[str, ...], part: Literal["train", "test"]) -> Dataset:
        data = open_data(specs, preset=self.full.preset, split=part)
        log.info("%s", data.report.summary())
        return data

    def batches(self, step: int) -> Iterator[Samples]:
        """This process's share of the run's samples from step ``step`` on."""
        where = {"rank": self.group.rank, "world": self.group.world}
        return sample_batches(self.data, self.full.preset, self.alphabet, self.cfg, step, **where)

    def loss(self, batch: Samples, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Eq. 5 on the samples of a micro-batch."""
        loss, parts = self.wrapped(self.noised(batch))
        return loss, {name: value.item() for name, value in parts.items()}

    @torch.no_grad()
    def noised(self, batch: Samples) -> Noised:
        """The samples on the device, degraded, encoded, read, and noised to their steps."""
        seeds = Seeds(self._seeds(self.cfg.seed, batch.numbers))
        draws = Draws(seeds, len(batch), stream=OWN_STREAM)
        severity, source, step = draws.uniform(), draws.uniform(), draws.uniform()
        hr = self._images(batch.images)
        kinds = (source * self._phases(batch.numbers).to(self.device)).long()
        if "progressive-sampling" in self.cfg.without:
            kinds = torch.ones_like(kinds)
        lq = self._low(hr, batch, kinds, seeds, severity)
        hr = hr.mul(2).sub(1).contiguous(memory_format=torch.channels_last)
        enlarged = enlarge(lq, self.full.preset).contiguous(memory_format=torch.channels_last)
        z_0, z_y = self.full.vqgan.encode(hr).float(), self.full.vqgan.encode(enlarged).float()
        t = (step * len(self.schedule)).long()
        eta = self.etas[t][:, None, None, None]
        noise = draws.normal(*z_0.shape[1:])
        z_t = z_0 + eta * (z_y - z_0) + self.schedule.kappa * eta.sqrt() * noise
        read = text_arrays(self.recogniser.read(lq, batch.filled), self.alphabet, self._place(), self._max_chars)
        text, truth = self._text(read), self._text(batch.truth)
        shown, time = (read if self.cfg.text == "ocr" else batch.truth), self.times[t]
        shown = self.fitted(shown, lq, batch.filled.tolist())
        chosen = self._text(shown)
        z_painted = painted_latent(self.full, lq, chosen, shown)
        source_tokens = truth[0] if self.cfg.text == "noised" else text[0]
        noised = self._noised_tokens(source_tokens, time, draws) if self._noises else text[0]
        tokens = noised if self.cfg.text == "noised" else chosen[0]
        condition = (tokens, text[1], *chosen[2:])
        filled = batch.filled.to(self.device)
        return Noised(hr, lq, z_y, z_t, t, condition, batch.texts, filled, truth[0], noised, time, z_painted)

    @property
    def _noises(self) -> bool:
        return bool(self.cfg.text_weight) or self.cfg.text == "noised"

    @property
    def _max_chars(self) -> int:
        return self.full.preset.max_chars

    def _place(self) -> Place:
        return Place(self.full.preset.height, self.full.preset.width)

    def _seeds(self, run: int, numbers: Tensor) -> Tensor:
        return torch.tensor([sample_seed(run, 0, int(number)) for number in numbers], device=self.device)

    def _phases(self, numbers: Tensor) -> Tensor:
        """(B,) 1, 2 or 3: how many sources of low resolution the curriculum has at each sample's step."""
        steps = numbers // self.cfg.batch_size
        first, second = self.cfg.phases
        return 1 + (steps >= first).long() + (steps >= second).long()

    def _images(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float().div(255).contiguous()

    def _low(self, hr: Tensor, batch: Samples, kinds: Tensor, seeds: Seeds, severity: Tensor) -> Tensor:
        """(B,3,h,w) in [-1,1] of hr in [0,1]: degraded (kind 0), real (1) or real and degraded again (2)."""
        with torch.autocast(self.device.type, enabled=False):
            real = batch.has_real.to(self.device)
            if self.cfg.stand_in == "degraded":
                kinds = torch.where(real, kinds, 0)
            lq = self._images(batch.real)
            for make, chosen in ((degrade, kinds == 0), (camera, (kinds > 0) & ~real)):
                places = chosen.nonzero()[:, 0]
                if len(places):
                    lq[places] = make(hr[places], seeds.pick(places), severity[places])
            twice = (kinds == 2).nonzero()[:, 0]
            if len(twice):
                lq[twice] = degrade_again(lq[twice], seeds.pick(twice), severity[twice])
            return lq.mul(2).sub(1)

    def _text(self, arrays: TextArrays) -> Text:
        return text_tensors(arrays, self.full.preset, self.device)

    def _noised_tokens(self, tokens: Tensor, time: Tensor, draws: Draws) -> Tensor:
        """c_t: each token kept with probability abar_t, else any of the K (Algorithm 1, line 18)."""
        count = tokens.shape[1]
        chance = torch.stack([draws.uniform() for _ in range(2 * count)], 1)
        other = (chance[:, count:] * self.full.preset.symbols).long()
        return torch.where(chance[:, :count] < self.keep[time][:, None], tokens, other)

    def samples(self, model: nn.Module, path: Path) -> dict[str, float]:
        """PSNR of restored validation lines and of bicubic; picture: bicubic, restored, original."""
        count = min(self.cfg.validate, len(self.val))
        if count == 0:
            return {}
        assert isinstance(model, Trained)
        lines = collate([(i, sound(self.val, i)) for i in range(count)], self.full.preset, self.alphabet)
        seeds = Seeds(self._seeds(VALIDATION_SEED, -1 - lines.numbers))
        severity = Draws(seeds, count, stream=OWN_STREAM).uniform()
        hr = self._images(lines.images)
        lq = self._low(hr, lines, (lines.numbers % 3).to(self.device), seeds, severity)
        hr, image = hr.mul(2).sub(1), enlarge(lq, self.full.preset)
        text = text_arrays(self.recogniser.read(lq, lines.filled), self.alphabet, self._place(), self._max_chars)
        text = self.fitted(text, lq, lines.filled.tolist())
        restored = restored_by(self.full, model.parts(), lq, image, text)
        picture([image, restored, hr], path)
        return {"psnr": psnr(restored, hr), "psnr_bicubic": psnr(image, hr)}

    def save(self, model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
        """The whole model with the averaged parts, and what its first checkpoint says of its alphabets and licence."""
        assert isinstance(model, Trained)
        kept = {k: v for k, v in self.metadata.items() if k not in ("initialised", "schedule", "training", WITHOUT)}
        if self.cfg.without:
            kept[WITHOUT] = ",".join(self.cfg.without)
        save_model(self.full, path, {**kept, **metadata}, parts=model.parts())
