"""The loop: which graphs it calls, in which order, with which constants and noise; and with torch on ``tiny``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from textsr.checkpoint import load_model
from textsr.config import TINY, Preset
from textsr.errors import EngineError, InputError
from textsr.graphs import Model, graphs
from textsr.loop import LineBatch, LoopOutput, restore
from textsr.noise import normal, uniform
from textsr.schedule import CategoricalSchedule, ResidualShiftSchedule, text_times
from textsr.torch_executor import TorchExecutor

SMALL = replace(TINY, height=16, width=32, symbols=50)
DIRECT = replace(  # as ``paper``: the network gives z_0 itself and does not see z_y
    SMALL,
    unet=replace(SMALL.unet, prior_channels=0, painted_channels=0),
    schedule=replace(SMALL.schedule, residual_std=None),
)
UNPAINTED = replace(SMALL, unet=replace(SMALL.unet, painted_channels=0))
PLAIN = replace(UNPAINTED, glyph=None, unet=replace(UNPAINTED.unet, context_dim=None))
SCHEDULE = ResidualShiftSchedule.from_config(SMALL.schedule)
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Box:
    """A handle that only its executor opens."""

    array: NDArray[Any]


@dataclass
class Recorder:
    """Graphs as plain NumPy functions, and what they were called with."""

    name: str = "numpy"
    calls: list[tuple[str, dict[str, NDArray[Any]]]] = field(default_factory=list)

    def put(self, array: NDArray[Any]) -> Box:
        return Box(np.array(array))

    def get(self, handle: Box) -> NDArray[Any]:
        return handle.array

    def run(self, graph: str, inputs: Mapping[str, Box]) -> dict[str, Box]:
        arrays = {name: box.array for name, box in inputs.items()}
        self.calls.append((graph, arrays))
        return {name: Box(value) for name, value in getattr(self, graph)(**arrays).items()}

    def of(self, graph: str) -> list[dict[str, NDArray[Any]]]:
        """The inputs of all calls of ``graph``."""
        return [arrays for name, arrays in self.calls if name == graph]

    @property
    def order(self) -> list[str]:
        return [name for name, _ in self.calls]

    def vqgan_encoder(self, image: NDArray[Any], noise: NDArray[Any], constants: NDArray[Any]) -> Arrays:
        z_y = np.broadcast_to(image[:, :1, ::4, ::4], noise.shape)
        return {"z_y": z_y, "z_T": z_y + constants * noise}

    def painted_encoder(self, image: NDArray[Any], contrasts: NDArray[Any], **_: Any) -> Arrays:
        shown = image[:, :1, ::4, ::4] + contrasts.mean()
        return {"z_painted": np.repeat(shown, SMALL.unet.latent_channels, 1)}

    def time_condition(self, t: NDArray[Any]) -> Arrays:
        return {"modulations": np.stack([t, -t], axis=1)}

    def text_condition(self, tokens: NDArray[Any], weights: NDArray[Any]) -> Arrays:
        return {"c_cond": (tokens * weights)[..., None]}

    def glyph_canvas(self, tokens: NDArray[Any], **places: NDArray[Any]) -> Arrays:
        return {"glyphs": np.full((len(tokens), 1, 16, 32), 0.5, np.float32)}

    def unet_step(
        self,
        z_t: NDArray[Any],
        t: NDArray[Any],
        constants: NDArray[Any],
        noise: NDArray[Any],
        modulations: NDArray[Any],
        **_: Any,
    ) -> Arrays:
        """The posterior of a network that answers with half of what it is shown, with or without an estimate."""
        scale, coef_zt, coef_z0, std = constants[:4]
        z0_hat = 0.5 * scale * z_t + modulations[int(t[0]), 0]
        return {"z_prev": coef_zt * z_t + coef_z0 * z0_hat + std * noise, "z0_hat": z0_hat}

    def text_time_condition(self, time: NDArray[Any]) -> Arrays:
        return {"mom_modulations": time[:, None], "tdm_modulations": -time[:, None]}

    def mom_image(self, tokens: NDArray[Any], z_t: NDArray[Any], **_: Any) -> Arrays:
        return {"i_cond": z_t.reshape(len(tokens), 16, -1)}

    def text_step(self, tokens: NDArray[Any], uniforms: NDArray[Any], **_: Any) -> Arrays:
        return {"tokens_prev": (tokens + 1) % SMALL.symbols, "log_probabilities": uniforms}

    def vqgan_decoder(self, z_0: NDArray[Any]) -> Arrays:
        return {"image": z_0[:, :3], "codes": np.zeros((len(z_0), 2, *z_0.shape[2:]), np.int64)}


def lines(preset: Preset = SMALL, batch: int = 2, seed: int = 0) -> LineBatch:
    rng = np.random.default_rng(seed)
    n, (_, h, w) = preset.max_chars, preset.latent_shape
    lq = rng.uniform(-1, 1, (batch, 3, h, w)).astype(np.float32)
    return LineBatch(
        lq=lq,
        image=lq.repeat(4, 2).repeat(4, 3),
        tokens=rng.integers(0, preset.symbols, (batch, n)),
        weights=rng.random((batch, n), dtype=np.float32),
        centres=np.tile(np.linspace(0, 1, n, dtype=np.float32), (batch, 1)),
        widths=np.full((batch, n), 0.03, np.float32),
        middles=np.full((batch, n), 0.5, np.float32),
        heights=np.full((batch, n), 0.86, np.float32),
        contrasts=np.full((batch, n, 3), 0.5, np.float32),
        softness=np.full((batch, 1), 10.0, np.float32),
        keys=[b"line %d" % place for place in range(batch)],
        windows=list(range(batch)),
    )


def take(batch: LineBatch, places: list[int]) -> LineBatch:
    arrays = {name: value[places] for name, value in vars(batch).items() if isinstance(value, np.ndarray)}
    return LineBatch(
        **arrays, keys=[batch.keys[place] for place in places], windows=[batch.windows[place] for place in places]
    )


counts = st.integers(1, 18)
presets = st.sampled_from([SMALL, UNPAINTED, DIRECT, PLAIN, replace(UNPAINTED, glyph=None)])


def conditions(preset: Preset) -> list[str]:
    text = ["text_condition"] if preset.unet.context_dim is not None else []
    return text + (["glyph_canvas"] if preset.glyph is not None else [])


def encoders(preset: Preset) -> list[str]:
    return ["vqgan_encoder", *(["painted_encoder"] if preset.unet.painted_channels else [])]


@settings(deadline=None)
@given(counts, presets)
def test_fixed_text_is_conditioned_once(steps: int, preset: Preset) -> None:
    executor = Recorder()
    restore(executor, preset, lines(), steps=steps)
    assert executor.order == [
        *encoders(preset),
        "time_condition",
        *conditions(preset),
        *["unet_step"] * steps,
        "vqgan_decoder",
    ]


@settings(deadline=None)
@given(counts, presets)
def test_sampled_text_is_conditioned_at_each_step(steps: int, preset: Preset) -> None:
    executor = Recorder()
    output = restore(executor, preset, lines(), steps=steps, text_sampler="categorical")
    step = [*conditions(preset), "unet_step", "mom_image", "text_step"]
    before = [*encoders(preset), "time_condition", "text_time_condition"]
    assert executor.order == [*before, *step * steps, "vqgan_decoder"]
    for place, (text, unet, mom) in enumerate(
        zip(executor.of("text_step"), executor.of("unet_step"), executor.of("mom_image"), strict=True)
    ):
        np.testing.assert_array_equal(text["tokens"], (lines().tokens + place) % SMALL.symbols)
        np.testing.assert_array_equal(mom["tokens"], text["tokens"])
        np.testing.assert_array_equal(mom["z_t"], unet["z_t"])  # both sides of a step see the same z_t
        np.testing.assert_array_equal(mom["weights"], lines().weights)  # a confidence stays with its place
        np.testing.assert_array_equal(text["i_cond"].ravel(), mom["z_t"].ravel())
    np.testing.assert_array_equal(output.tokens, (lines().tokens + steps) % SMALL.symbols)


@settings(deadline=None)
@given(counts, st.sampled_from([SMALL, DIRECT]))
def test_steps_go_by_their_own_t_and_constants(steps: int, preset: Preset) -> None:
    executor = Recorder()
    restore(executor, preset, lines(), steps=steps, text_sampler="categorical")
    kept = SCHEDULE.kept(steps)
    np.testing.assert_array_equal(
        executor.of("vqgan_encoder")[0]["constants"], np.array([SCHEDULE.prior_std], np.float32)
    )
    eta = np.append(SCHEDULE.etas[list(kept)], 0.0)
    for place, unet in enumerate(executor.of("unet_step")):
        now, later = eta[place], eta[place + 1]
        expected = [1 / np.sqrt(4 * now + 1), later / now, 1 - later / now, 2 * np.sqrt(later / now * (now - later))]
        if preset is SMALL:
            expected += list(SCHEDULE.estimates[kept[place]])
        np.testing.assert_allclose(unet["constants"], expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(unet["t"], np.array([kept[place]], np.float32))
        assert unet["constants"].dtype == unet["t"].dtype == unet["noise"].dtype == np.float32
    times = [*text_times(SCHEDULE, kept, 199), -1]
    for place, text in enumerate(executor.of("text_step")):
        mom, row = executor.of("mom_image")[place], int(text["t"][0])
        np.testing.assert_array_equal(mom["t"], text["t"])
        assert mom["mom_modulations"][row] == -text["tdm_modulations"][row] == times[place]
        constants = CategoricalSchedule(SMALL.symbols).step_constants(times[place], times[place + 1])
        np.testing.assert_array_equal(text["constants"], constants)


@settings(deadline=None)
@given(counts, presets)
def test_only_a_network_with_prior_channels_is_shown_z_y(steps: int, preset: Preset) -> None:
    executor = Recorder()
    restore(executor, preset, lines(), steps=steps)
    (first,) = executor.of("vqgan_encoder")
    z_y = executor.vqgan_encoder(**first)["z_y"]
    for unet in executor.of("unet_step"):
        assert ("z_y" in unet) == bool(preset.unet.prior_channels)
        assert unet["constants"].shape == ((4,) if preset is DIRECT else (6,))
        if "z_y" in unet:
            np.testing.assert_array_equal(unet["z_y"], z_y)


@settings(deadline=None)
@given(counts)
def test_the_last_step_returns_the_prediction(steps: int) -> None:
    executor = Recorder()
    output = restore(executor, SMALL, lines(), steps=steps)
    last = executor.of("unet_step")[-1]
    z0_hat = 0.5 * last["constants"][0] * last["z_t"] + last["t"]
    np.testing.assert_array_equal(executor.of("vqgan_decoder")[0]["z_0"], z0_hat)
    np.testing.assert_array_equal(output.image, z0_hat[:, :3])


@settings(deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 5), st.permutations([0, 1, 2]))
def test_noise_belongs_to_the_line_not_to_its_place(seed: int, steps: int, order: list[int]) -> None:
    batch, together, moved = lines(batch=3), Recorder(), Recorder()
    for executor, places in ((together, [0, 1, 2]), (moved, order)):
        restore(executor, SMALL, take(batch, places), seed=seed, steps=steps, text_sampler="categorical")
    for graph, name in (("vqgan_encoder", "noise"), ("unet_step", "noise"), ("text_step", "uniforms")):
        for one, other in zip(together.of(graph), moved.of(graph), strict=True):
            np.testing.assert_array_equal(one[name][order], other[name])
    alone = Recorder()
    restore(alone, SMALL, take(batch, [2]), seed=seed, steps=steps)
    draws = [executor_call["noise"] for executor_call in (*alone.of("vqgan_encoder"), *alone.of("unet_step"))]
    for draw, noise in enumerate(draws):
        np.testing.assert_array_equal(noise[0], normal(seed, b"line 2", 2, draw, SMALL.latent_shape))
        np.testing.assert_array_equal(
            noise[0], [*together.of("vqgan_encoder"), *together.of("unet_step")][draw]["noise"][2]
        )
    first = together.of("text_step")[0]["uniforms"]
    np.testing.assert_array_equal(first[1], uniform(seed, b"line 1", 1, 1, (SMALL.max_chars,)))
    assert len({noise.tobytes() for noise in draws}) == len(draws)


def test_a_line_is_told_from_another_by_seed_key_and_window() -> None:
    batch = lines(batch=1)
    seen = set()
    for seed, key, window in ((0, b"a", 0), (1, b"a", 0), (0, b"b", 0), (0, b"a", 1)):
        executor = Recorder()
        restore(executor, SMALL, replace(batch, keys=[key], windows=[window]), seed=seed, steps=1)
        seen.add(executor.of("vqgan_encoder")[0]["noise"].tobytes())
    assert len(seen) == 4


@pytest.mark.parametrize("sampler", ["fixed", "categorical"])
def test_an_observer_sees_every_graph(sampler: Any) -> None:
    executor, seen = Recorder(), []

    def observe(step: int, graph: str, inputs: Mapping[str, Box], outputs: Mapping[str, Box]) -> None:
        seen.append((step, graph))
        assert all(isinstance(box, Box) for box in (*inputs.values(), *outputs.values()))

    restore(executor, SMALL, lines(), steps=3, text_sampler=sampler, observer=observe)
    assert [graph for _, graph in seen] == executor.order
    assert seen[0] == (-1, "vqgan_encoder")
    assert seen[-1] == (-1, "vqgan_decoder")
    assert [step for step, graph in seen if graph == "unet_step"] == [0, 1, 2]
    assert [step for step, _ in seen[1:-1]] == sorted(step for step, _ in seen[1:-1])


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": 19}, {"text_sampler": "greedy"}])
def test_options_out_of_range_are_refused_before_any_graph(options: dict[str, Any]) -> None:
    executor = Recorder()
    with pytest.raises(InputError):
        restore(executor, SMALL, lines(), **options)
    assert executor.calls == []


def test_a_batch_is_not_changed() -> None:
    batch = lines()
    before = {name: value.copy() for name, value in vars(batch).items() if isinstance(value, np.ndarray)}
    restore(Recorder(), SMALL, batch, text_sampler="categorical")
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(batch, name), value)


@pytest.fixture(scope="module")
def executor() -> TorchExecutor:
    model = load_model(None, TINY)
    assert isinstance(model, Model)
    return TorchExecutor(graphs(model))


@pytest.mark.parametrize("sampler", ["fixed", "categorical"])
def test_same_seed_same_image_alone_and_in_a_batch(executor: TorchExecutor, sampler: Any) -> None:
    batch = lines(TINY, 3)
    latent: list[NDArray[Any]] = []

    def observe(step: int, graph: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        if graph == "vqgan_decoder":
            latent.append(executor.get(inputs["z_0"]))

    def run(places: list[int]) -> LoopOutput:
        return restore(executor, TINY, take(batch, places), seed=7, steps=4, text_sampler=sampler, observer=observe)

    together, again, alone = run([0, 1, 2]), run([0, 1, 2]), run([1])
    np.testing.assert_array_equal(together.image, again.image)
    assert together.image.shape == (3, 3, 128, 512)
    assert together.image.dtype == np.float32
    np.testing.assert_array_equal(alone.tokens[0], together.tokens[1])
    np.testing.assert_allclose(latent[2][0], latent[0][1], atol=1e-5)
    same = (alone.codes[0] == together.codes[1]).mean()
    assert same > 0.999  # a code on a boundary may flip
    if same == 1:
        np.testing.assert_allclose(alone.image[0], together.image[1], atol=1e-5)
    assert not np.allclose(together.image[0], together.image[1])
    if sampler == "categorical":
        assert ((together.tokens >= 0) & (together.tokens < TINY.symbols)).all()
        assert (together.tokens != batch.tokens).any()
    else:
        np.testing.assert_array_equal(together.tokens, batch.tokens)


def test_one_step_decodes_the_prediction(executor: TorchExecutor) -> None:
    batch = lines(TINY, 1)
    predictions: list[Tensor] = []

    def observe(step: int, graph: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        if graph == "unet_step":
            assert float(inputs["t"][0]) == 17
            predictions.append(outputs["z0_hat"])

    output = restore(executor, TINY, batch, steps=1, observer=observe)
    (prediction,) = predictions
    expected = executor.run("vqgan_decoder", {"z_0": prediction})
    np.testing.assert_array_equal(output.image, executor.get(expected["image"]))
    assert np.isfinite(output.image).all()
    assert np.abs(output.image).max() <= 1


def test_without_any_weight_the_text_does_not_matter(executor: TorchExecutor) -> None:
    batch = replace(lines(TINY, 1), weights=np.zeros((1, TINY.max_chars), np.float32))
    batch = replace(batch, contrasts=np.zeros_like(batch.contrasts))  # the weight is part of them
    other = replace(batch, tokens=(batch.tokens + 17) % TINY.symbols, centres=batch.centres[:, ::-1].copy())
    seen: list[NDArray[Any]] = []

    def observe(step: int, graph: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        if graph == "glyph_canvas":
            seen.append(executor.get(outputs["glyphs"]))

    first, second = (restore(executor, TINY, given, steps=2, observer=observe) for given in (batch, other))
    np.testing.assert_array_equal(first.image, second.image)
    assert all((canvas == 0).all() for canvas in seen)
    assert len(seen) == 2


def test_a_graph_that_is_not_there_is_named(executor: TorchExecutor) -> None:
    with pytest.raises(EngineError, match=r"'sharpen'.*unet_step"):
        executor.run("sharpen", {})
