"""Stage ``diffusion`` with every loss at every step, for a device that has the room: see `DecodedStage`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from textsr.graphs import Model
from train.diffusion import (
    L1_WEIGHT,
    PERCEPTUAL_CROP,
    PERCEPTUAL_WEIGHT,
    Corrupted,
    DiffusionStage,
)
from train.harness import TrainConfig

TEXT_WEIGHT = 0.1


class DecodedStage(DiffusionStage):
    """Like its parent, with the paper's three losses on decoded images and the text diffusion's at every step.

    Its parent decodes one line in four steps, since a CPU has no more time: the recogniser's gradient then comes from
    a thirtieth of the lines. Here ``decode_lines`` of each batch are decoded (None: all), evenly spread over it.
    """

    def __init__(self, full: Model, cfg: TrainConfig, device: torch.device, *, decode_lines: int | None = None) -> None:
        super().__init__(full, cfg, device)
        self.decode_lines = decode_lines

    def loss(self, now: Corrupted, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Latent L1, the losses on decoded images and, where the preset has text, the text diffusion's."""
        self.progress = progress
        now = self._on_own_estimate(now)
        z0_hat = self._predict(now)
        latent = self._latent_loss(z0_hat, now)
        decoded, parts = self._on_decoded(z0_hat, now)
        loss, figures = latent + decoded, {"latent": latent.item(), **parts}
        if self.full.preset.text:
            cross_entropy = self._text_loss(now, self._text(now.batch.truth)[0])
            loss, figures = loss + TEXT_WEIGHT * cross_entropy, figures | {"text": cross_entropy.item()}
        return loss, figures

    def _latent_loss(self, z0_hat: Tensor, now: Corrupted) -> Tensor:
        return (z0_hat - now.z_0).abs().mean()

    def _on_decoded(self, z0_hat: Tensor, now: Corrupted) -> tuple[Tensor, dict[str, float]]:
        """The paper's Eq. 5 on the images of z0_hat (B,C,h,w) against the clean lines, perceptual on a crop."""
        count = len(z0_hat) if self.decode_lines is None else min(self.decode_lines, len(z0_hat))
        chosen = np.unique(np.linspace(0, len(z0_hat) - 1, count).round().astype(int))
        few = torch.from_numpy(chosen).to(z0_hat.device)
        restored, hr = self.full.vqgan.decode(z0_hat[few]).float(), now.hr[few]
        left = int(torch.randint(restored.shape[3] - PERCEPTUAL_CROP + 1, ()))
        crop = slice(left, left + PERCEPTUAL_CROP)
        texts, filled = [now.batch.texts[place] for place in chosen], torch.from_numpy(now.batch.filled[chosen])
        l1 = (restored - hr).abs().mean()
        perceptual = self.perceptual(restored[..., crop], hr[..., crop]).mean()
        recognizer = self.recognizer(restored, texts, filled).mean()
        loss = L1_WEIGHT * l1 + PERCEPTUAL_WEIGHT * perceptual + self.cfg.recognizer_weight * recognizer
        return loss, {"l1": l1.item(), "perceptual": perceptual.item(), "recognizer": recognizer.item()}
