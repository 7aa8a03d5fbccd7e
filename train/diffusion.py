"""Stage ``diffusion``: UNet, MoM and TDM on latents of lines; the autoencoder is frozen (the paper's Algorithm 1).

Every step has the latent loss; one step in ``DECODE_EVERY`` also has the paper's three losses on the decoded image (L1,
perceptual and recogniser, weights 1, 1 and 0.02) for its first ``DECODE_LINES`` lines, and another in as many the text
diffusion's cross-entropy. So a step costs a tenth of decoding every line, and all terms reach the UNet. A share of the
lines starts from the network's own estimate of z_0 (``TrainConfig.own_estimates``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from textsr.alphabet import Alphabet
from textsr.checkpoint import WITHOUT, save_model
from textsr.config import Preset
from textsr.fit import SCALE
from textsr.graphs import Model, corrected, graphs
from textsr.loop import LineBatch, restore
from textsr.reading import PAINT, PLACES, TextArrays, used_text
from textsr.schedule import CategoricalSchedule, ResidualShiftSchedule, text_times
from textsr.torch_executor import TorchExecutor
from train.degrade_sources import three_sources
from train.harness import TrainConfig, place
from train.lines import LinesOfText, Prefetch, drawn_batches, line_batches
from train.losses import PerceptualLoss, RecognizerLoss
from train.placing import Fitter
from train.pool import LinePool
from train.readings import NoiseModel

L1_WEIGHT, PERCEPTUAL_WEIGHT = 1.0, 1.0  # paper, Eq. 5; the recogniser's is an option
DECODE_EVERY, DECODE_LINES = 4, 1
PERCEPTUAL_CROP = 128  # columns; the perceptual network costs twice the decoder
TEXT_LINES = 2
VALIDATION_LINES = 16


class Trained(nn.Module):
    """The parts that this stage trains, by their names in the model."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.unet, self.mom, self.tdm = model.unet, model.mom, model.tdm

    def parts(self) -> dict[str, nn.Module]:
        """By their names in the model."""
        return dict(self.named_children())


def enlarge(lq: Tensor, preset: Preset) -> Tensor:
    """The runtime's bicubic enlargement (a = -0.75) of lq (B,3,h,w), clamped where the preset has it so."""
    image = F.interpolate(lq, scale_factor=float(SCALE), mode="bicubic", align_corners=False)
    return image.clamp(-1, 1) if preset.clamp_enlarged else image


@dataclass(frozen=True)
class Corrupted:
    """A batch on the device: hr (B,3,H,W), lq (B,3,h,w), latents z_0, z_y, z_t (B,C,h,w), t (B,); the reading
    (`text_tensors`), the canvas drawn from it, and the latent of the line with it painted on, where there are such, are
    what `DiffusionStage.told` adds."""

    batch: LinesOfText
    hr: Tensor
    lq: Tensor
    z_0: Tensor
    z_y: Tensor
    z_t: Tensor
    t: Tensor
    text: tuple[Tensor, ...] = ()
    glyphs: Tensor | None = None
    z_painted: Tensor | None = None


def part(now: Corrupted, chosen: slice) -> Corrupted:
    """Some lines of a batch, all its arrays cut alike."""
    lines = now.batch
    batch = LinesOfText(
        lines.places[chosen], lines.images[chosen], lines.texts[chosen], lines.truth.take(chosen),
        lines.reading.take(chosen), lines.severity[chosen], lines.filled[chosen],
    )  # fmt: skip
    text = tuple(values[chosen] for values in now.text)
    glyphs, z_painted = (None if value is None else value[chosen] for value in (now.glyphs, now.z_painted))
    arrays = {name: getattr(now, name)[chosen] for name in ("hr", "lq", "z_0", "z_y", "z_t", "t")}
    return replace(now, batch=batch, text=text, glyphs=glyphs, z_painted=z_painted, **arrays)


class LatentCache:
    """z_0 of each line of a pool, encoded when first met, kept in half precision in memory."""

    def __init__(self, lines: int, shape: tuple[int, int, int]) -> None:
        self.latents = torch.empty((lines, *shape), dtype=torch.float16)  # takes memory as it is filled
        self.known = torch.zeros(lines, dtype=torch.bool)

    def get(self, places: np.ndarray, images: Tensor, model: Model) -> Tensor:
        """(B,C,h,w) float32 of images (B,3,H,W) in [-1,1]."""
        index = torch.from_numpy(places)
        fresh = ~self.known[index]
        if bool(fresh.any()):
            self.latents[index[fresh]] = model.vqgan.encode(images[fresh.to(images.device)]).half().cpu()
            self.known[index[fresh]] = True
        return self.latents[index].to(images.device).float()


