"""DiffTSR with the engineering that ours has: half precision, and encoder, step and decoder as captured CUDA graphs.

What differs from the release is how it is run, not what is computed; so a table can tell model and engineering apart.
Everything a step needs is laid on the device beforehand, and a step's graph is launched as often as there are steps.
On a CPU the same steps run uncaptured, which the tests compare with `benchmarks.difftsr.sampler`, as they
do a GPU's capture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.difftsr.model import DiffTSR
from benchmarks.difftsr.sampler import FIRST_STEP, LATENT_SCALE, POSTERIOR, PRIOR, Options, Restored
from benchmarks.difftsr.schedule import TIMES, cumulative
from benchmarks.difftsr.timing import Round
from benchmarks.speed.clock import Clock
from textsr.loop import Draws
from textsr.networks.categorical import categorical_step
from textsr.schedule import CategoricalSchedule

WARM_UPS = 3
"""Runs before a capture: libraries choose kernels and allocate in them, which a capture must not see."""


class CapturedDiffTSR:
    """DiffTSR for batches of one size, its launches captured where the model is on CUDA."""

    def __init__(self, model: DiffTSR, options: Options, batch: int = 1) -> None:
        """Lays out every buffer and captures. Raises torch's errors where the device runs out of memory."""
        self.model, self.options, device = model, options, model.device
        preset, steps = model.preset, len(options.schedule)
        latent, picture = (batch, *preset.latent_shape), (batch, 3, preset.height, preset.width)
        abar = float(cumulative()[TIMES - 1])
        self._prior = abar**0.5, (1 - abar) ** 0.5
        text, places = CategoricalSchedule(preset.symbols), preset.max_chars
        constants = [text.step_constants(s.index, s.index - 1, frozen_last=True) for s in options.schedule]
        self._table = {
            "t": torch.tensor([[float(step.t)] for step in options.schedule], device=device),
            "mixed": torch.tensor([step.coefficients() for step in options.schedule], device=device),
            "noise": torch.zeros((steps, *latent), device=device),
            "index": torch.tensor([[float(step.index)] for step in options.schedule], device=device),
            "constants": torch.from_numpy(np.stack(constants)).to(device),
            "uniforms": torch.zeros((steps, batch, places), device=device),
        }
        self._now = {name: table[0].clone() for name, table in self._table.items()}
        self._image = torch.zeros(picture, device=device, dtype=model.dtype)
        self._posterior, self._noise = torch.zeros(latent, device=device), torch.zeros(latent, device=device)
        self._z_lr, self._z_t = torch.zeros(latent, device=device), torch.zeros(latent, device=device)
        self._tokens = torch.zeros((batch, places), dtype=torch.int64, device=device)
        self._decoded = torch.zeros(picture, device=device)
        self._launch = {name: self._captured(body) for name, body in self._bodies().items()}

    def _bodies(self) -> dict[str, Callable[[], None]]:
        return {"encode": self._encode, "step": self._step, "decode": self._decode}

    def _encode(self) -> None:
        kept, of_noise = self._prior
        self._z_lr.copy_(self.model.vae.encode(self._image, self._posterior.to(self.model.dtype)))
        self._z_t.copy_(kept * self._z_lr + of_noise * self._noise)

    def _step(self) -> None:
        now, net, model = self._now, self.model.dtype, self.model
        z_lr, z_t = self._z_lr.to(net), self._z_t.to(net)
        i_cond, c_cond = model.mom(self._tokens, z_lr, z_t, now["t"])
        eps = model.idm(torch.cat([z_t, z_lr], dim=1), now["t"], c_cond).float()
        mixed = now["mixed"]
        self._z_t.copy_(mixed[0] * self._z_t + mixed[1] * eps + mixed[2] * now["noise"])
        if self.options.text_diffusion:
            logits = model.tdm(self._tokens, now["index"], i_cond.float())
            self._tokens.copy_(categorical_step(self._tokens, logits, now["constants"], now["uniforms"])[0])

    def _decode(self) -> None:
        decoded = self.model.vae.decode((self._z_t / LATENT_SCALE).to(self.model.dtype))
        self._decoded.copy_(decoded.float().clamp(0, 1))

    def _captured(self, body: Callable[[], None]) -> Callable[[], None]:
        """What launches ``body``: its CUDA graph, or on a CPU itself.

        The body alone is in inference mode. A capture begun in it makes the generator's seed, which torch keeps for all
        graphs, an inference tensor: every later capture outside of it would fail (pytorch issue 166792).
        """
        body = torch.inference_mode()(body)
        if self.model.device.type != "cuda":
            return body
        stream = torch.cuda.Stream(self.model.device)
        stream.wait_stream(torch.cuda.current_stream(self.model.device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                body()
        torch.cuda.current_stream(self.model.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            body()
        return graph.replay

    @torch.inference_mode()
    def lay(self, image: NDArray[np.float32], tokens: NDArray[np.int64], keys: Sequence[bytes]) -> None:
        """Lines (B,3,H,W) in [0,1], their tokens (B,24), and all their noise, to the device."""
        draws, preset = Draws(self.options.seed, keys, [0] * len(keys)), self.model.preset
        shape, steps = preset.latent_shape, range(len(self.options.schedule))
        self._image.copy_(torch.from_numpy(image))
        self._tokens.copy_(torch.from_numpy(tokens))
        self._posterior.copy_(torch.from_numpy(draws.normal(POSTERIOR, shape)))
        self._noise.copy_(torch.from_numpy(draws.normal(PRIOR, shape)))
        noise = np.stack([draws.normal(FIRST_STEP + step, shape) for step in steps])
        self._table["noise"].copy_(torch.from_numpy(noise))
        if self.options.text_diffusion:
            uniforms = np.stack([draws.uniform(step, (preset.max_chars,)) for step in steps])
            self._table["uniforms"].copy_(torch.from_numpy(uniforms))

    @torch.inference_mode()
    def run(self, clock: Clock = time.perf_counter) -> Round:
        """Restores the lines that `lay` brought; the steps follow each other unwaited for, so each has their mean."""
        times = [clock()]
        for part in ("encode", "step", "decode"):
            for place in range(len(self.options.schedule)) if part == "step" else (None,):
                if place is not None:
                    for name, table in self._table.items():
                        self._now[name].copy_(table[place])
                self._launch[part]()
            if self.model.device.type == "cuda":
                torch.cuda.synchronize(self.model.device)
            times.append(clock())
        encode, steps, decode = np.diff(times)
        count = len(self.options.schedule)
        return Round(float(encode), np.full(count, steps / count), float(decode))

    def restored(self) -> Restored:
        """What the last `run` made."""
        return Restored(self._decoded.cpu(), self._tokens.cpu(), self._z_t.cpu())
