"""Equation 5 on the decoded image, as one module: what DistributedDataParallel wraps.

Source: the paper's Algorithm 1, lines 17 to 23. Ambiguities are resolved as DESIGN and the reference say: the residual
shift in the latent, the decoder's quantiser passed straight through, one mean over all samples of a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from textsr.graphs import Model, corrected
from textsr.schedule import ResidualShiftSchedule
from train.losses import PerceptualLoss
from train.recognisers import PPOCR, TransOCRGuide

L1_WEIGHT, PERCEPTUAL_WEIGHT, RECOGNIZER_WEIGHT = 1.0, 1.0, 0.02  # paper, Eq. 5

Text = tuple[Tensor, ...]
"""Tokens, weights and places, (B,24) each (`train.diffusion.text_tensors`)."""


@dataclass(frozen=True)
class Noised:
    """Samples on the device: hr (B,3,H,W) and lq (B,3,h,w) in [-1,1], latents z_y, z_t and, where the
    preset has it, z_painted (B,C,h,w), t (B,) int64.

    ``text`` is what conditions the UNet, ``texts`` what the lines say, ``filled`` (B,) the share of the width that
    shows the line. For the text diffusion's loss: ``noised`` (B,24), its tokens, ``truth`` (B,24), ``time`` (B,).
    """

    hr: Tensor
    lq: Tensor
    z_y: Tensor
    z_t: Tensor
    t: Tensor
    text: Text
    texts: tuple[str, ...]
    filled: Tensor
    truth: Tensor
    noised: Tensor
    time: Tensor
    z_painted: Tensor | None = None


class PaperLosses(nn.Module):
    """Loss of a batch: L1, perceptual and recogniser's on the decoded image, and the text diffusion's if wanted."""

    scales: Tensor

    def __init__(
        self, full: Model, recogniser: PPOCR | TransOCRGuide, *, text_weight: float = 0.0, recompute: bool = False
    ) -> None:
        """``recompute``: the decoder's activations are computed again in the backward pass, which saves memory."""
        super().__init__()
        self.full, self.recogniser, self.perceptual = full, recogniser, PerceptualLoss()
        self.text_weight, self.recompute = text_weight, recompute
        schedule = ResidualShiftSchedule.from_config(full.preset.schedule)
        self.register_buffer("scales", torch.tensor(schedule.input_scales, dtype=torch.float32), persistent=False)
        corrects = schedule.residual_std is not None
        estimates = torch.tensor(schedule.estimates, dtype=torch.float32) if corrects else None
        self.register_buffer("estimates", estimates, persistent=False)

    def forward(self, now: Noised) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts, detached."""
        restored = self._decode(self.predict(now)).float()
        parts = {
            "l1": (restored - now.hr).abs().mean(),
            "perceptual": self.perceptual(restored, now.hr).mean(),
            "recognizer": self.recogniser.loss(restored, now.texts, now.filled).mean(),
        }
        loss = L1_WEIGHT * parts["l1"] + PERCEPTUAL_WEIGHT * parts["perceptual"]
        loss = loss + RECOGNIZER_WEIGHT * parts["recognizer"]
        if self.text_weight:
            parts["text"] = self._text_loss(now)
            loss = loss + self.text_weight * parts["text"]
        return loss, {name: value.detach() for name, value in parts.items()}

    def predict(self, now: Noised) -> Tensor:
        """z0_hat (B,C,h,w) float32."""
        full, (tokens, weights, *places) = self.full, now.text
        c_cond = full.mom.text_condition(tokens, weights) if full.preset.unet.context_dim is not None else None
        glyphs = full.glyph_canvas(tokens, weights, *places) if full.preset.glyph is not None else None
        scaled = now.z_t * self.scales[now.t][:, None, None, None]
        z0_hat = full.unet(scaled, now.t.float(), now.lq, c_cond, glyphs, now.z_y, None, now.z_painted).float()
        estimates = self.estimates
        if not isinstance(estimates, Tensor):
            return z0_hat
        gain, deviation = estimates[now.t].T[:, :, None, None, None]
        return corrected(now.z_t, now.z_y, gain, deviation, z0_hat)

    def _decode(self, z0_hat: Tensor) -> Tensor:
        if self.recompute:
            image: Tensor = checkpoint(self.full.vqgan.decode, z0_hat, use_reentrant=False)
            return image
        return self.full.vqgan.decode(z0_hat)

    def _text_loss(self, now: Noised) -> Tensor:
        """Cross-entropy of TDM's prediction with the true text, from tokens noised to the time of z_t."""
        time = now.time.float()
        i_cond = self.full.mom.image_condition(now.noised, now.text[1], now.z_y, now.z_t, time)
        return F.cross_entropy(self.full.tdm(now.noised, time, i_cond).float(), now.truth)
