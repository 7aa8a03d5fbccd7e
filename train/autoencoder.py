"""Stage ``autoencoder``: the VQGAN on crops of lines, L1 + gradient + perceptual loss, quantised after a warm start."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from textsr.checkpoint import save_model
from textsr.networks.vqgan import VQGAN
from train.harness import TrainConfig, place
from train.losses import PerceptualLoss
from train.pool import LinePool

if TYPE_CHECKING:
    from textsr.graphs import Model

CONTINUOUS = 0.12  # share of a fresh run before the quantiser comes in
PERCEPTUAL_SHARE = 4  # one crop in so many carries the perceptual loss, which costs as much as all the rest
COMMITMENT = 0.25  # van den Oord et al. 2017, beta


def gradient_loss(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical differences: thin strokes weigh what flat areas do not."""
    horizontal = (a.diff(dim=3) - b.diff(dim=3)).abs().mean()
    return horizontal + (a.diff(dim=2) - b.diff(dim=2)).abs().mean()


@torch.no_grad()
def fit_codebook(vqgan: VQGAN, z: Tensor, rounds: int = 8) -> None:
    """k-means of latents z (B,C,h,w), each group of channels on its own, into the codebook.

    Distances are taken in float32 whatever the autocast state: in bfloat16 they go to the wrong code too often.
    """
    with torch.autocast(z.device.type, enabled=False):
        _k_means(vqgan, z, rounds)