class DiffusionStage:
    """Trains ``Trained(model)`` by predicting z_0 at random steps of the residual shift."""

    def __init__(self, full: Model, cfg: TrainConfig, device: torch.device) -> None:
        self.full, self.cfg, self.device = place(full, device), cfg, device
        full.vqgan.requires_grad_(False)
        self.model: nn.Module = Trained(full)
        self.schedule = ResidualShiftSchedule.from_config(full.preset.schedule)
        self.times = text_times(self.schedule, tuple(range(len(self.schedule))), full.preset.schedule.text_start)
        self.categorical = CategoricalSchedule(full.preset.symbols)
        self.estimates = None
        if self.schedule.residual_std is not None:
            self.estimates = torch.tensor(self.schedule.estimates, dtype=torch.float32, device=device)
        self.scales = torch.tensor(self.schedule.input_scales, dtype=torch.float32, device=device)
        self.etas = torch.tensor(self.schedule.etas, dtype=torch.float32, device=device)
        self.generator = torch.Generator(device).manual_seed(cfg.seed)
        self.perceptual, self.recognizer = PerceptualLoss().to(device), RecognizerLoss().to(device)
        self.alphabet, self.noise = Alphabet.load(), NoiseModel.load(true_text=cfg.true_text_share)
        self.pool, self.val = LinePool(cfg.pool), LinePool(cfg.val_pool)
        self.cache = LatentCache(len(self.pool), full.preset.latent_shape)
        self.fitted = Fitter(full.preset, cfg.workers)
        self.count = 0
        self.progress = 0.0  # of the run; the thread that makes batches reads it for the curriculum

    def batches(self, step: int) -> Iterator[Corrupted]:
        """Batches made ready, latents included, on a thread of their own."""
        seed = self.cfg.seed + step  # a resumed run draws other degradations and noise than before
        self.generator.manual_seed(seed)
        parts = self.pool, self.noise, self.alphabet, self.cfg.batch_size
        lines = partial(drawn_batches, *parts, seed, self.cfg.workers)
        return Prefetch(lambda: (self._corrupt(batch, self.progress) for batch in lines()), device=self.device)

    def _images(self, pixels: np.ndarray) -> Tensor:
        return torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float().div(255).contiguous()

    @torch.no_grad()
    def _corrupt(self, batch: LinesOfText, progress: float) -> Corrupted:
        """The batch on the device; only the encoder runs in half precision."""
        hr = self._images(batch.images)
        t = torch.randint(len(self.schedule), (len(hr),), generator=self.generator, device=self.device)
        shape = (len(hr), *self.full.preset.latent_shape)
        noise = torch.randn(shape, generator=self.generator, device=self.device)  # the same whatever the degradations
        severity, progressive = torch.from_numpy(batch.severity), "progressive-sampling" not in self.cfg.without
        lq = three_sources(
            hr, progress, self.generator, severity.to(self.device), progressive=progressive,
            small_share=self.cfg.small_share,
        )  # fmt: skip
        lq = lq.mul(2).sub(1)
        hr = hr.mul(2).sub(1).contiguous(memory_format=torch.channels_last)
        enlarged = enlarge(lq, self.full.preset).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            z_0 = self.cache.get(batch.places, hr, self.full)
            z_y = self.full.vqgan.encode(enlarged).float()
        eta = self.etas[t][:, None, None, None]
        z_t = z_0 + eta * (z_y - z_0) + self.schedule.kappa * eta.sqrt() * noise
        return self.told(Corrupted(batch, hr, lq, z_0, z_y, z_t, t))

    @torch.no_grad()
    def told(self, now: Corrupted) -> Corrupted:
        """The batch with its reading, and what is drawn and painted from it, as this stage's preset is given them."""
        shown = self.fitted(now.batch.reading, now.lq, now.batch.filled.tolist())
        text = self._text(shown)
        glyphs = None if self.full.preset.glyph is None else self.full.glyph_canvas(*text)
        with torch.autocast(self.device.type, torch.bfloat16):
            z_painted = painted_latent(self.full, now.lq, text, shown)
        return replace(now, text=text, glyphs=glyphs, z_painted=z_painted)

    def _text(self, arrays: TextArrays) -> tuple[Tensor, ...]:
        return text_tensors(arrays, self.full.preset, self.device)

    def loss(self, now: Corrupted, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Latent L1, and in turns the losses on the decoded image and the text diffusion's."""
        self.progress = progress
        now = self._on_own_estimate(now)
        z0_hat = self._predict(now)
        latent = (z0_hat - now.z_0).abs().mean()
        loss, figures = latent, {"latent": latent.item()}
        self.count += 1
        if self.count % DECODE_EVERY == 0:
            decoded, parts = self._decoded_loss(z0_hat, now.hr, now.batch)
            loss, figures = loss + decoded, figures | parts
        elif self.count % DECODE_EVERY == 2 and self.full.preset.text:
            cross_entropy = self._text_loss(now, self._text(now.batch.truth)[0])
            loss, figures = loss + 0.1 * cross_entropy, figures | {"text": cross_entropy.item()}
        return loss, figures

    def _predict(self, now: Corrupted) -> Tensor:
        """z0_hat (B,C,h,w) float32."""
        scaled = now.z_t * self.scales[now.t][:, None, None, None]
        conditioned = self.full.preset.unet.context_dim is not None
        c_cond = self.full.mom.text_condition(now.text[0], now.text[1]) if conditioned else None
        z0_hat = self.full.unet(scaled, now.t.float(), now.lq, c_cond, now.glyphs, now.z_y, None, now.z_painted).float()
        if self.estimates is None:
            return z0_hat
        gain, deviation = self.estimates[now.t].T[:, :, None, None, None]
        return corrected(now.z_t, now.z_y, gain, deviation, z0_hat)

    @torch.no_grad()
    def _on_own_estimate(self, now: Corrupted) -> Corrupted:
        """The first share of the lines with z_t made from the network's own z0_hat at step T, not from the true z_0.

        That is what the sampler meets: a network trained on true z_t alone trusts the errors of its early steps and
        adds to them (exposure bias; scheduled sampling, Bengio et al. 2015).
        """
        count = round(self.cfg.own_estimates * len(now.z_t))
        if count == 0:
            return now
        few, last = slice(count), len(self.schedule) - 1
        noise = torch.randn(2, *now.z_y[few].shape, device=self.device)
        t = torch.full((count,), last, device=self.device)
        z_t = now.z_y[few] + self.schedule.prior_std * noise[0]
        start = replace(part(now, few), z_t=z_t, t=t)
        eta = self.etas[now.t[few]][:, None, None, None]
        own = (1 - eta) * self._predict(start) + eta * now.z_y[few] + self.schedule.kappa * eta.sqrt() * noise[1]
        return replace(now, z_t=torch.cat([own, now.z_t[count:]]))

    def _decoded_loss(self, z0_hat: Tensor, hr: Tensor, batch: LinesOfText) -> tuple[Tensor, dict[str, float]]:
        few = slice(DECODE_LINES)
        restored = self.full.vqgan.decode(z0_hat[few]).float()
        l1 = (restored - hr[few]).abs().mean()
        last = restored.shape[3] - PERCEPTUAL_CROP
        left = int(torch.randint(last + 1, ()))
        crop = slice(left, left + PERCEPTUAL_CROP)
        perceptual = self.perceptual(restored[..., crop], hr[few][..., crop]).mean()
        recognizer = self.recognizer(restored, batch.texts[few], torch.from_numpy(batch.filled[few])).mean()
        loss = L1_WEIGHT * l1 + PERCEPTUAL_WEIGHT * perceptual + self.cfg.recognizer_weight * recognizer
        return loss, {"l1": l1.item(), "perceptual": perceptual.item(), "recognizer": recognizer.item()}

    def _text_loss(self, now: Corrupted, truth: Tensor) -> Tensor:
        """Cross-entropy of TDM's prediction with the true text, from the read text noised to the time of z_t."""
        few = slice(TEXT_LINES)
        time = torch.tensor([self.times[int(t)] for t in now.t[few]], device=self.device)
        keep = torch.tensor(np.exp(self.categorical.log_cumulative), device=self.device)[time]
        chance, other = torch.rand(truth[few].shape), torch.randint(self.full.preset.symbols, truth[few].shape)
        tokens = torch.where(chance.to(self.device) < keep[:, None], now.text[0][few], other.to(self.device))
        i_cond = self.full.mom.image_condition(tokens, now.text[1][few], now.z_y[few], now.z_t[few], time.float())
        return F.cross_entropy(self.full.tdm(tokens, time.float(), i_cond).float(), truth[few])

    def samples(self, model: nn.Module, path: Path) -> dict[str, float]:
        """PSNR of restored validation lines and of bicubic; picture: bicubic, restored, original."""
        assert isinstance(model, Trained)
        lines = [self.val[i] for i in range(min(VALIDATION_LINES, len(self.val)))]
        batch = next(line_batches(lines, NoiseModel.load(), self.alphabet, len(lines), np.random.default_rng(1)))
        hr, generator = self._images(batch.images), torch.Generator(self.device).manual_seed(1)
        severity = torch.from_numpy(batch.severity).to(self.device)  # that of the readings
        with torch.autocast(self.device.type, enabled=False):
            lq = three_sources(hr, 1.0, generator, severity).mul(2).sub(1)
            image = enlarge(lq, self.full.preset)
        hr = hr.mul(2).sub(1)
        text = self.fitted(batch.reading, lq, batch.filled.tolist())
        restored = restored_by(self.full, model.parts(), lq, image, text)
        picture([image, restored, hr], path)
        return {"psnr": psnr(restored, hr), "psnr_bicubic": psnr(image, hr)}

    def save(self, model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
        """The whole model with the averaged parts; the metadata tells what it was trained without."""
        assert isinstance(model, Trained)
        if self.cfg.without:
            metadata = {**metadata, WITHOUT: ",".join(self.cfg.without)}
        save_model(self.full, path, metadata, parts=model.parts())


def text_tensors(arrays: TextArrays, preset: Preset, device: torch.device) -> tuple[Tensor, ...]:
    """Tokens, weights and places (B,24) as a model of ``preset`` is given them."""
    values = (*used_text(arrays.tokens, arrays.weights, preset), *(getattr(arrays, name) for name in PLACES))
    return tuple(torch.from_numpy(np.ascontiguousarray(value)).to(device) for value in values)


@torch.no_grad()
def painted_latent(full: Model, lq: Tensor, text: tuple[Tensor, ...], shown: TextArrays) -> Tensor | None:
    """z_painted (B,C,h,w) float32 of lq (B,3,h,w) with ``shown`` painted on it, of which ``text`` are the tensors
    (`text_tensors`); None where the preset has none. Only the encoder follows the caller's autocast."""
    if not full.preset.unet.painted_channels:
        return None
    tokens, _, *places = text
    paint = [torch.from_numpy(getattr(shown, name)).to(lq.device) for name in PAINT]
    with torch.autocast(lq.device.type, enabled=False):
        image = full.glyph_canvas.painted(enlarge(lq.float(), full.preset), tokens, *places, *paint)
    return full.vqgan.encode(image.contiguous(memory_format=torch.channels_last)).float()


def psnr(a: Tensor, b: Tensor) -> float:
    """Mean PSNR in dB of images (B,3,H,W), ``b`` in [-1,1]; ``a`` is clamped."""
    mse = (a.clamp(-1, 1) - b).square().mean(dim=(1, 2, 3)) / 4
    return float((-10 * mse.log10()).mean())


def restored_by(full: Model, parts: Mapping[str, nn.Module], lq: Tensor, image: Tensor, text: TextArrays) -> Tensor:
    """lq (B,3,h,w), enlarged as image (B,3,H,W), restored by ``full`` with ``parts`` in place of its own: (B,3,H,W)."""
    count, device = len(lq), lq.device
    keys = [bytes([place % 256]) for place in range(count)]
    arrays = LineBatch(lq=lq.cpu().numpy(), image=image.cpu().numpy(), **vars(text), keys=keys, windows=[0] * count)
    own = {name: full.get_submodule(name) for name in parts}
    try:
        for name, part in parts.items():
            full.set_submodule(name, part)
        output = restore(TorchExecutor(graphs(full), device), full.preset, arrays).image
    finally:
        for name, part in own.items():
            full.set_submodule(name, part)
    return torch.from_numpy(output).to(device).float()


def picture(rows: list[Tensor], path: Path) -> None:
    """Writes images (B,3,H,W) in [-1,1] one below the other, those of one line together, in two columns."""
    stacked = torch.stack(rows, 1).flatten(0, 1).clamp(-1, 1).add(1).mul(127.5).round().byte()
    lines = stacked.permute(0, 2, 3, 1).cpu().numpy()
    half = len(lines) // 2 // len(rows) * len(rows)
    parts = (lines[:half], lines[half : 2 * half]) if half else (lines,)
    columns = [np.concatenate(list(part)) for part in parts]
    Image.fromarray(np.concatenate(columns, axis=1)).save(path)
