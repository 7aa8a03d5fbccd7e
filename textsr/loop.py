"""The restoration loop (the paper's Algorithm 2), written once over an executor of named graphs. Torch-free.

Values between graphs are opaque handles: the loop does no arithmetic on them, so an executor may capture it whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from textsr.config import Preset
from textsr.errors import InputError
from textsr.noise import normal, uniform
from textsr.reading import PAINT, PLACES, used_text
from textsr.schedule import CategoricalSchedule, ResidualShiftSchedule, all_text_times, text_times

Handle = Any
"""A value as its executor keeps it; only the executor that made it can read it."""
TextSampler = Literal["fixed", "categorical"]
Observer = Callable[[int, str, Mapping[str, Handle], Mapping[str, Handle]], None]
"""Called after each graph with (place of the step in the loop, -1 outside it; graph; inputs; outputs)."""


@dataclass(frozen=True)
class LoopKey:
    """What decides which calls a pass of the loop makes, for one model: lines, steps, text sampler; and whether an
    observer sees every value, so that nothing may be captured."""

    batch: int
    steps: int
    text_sampler: str
    observed: bool = False


class Executor(Protocol):
    """What runs graphs: torch, ONNX Runtime, TensorRT.

    One that captures whole passes of the loop also has ``loop(key: LoopKey)``, a context manager that gives the
    executor for one pass; its name says whether the pass was captured (`textsr.replay`).
    """

    name: str

    def put(self, array: NDArray[Any]) -> Handle:
        """Takes a host array over to the device."""

    def run(self, graph: str, inputs: Mapping[str, Handle]) -> dict[str, Handle]:
        """Runs a graph on named inputs; raises EngineError where it cannot."""

    def get(self, handle: Handle) -> NDArray[Any]:
        """Brings a value back to the host."""


@dataclass(frozen=True)
class LineBatch:
    """Fitted lines and what was read on them.

    lq (B,3,h,w) and image (B,3,4h,4w), its bicubic enlargement, float32 RGB in [-1,1]; tokens (B,24) int64; weights,
    centres, widths, middles, heights (B,24), contrasts (B,24,3) and softness (B,1) float32
    (`textsr.reading.TextArrays`); keys and windows name each line's noise.
    """

    lq: NDArray[np.float32]
    image: NDArray[np.float32]
    tokens: NDArray[np.int64]
    weights: NDArray[np.float32]
    centres: NDArray[np.float32]
    widths: NDArray[np.float32]
    middles: NDArray[np.float32]
    heights: NDArray[np.float32]
    contrasts: NDArray[np.float32]
    softness: NDArray[np.float32]
    keys: Sequence[bytes]
    windows: Sequence[int]

    def __len__(self) -> int:
        """B."""
        return len(self.keys)


@dataclass(frozen=True)
class LoopOutput:
    """image (B,3,H,W) float32 in [-1,1]; tokens (B,24) as they ended; codes (B,groups,h,w) int64 of the codebook.

    ``executor`` is the name of what ran the graphs.
    """

    image: NDArray[np.float32]
    tokens: NDArray[np.int64]
    codes: NDArray[np.int64]
    executor: str = ""


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch: each line's depend on seed, image and window, never on its place in the batch."""

    seed: int
    keys: Sequence[bytes]
    windows: Sequence[int]

    def normal(self, draw: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Standard-normal (B, *shape)."""
        return np.stack([normal(self.seed, k, w, draw, shape) for k, w in zip(self.keys, self.windows, strict=True)])

    def uniform(self, draw: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Uniform (B, *shape) in [0, 1)."""
        return np.stack([uniform(self.seed, k, w, draw, shape) for k, w in zip(self.keys, self.windows, strict=True)])


@dataclass
class _Text:
    """The text side of the loop: handles of tokens and of what is made from them."""

    tokens: Handle
    weights: Handle
    places: dict[str, Handle]
    condition: dict[str, Handle]


class _Loop:
    def __init__(
        self, executor: Executor, preset: Preset, batch: LineBatch, seed: int, observer: Observer | None
    ) -> None:
        self.executor, self.preset, self.batch, self.observer = executor, preset, batch, observer
        self.draws = Draws(seed, batch.keys, batch.windows)
        self.schedule = ResidualShiftSchedule.from_config(preset.schedule)
        self.step = -1
        put = executor.put
        tokens, weights = used_text(batch.tokens, batch.weights, preset)
        places = {name: put(getattr(batch, name)) for name in PLACES}
        self.text = _Text(put(tokens), put(weights), places, {})

    def run(self, graph: str, inputs: Mapping[str, Handle]) -> dict[str, Handle]:
        outputs = self.executor.run(graph, inputs)
        if self.observer is not None:
            self.observer(self.step, graph, inputs, outputs)
        return outputs

    def encode(self) -> tuple[dict[str, Handle], Handle]:
        """The latents that say what the line shows, z_y and z_painted where there is one, and z_T."""
        put = self.executor.put
        constants = np.array([self.schedule.prior_std], np.float32)
        noise = self.draws.normal(0, self.preset.latent_shape)
        image = put(self.batch.image)
        outputs = self.run("vqgan_encoder", {"image": image, "noise": put(noise), "constants": put(constants)})
        shown = {"z_y": outputs["z_y"]}
        if self.preset.unet.painted_channels:
            paint = {name: put(getattr(self.batch, name)) for name in PAINT}
            inputs = {"image": image, "tokens": self.text.tokens, **self.text.places, **paint}
            shown |= self.run("painted_encoder", inputs)
        return shown, outputs["z_T"]

    def time_condition(self) -> dict[str, Handle]:
        """What all trained steps do to the UNet, once for the pass."""
        return self.run("time_condition", {"t": self.executor.put(np.arange(len(self.schedule), dtype=np.float32))})

    def condition(self) -> None:
        text = self.text
        if self.preset.unet.context_dim is not None:
            text.condition |= self.run("text_condition", {"tokens": text.tokens, "weights": text.weights})
        if self.preset.glyph is not None:
            inputs = {"tokens": text.tokens, "weights": text.weights, **text.places}
            text.condition |= self.run("glyph_canvas", inputs)

    def text_time_condition(self) -> dict[str, Handle]:
        """What the times of all trained steps do to MoM and TDM, once for the pass."""
        times = self.executor.put(all_text_times(self.preset.schedule))
        return self.run("text_time_condition", {"time": times})

    def sample_text(
        self, z_y: Handle, z_t: Handle, t: Handle, times: tuple[int, int], modulations: Mapping[str, Handle]
    ) -> None:
        """Text of the next of two ``times``, from that of the first, which is the trained step t's."""
        text, put = self.text, self.executor.put
        inputs = {"tokens": text.tokens, "weights": text.weights, "z_y": z_y, "z_t": z_t, "t": t}
        inputs["mom_modulations"] = modulations["mom_modulations"]
        i_cond = self.run("mom_image", inputs)["i_cond"]
        constants = put(CategoricalSchedule(self.preset.symbols).step_constants(*times))
        uniforms = put(self.draws.uniform(self.step + 1, (self.preset.max_chars,)))
        inputs = {"tokens": text.tokens, "i_cond": i_cond, "t": t, "constants": constants, "uniforms": uniforms}
        inputs["tdm_modulations"] = modulations["tdm_modulations"]
        text.tokens = self.run("text_step", inputs)["tokens_prev"]


def restore(
    executor: Executor,
    preset: Preset,
    batch: LineBatch,
    *,
    seed: int = 0,
    steps: int | None = None,
    text_sampler: TextSampler = "fixed",
    observer: Observer | None = None,
    check: Callable[[], None] | None = None,
) -> LoopOutput:
    """Restores a batch of fitted lines in ``steps`` of the preset's T steps (all by default).

    "fixed" keeps the text as read and computes its condition once; "categorical" draws it anew at each step with the
    text diffusion, each confidence staying with its place, while what is painted onto the line stays what was read.
    ``check`` is called before each step and before decoding and may raise to stop there; a captured pass runs whole at
    its end, so there it stops nothing under way.
    Raises InputError for an option out of range.
    """
    if text_sampler not in ("fixed", "categorical"):
        raise InputError(f"text sampler {text_sampler!r}: choose fixed or categorical")
    if text_sampler == "categorical" and not preset.text:
        raise InputError("this model was trained without text: it has none to sample, use fixed")
    schedule = ResidualShiftSchedule.from_config(preset.schedule)
    kept = schedule.kept(len(schedule) if steps is None else steps)
    with _one_pass(executor, LoopKey(len(batch), len(kept), text_sampler, observer is not None)) as runner:
        return _pass(_Loop(runner, preset, batch, seed, observer), kept, text_sampler, check or _go_on)


def _one_pass(executor: Executor, key: LoopKey) -> AbstractContextManager[Executor]:
    """The executor for one pass: its own where it captures passes, else itself."""
    loop = getattr(executor, "loop", None)
    return nullcontext(executor) if loop is None else loop(key)


def _go_on() -> None:
    """The check of a pass that nothing stops."""


def _pass(loop: _Loop, kept: tuple[int, ...], text_sampler: TextSampler, check: Callable[[], None]) -> LoopOutput:
    executor, preset, batch = loop.executor, loop.preset, loop.batch
    times = (*text_times(loop.schedule, kept, preset.schedule.text_start), -1)
    put = executor.put
    lq = put(batch.lq)
    shown, z_t = loop.encode()
    always = {"lq": lq, **(shown if preset.unet.prior_channels else {}), **loop.time_condition()}
    text_modulations = loop.text_time_condition() if text_sampler == "categorical" else {}
    for place, step in enumerate(loop.schedule.steps(len(kept))):
        check()
        loop.step = place
        if place == 0 or text_sampler == "categorical":
            loop.condition()
        noise = put(loop.draws.normal(place + 1, preset.latent_shape))
        t = put(np.array([step.t], np.float32))
        inputs = {"z_t": z_t, **always, **loop.text.condition, "t": t}
        outputs = loop.run("unet_step", {**inputs, "constants": put(step.constants()), "noise": noise})
        if text_sampler == "categorical":
            loop.sample_text(shown["z_y"], z_t, t, (times[place], times[place + 1]), text_modulations)
        z_t = outputs["z_prev"]
    check()
    loop.step = -1
    decoded = loop.run("vqgan_decoder", {"z_0": z_t})
    image, tokens, codes = (executor.get(value) for value in (decoded["image"], loop.text.tokens, decoded["codes"]))
    return LoopOutput(image, tokens, codes, executor.name)