def _k_means(vqgan: VQGAN, z: Tensor, rounds: int) -> None:
    groups = z.float().unflatten(1, (vqgan.quantize.groups, -1)).permute(1, 0, 3, 4, 2).flatten(1, 3)  # (g,n,c)
    books = []
    for points, book in zip(groups, vqgan.quantize.codebooks(), strict=True):
        codes = book.shape[0]
        order = torch.cat([torch.randperm(len(points)) for _ in range(-(-codes // len(points)))])
        centres = points[order[:codes]].clone()
        for _ in range(rounds):
            nearest = F.linear(points, -2 * centres, centres.square().sum(-1)).argmin(-1)
            count = torch.bincount(nearest, minlength=codes).clamp(min=1)[:, None]
            sums = torch.zeros_like(centres).index_add_(0, nearest, points)
            empty = torch.bincount(nearest, minlength=codes) == 0
            centres = sums / count
            centres[empty] = points[torch.randint(len(points), (int(empty.sum()),))]
        books.append(centres)
    vqgan.quantize.embedding.weight.copy_(torch.cat(books))


@torch.no_grad()
def normalise_latents(vqgan: VQGAN, z: Tensor) -> None:
    """Shifts and scales the latent to mean 0 a channel and deviation 1 a group, measured on z (B,C,h,w).

    The image of any latent stays the same: the change is taken out again in ``post_quant_conv``, and codes moved by one
    shift and scale in a group stay nearest. The residual shift's kappa = 2 is meant for latents of this size.
    """
    groups = vqgan.quantize.groups
    mean = z.float().mean((0, 2, 3))  # (C,)
    deviation = (z.float() - mean[:, None, None]).unflatten(1, (groups, -1)).pow(2).mean((0, 2, 3, 4)).sqrt()  # (g,)
    scale = deviation.repeat_interleave(len(mean) // groups)
    books = vqgan.quantize.codebooks()
    moved = (books - mean.view(groups, 1, -1)) / scale.view(groups, 1, -1)
    vqgan.quantize.embedding.weight.copy_(moved.flatten(0, 1))
    before, after = vqgan.quant_conv, vqgan.post_quant_conv
    assert before.bias is not None
    assert after.bias is not None
    before.weight.div_(scale[:, None, None, None])
    before.bias.copy_((before.bias - mean) / scale)
    after.bias.add_(after.weight[:, :, 0, 0] @ mean)
    after.weight.mul_(scale[None, :, None, None])


def _was_quantised(folder: Path) -> bool:
    """Whether the run in ``folder`` had come as far as its quantiser."""
    curves = folder / "curves.jsonl"
    return curves.is_file() and '"codes_used"' in curves.read_text(encoding="utf-8")


class AutoencoderStage:
    """Trains ``model.vqgan``; the other parts are saved as they are."""

    crop = 64  # pixels; the compact autoencoder has no normalisation, so a crop trains what a line uses

    def __init__(self, full: Model, cfg: TrainConfig, device: torch.device) -> None:
        self.full, self.cfg, self.device = full, cfg, device
        self.model: VQGAN = place(full.vqgan, device)
        self.perceptual = PerceptualLoss().to(device)
        self.pool, self.val = LinePool(cfg.pool), LinePool(cfg.val_pool)
        self.quantised = cfg.checkpoint is not None or (cfg.resume is not None and _was_quantised(cfg.resume))
        self.used = torch.zeros(self.model.quantize.embedding.num_embeddings, device=device)

    def batches(self, step: int) -> Iterator[Tensor]:
        """(B,3,64,64) uint8 crops of lines, some flipped or with channels exchanged."""
        rng = np.random.default_rng(self.cfg.seed + step)
        while True:
            crops = [self._crop(rng) for _ in range(self.cfg.batch_size)]
            yield torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        line = self.pool[int(rng.integers(len(self.pool)))]
        right = max(1, round(line.width) - self.crop + 1)
        left = int(rng.integers(right))
        top = int(rng.integers(line.image.shape[0] - self.crop + 1))
        crop = line.image[top : top + self.crop, left : left + self.crop]
        if rng.random() < 0.3:
            crop = crop[:, ::-1]
        if rng.random() < 0.3:
            crop = crop[..., rng.permutation(3)]
        return np.ascontiguousarray(crop)

    def loss(self, batch: Tensor, progress: float) -> tuple[Tensor, dict[str, float]]:
        """L1 + gradients + perceptual, and the quantiser's two terms once it is in."""
        image = batch.to(self.device).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
        z = self.model.encode(image)
        figures: dict[str, float] = {"z_std": z.float().std().item()}
        quantiser = z.new_zeros(()).float()
        if not self.quantised and progress >= CONTINUOUS:
            fit_codebook(self.model, z.detach())
            self.quantised = True
        if self.quantised:
            q, codes = self.model.quantize(z)
            quantiser = F.mse_loss(q, z.detach().float()) + COMMITMENT * F.mse_loss(z.float(), q.detach())
            self._revive(z.detach(), codes)
            restored = self.model.decode_codes(z + (q - z).detach()).float()
            figures |= {"quantiser": quantiser.item(), "codes_used": (self.used > 0).float().mean().item()}
        else:
            quantiser = 1e-3 * z.float().square().mean()
            restored = self.model.decode_codes(z).float()
        l1 = (restored - image).abs().mean()
        edges = gradient_loss(restored, image)
        few = -(-len(image) // PERCEPTUAL_SHARE)
        perceptual = self.perceptual(restored[:few], image[:few]).mean()
        figures |= {"l1": l1.item(), "edges": edges.item(), "perceptual": perceptual.item()}
        return l1 + edges + 0.5 * perceptual + quantiser, figures

    @torch.no_grad()
    def _revive(self, z: Tensor, codes: Tensor) -> None:
        """Codes not met for long are placed anew on latents of the batch."""
        offsets = torch.arange(codes.shape[1], device=codes.device)[:, None, None] * (len(self.used) // codes.shape[1])
        self.used.mul_(0.98)
        self.used[(codes + offsets).flatten().unique()] = 1.0
        dead = (self.used < 0.02).nonzero().flatten()
        if len(dead) == 0:
            return
        groups = z.float().unflatten(1, (codes.shape[1], -1)).permute(1, 0, 3, 4, 2).flatten(1, 3)
        for index in dead[torch.randperm(len(dead))[:16]]:
            points = groups[int(index) // (len(self.used) // codes.shape[1])]
            self.model.quantize.embedding.weight[index] = points[int(torch.randint(len(points), ()))]
            self.used[index] = 1.0

    def samples(self, model: nn.Module, path: Path) -> dict[str, float]:
        """PSNR of reconstructed validation lines; picture: original above reconstruction."""
        images = self._validation_images(24)
        assert isinstance(model, VQGAN)
        parts = [
            model.decode(model.encode(part)) if self.quantised else model.decode_codes(model.encode(part))
            for part in images.split(4)
        ]
        restored = torch.cat(parts).float().clamp(-1, 1)
        mse = (restored - images).square().mean(dim=(1, 2, 3)) / 4
        rows = torch.stack([images[:8], restored[:8]], 1).flatten(0, 1)
        picture = rows.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).flatten(0, 1).cpu().numpy()
        Image.fromarray(picture).save(path)
        return {"psnr": (-10 * mse.log10()).mean().item()}

    def save(self, model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
        """The whole model with the averaged autoencoder, its latents normalised."""
        assert isinstance(model, VQGAN)
        final = copy.deepcopy(model)
        with torch.autocast(self.device.type, enabled=False):
            normalise_latents(final, final.encode(self._validation_images(24)))
        save_model(self.full, path, metadata, parts={"vqgan": final})

    def _validation_images(self, count: int) -> Tensor:
        """(at most count,3,128,512) in [-1,1]."""
        lines = [self.val[i].image for i in range(min(count, len(self.val)))]
        images = torch.from_numpy(np.stack(lines)).permute(0, 3, 1, 2)
        return images.to(self.device).float().div(127.5).sub(1)
