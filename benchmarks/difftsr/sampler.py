"""DiffTSR's inference: 200 DDIM steps of the image diffusion and, if asked for, as many of the text diffusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from benchmarks.difftsr.model import DiffTSR
from benchmarks.difftsr.schedule import TIMES, DDIMStep, cumulative, ddim_steps
from textsr.errors import InputError
from textsr.loop import Draws
from textsr.networks.categorical import categorical_step
from textsr.schedule import CategoricalSchedule

LATENT_SCALE = 0.18215
"""The denoised latent is divided by this before it is decoded; the degraded line's is not multiplied by it."""
POSTERIOR, PRIOR, FIRST_STEP = 0, 1, 2
"""Numbers of the normal draws: of the autoencoder's posterior, of z_T, and of the first step."""


Mark = Callable[[str], None]
"""Called after "encode", after each "step" and after "decode": what measures time."""


@dataclass(frozen=True)
class Options:
    """How to sample; the defaults are the release's. Raises InputError for a value out of range.

    ``text_diffusion`` draws the text anew at each step (the release leaves it as read); ``seed`` is of all noise.
    """

    steps: int = 200
    eta: float = 0.2
    text_diffusion: bool = False
    seed: int = 0
    schedule: tuple[DDIMStep, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", tuple(ddim_steps(self.steps, self.eta)))


@dataclass(frozen=True)
class Restored:
    """image (B,3,H,W) float32 in [0,1], tokens (B,24) int64 as they ended, z_0 (B,C,h,w) not yet divided."""

    image: Tensor
    tokens: Tensor
    z_0: Tensor


@torch.inference_mode()
def restore(
    model: DiffTSR,
    image: NDArray[np.float32],
    tokens: NDArray[np.int64],
    keys: Sequence[bytes],
    options: Options | None = None,
    *,
    progress: bool = False,
    mark: Mark = lambda _: None,
) -> Restored:
    """Restores lines ``image`` (B,3,H,W) float32 RGB in [0,1] whose text is ``tokens`` (B,24).

    1. z_LR = mean + deviation * eps of the autoencoder's posterior, not scaled.
    2. z_T = sqrt(abar_999) z_LR + sqrt(1 - abar_999) eps.
    3. Each step: (I, C) = MoM(c, z_LR, z_t, t), eps = IDM([z_t, z_LR], t, C), then the DDIM update of `DDIMStep`; with
       the text diffusion c is drawn from its posterior given TDM(c, index, I), index counting the steps down to 0.
    4. The image is decoded from z_0 / 0.18215 and clamped.

    :param keys: the identity of each line's image (`textsr.noise.image_key`), which with the seed fixes its noise.
    :raises InputError: the arrays do not fit the model or each other.
    """
    options = options or Options()
    _check(model, image, tokens, keys)
    draws = _Noise(Draws(options.seed, keys, [0] * len(keys)), model)
    net, state = model.dtype, draws.dtype
    pixels = torch.from_numpy(image).to(model.device, net)
    z_lr = model.vae.encode(pixels, draws.normal(POSTERIOR).to(net)).to(state)
    mark("encode")
    abar = float(cumulative()[TIMES - 1])
    z_t = abar**0.5 * z_lr + (1 - abar) ** 0.5 * draws.normal(PRIOR)
    c = torch.from_numpy(tokens).to(model.device)
    bar = tqdm(options.schedule, desc="DDIM", unit="step", leave=False, disable=None if progress else True)
    for place, step in enumerate(bar):
        t = torch.tensor([float(step.t)], device=model.device)
        i_cond, c_cond = model.mom(c, z_lr.to(net), z_t.to(net), t)
        eps = model.idm(torch.cat([z_t, z_lr], dim=1).to(net), t, c_cond).to(state)
        z_t = ddim_update(z_t, eps, draws.normal(FIRST_STEP + place), step)
        if options.text_diffusion:
            c = _text_step(model, c, i_cond, step.index, draws.uniform(place))
        mark("step")
    decoded = model.vae.decode((z_t / LATENT_SCALE).to(net)).float().clamp(0, 1)
    mark("decode")
    return Restored(decoded.cpu(), c.cpu(), z_t.cpu())


def ddim_update(z_t: Tensor, eps: Tensor, noise: Tensor, step: DDIMStep) -> Tensor:
    """z_t (B,C,h,w) one step earlier, given the network's ``eps`` and a standard normal ``noise`` of its shape."""
    of_z, of_eps, of_noise = step.coefficients()
    return of_z * z_t + of_eps * eps + of_noise * noise


def _text_step(model: DiffTSR, c: Tensor, i_cond: Tensor, index: int, uniforms: Tensor) -> Tensor:
    """Tokens drawn at time ``index`` of the text diffusion, whose 1000 steps the release only uses the last of."""
    constants = CategoricalSchedule(model.preset.symbols).step_constants(index, index - 1, frozen_last=True)
    logits = model.tdm(c, torch.tensor([float(index)], device=c.device), i_cond.float())
    drawn, _ = categorical_step(c, logits, torch.from_numpy(constants).to(c.device), uniforms)
    return drawn


class _Noise:
    """Draws on the model's device; the state between the steps is at least float32 whatever the networks are in."""

    def __init__(self, draws: Draws, model: DiffTSR) -> None:
        self.draws, self.shape, self.device = draws, model.preset.latent_shape, model.device
        self.places = (model.preset.max_chars,)
        self.dtype = torch.promote_types(model.dtype, torch.float32)

    def normal(self, number: int) -> Tensor:
        """(B,C,h,w)."""
        return torch.from_numpy(self.draws.normal(number, self.shape)).to(self.device, self.dtype)

    def uniform(self, number: int) -> Tensor:
        """(B,24) in [0,1)."""
        return torch.from_numpy(self.draws.uniform(number, self.places)).to(self.device)


def _check(model: DiffTSR, image: NDArray[np.float32], tokens: NDArray[np.int64], keys: Sequence[bytes]) -> None:
    sizes, count = model.preset, len(keys)
    wanted = (count, 3, sizes.height, sizes.width)
    if not count or image.shape != wanted or image.dtype != np.float32:
        raise InputError(f"{count} keys go with images {wanted} of float32, not {image.shape} of {image.dtype}")
    if tokens.shape != (count, sizes.max_chars) or tokens.dtype != np.int64:
        raise InputError(f"tokens must be {(count, sizes.max_chars)} of int64, not {tokens.shape} of {tokens.dtype}")
    if tokens.min() < 0 or tokens.max() >= sizes.symbols:
        raise InputError(f"tokens must be from 0 to {sizes.symbols - 1}")
