"""Two executors on the same picture, noise and uniforms: each graph on the same inputs, whole loops side by side.

The reference runs its loops once and every call is kept as host arrays (`record`). Candidates are then compared with
what was kept (`Comparison`), so that both need not be held at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.report import Flips, FreeRun, Measured, count_flips, psnr, relative_error
from textsr.config import Preset, TransOCRConfig
from textsr.errors import EngineError
from textsr.fit import to_uint8
from textsr.loop import Executor, LineBatch, LoopOutput, TextSampler, restore
from textsr.recognition import TransOCRReader

Arrays = Mapping[str, NDArray[Any]]
DECODER, TEXT_STEP = "vqgan_decoder", "text_step"
RECOGNIZER = "recognizer"
"""Where the calls of the preset's own recogniser are listed, outside the loop."""


@dataclass(frozen=True)
class Call:
    """A run of a graph, on host arrays. ``where``: the text sampler, or `RECOGNIZER`; ``step``: -1 outside the loop."""

    where: str
    step: int
    graph: str
    inputs: Arrays
    outputs: Arrays


@dataclass(frozen=True)
class Codebook:
    """Code vectors: ``weight`` (groups * codes, channels of a group) float32, as `textsr.networks.vqgan` has them."""

    weight: NDArray[np.float32]
    groups: int

    def vectors(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """The quantised latent (B,C,h,w) of codes (B,groups,h,w); every executor finds the same codes in it again."""
        books = self.weight.reshape(self.groups, -1, self.weight.shape[1])
        parts = [book[codes[:, group]].transpose(0, 3, 1, 2) for group, book in enumerate(books)]
        return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)


@dataclass(frozen=True)
class Pass:
    """The reference's loop with one text sampler. ``calls`` are in order; ``decoded``: its decoder on code vectors."""

    sampler: TextSampler
    steps: int | None
    calls: tuple[Call, ...]
    decoded: Call
    output: LoopOutput

    def fed(self) -> list[Call]:
        """The calls that candidates are fed: the decoder gets the reference's code vectors."""
        return [self.decoded if call.graph == DECODER else call for call in self.calls]


def run(executor: Executor, graph: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """A graph from host arrays to host arrays."""
    outputs = executor.run(graph, {name: executor.put(value) for name, value in inputs.items()})
    return {name: executor.get(value) for name, value in outputs.items()}


def record(
    executor: Executor,
    preset: Preset,
    lines: LineBatch,
    codebook: Codebook,
    sampler: TextSampler,
    steps: int | None,
    bar: tqdm[Any],
) -> Pass:
    """A loop of the reference, and each of its calls."""
    calls: list[Call] = []

    def keep(step: int, graph: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        taken, given = ({name: executor.get(value) for name, value in side.items()} for side in (inputs, outputs))
        calls.append(Call(sampler, step, graph, taken, given))
        bar.update()

    output = restore(executor, preset, lines, steps=steps, text_sampler=sampler, observer=keep)
    vectors = {"z_0": codebook.vectors(output.codes)}
    decoded = Call(sampler, -1, DECODER, vectors, run(executor, DECODER, vectors))
    return Pass(sampler, steps, tuple(calls), decoded, output)


class _Listener:
    """An executor that keeps the recogniser's calls."""

    def __init__(self, executor: Executor) -> None:
        self.name, self.put, self.get = executor.name, executor.put, executor.get
        self._executor = executor
        self.calls: list[Call] = []

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        outputs = self._executor.run(graph, inputs)
        taken, given = ({name: self.get(value) for name, value in side.items()} for side in (inputs, outputs))
        self.calls.append(Call(RECOGNIZER, -1, graph, taken, given))
        return outputs


def record_reading(
    executor: Executor, config: TransOCRConfig, symbols: Sequence[str], output: LoopOutput
) -> list[Call]:
    """The calls of the preset's own recogniser, reading what a loop of the reference gave."""
    listener = _Listener(executor)
    images = np.ascontiguousarray(np.nan_to_num(output.image).transpose(0, 2, 3, 1))
    TransOCRReader(listener, config, symbols).read([to_uint8(image) for image in images])
    return listener.calls


@dataclass(frozen=True)
class Worst:
    """The call of an output with the largest error so far: the reference's array and the candidate's."""

    measured: Measured
    expected: NDArray[Any]
    found: NDArray[Any]


@dataclass
class Comparison:
    """What candidates gave beside the reference: errors are returned, all else is kept here.

    ``flips``: of the discrete outputs on the same inputs, by "graph.output". ``forced``: PSNR in dB of the images
    decoded from the reference's code vectors, by sampler. ``worst``: by "graph.output", on the same inputs.
    """

    bar: tqdm[Any]
    flips: dict[str, Flips] = field(default_factory=dict)
    forced: dict[str, float] = field(default_factory=dict)
    worst: dict[str, Worst] = field(default_factory=dict)

    def again(self, candidate: Executor, calls: Sequence[Call], graph: str) -> list[tuple[int, list[Measured]]]:
        """Those of the calls that are of ``graph``, on the reference's inputs; errors with each call's place."""
        return [(n, self._fed(candidate, call)) for n, call in enumerate(calls) if call.graph == graph]

    def _fed(self, candidate: Executor, call: Call) -> list[Measured]:
        found = run(candidate, call.graph, call.inputs)
        if call.graph == DECODER and call.where not in self.forced:
            self.forced[call.where] = psnr(call.outputs["image"], found["image"])
        return self.compare(call, found)

    def compare(self, call: Call, found: Arrays) -> list[Measured]:
        """Errors of the outputs of a call; flips of discrete ones are added up."""
        self.bar.update()
        for name in discrete(call.outputs):
            key = f"{call.graph}.{name}"
            self.flips[key] = self.flips.get(key, Flips(0, 0)) + count_flips(call.outputs[name], found[name])
        entries = errors(call, found)
        for entry in entries:
            key = f"{entry.graph}.{entry.output}"
            if key not in self.worst or entry.error > self.worst[key].measured.error:
                self.worst[key] = Worst(entry, call.outputs[entry.output], found[entry.output])
        return entries

    def beside(
        self, candidate: Executor, preset: Preset, lines: LineBatch, reference: Pass, *, force_tokens: bool
    ) -> Beside:
        """The candidate's own loop, on its own latents, beside the reference's."""
        runner = _Runner(candidate, reference, force_tokens, self.bar)
        sampler = reference.sampler
        output = restore(runner, preset, lines, steps=reference.steps, text_sampler=sampler)
        told = FreeRun(
            z_0=relative_error(reference.calls[-1].inputs["z_0"], runner.z_0),
            codes=count_flips(reference.output.codes, output.codes),
            tokens=runner.drawn if runner.drawn.total else count_flips(reference.output.tokens, output.tokens),
            psnr=psnr(reference.output.image, output.image),
            psnr_forced=self.forced[sampler],
        )
        return Beside(told, tuple(runner.errors), output)


@dataclass(frozen=True)
class Beside:
    """A candidate's loop beside the reference's; ``errors`` are those of every call, on the loop's own latents."""

    told: FreeRun
    errors: tuple[Measured, ...]
    output: LoopOutput


class _Runner:
    """The candidate, each of its runs compared with the reference's; the tokens that it draws may be replaced.

    It captures nothing (`textsr.loop.Executor`), since it looks at every value.
    """

    def __init__(self, executor: Executor, reference: Pass, force_tokens: bool, bar: tqdm[Any]) -> None:
        self.name, self.put, self.get = executor.name, executor.put, executor.get
        self._executor, self._force, self._bar = executor, force_tokens, bar
        self._calls = iter(reference.calls)
        self.errors: list[Measured] = []
        self.drawn = Flips(0, 0)  # tokens that were replaced
        self.z_0: NDArray[np.float32] = np.zeros(0, np.float32)

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        call = next(self._calls, None)
        if call is None or call.graph != graph:
            raise EngineError(f"{self.name}: runs graph {graph} where the reference runs {call.graph if call else '-'}")
        outputs = self._executor.run(graph, inputs)
        found = {name: self.get(value) for name, value in outputs.items()}
        self.errors += errors(call, found)
        self._bar.update()
        if graph == DECODER:
            self.z_0 = self.get(inputs["z_0"])
        if graph == TEXT_STEP and self._force:
            return outputs | {"tokens_prev": self._forced(call.outputs["tokens_prev"], found["tokens_prev"])}
        return outputs

    def _forced(self, expected: NDArray[np.int64], found: NDArray[np.int64]) -> Any:
        self.drawn += count_flips(expected, found)
        return self.put(expected)


def errors(call: Call, found: Arrays) -> list[Measured]:
    """Errors of the floating-point outputs of a call."""
    floats = [name for name in call.outputs if name not in discrete(call.outputs)]
    where = (call.where, call.step, call.graph)
    return [Measured.between(*where, name, call.outputs[name], found[name]) for name in floats]


def discrete(outputs: Arrays) -> list[str]:
    """Names of the outputs that are drawn or chosen, so that the smallest error may change one for another."""
    return [name for name, value in outputs.items() if np.issubdtype(value.dtype, np.integer)]


def in_order(placed: Sequence[tuple[int, list[Measured]]]) -> tuple[Measured, ...]:
    """Errors of calls that were compared graph by graph, in the order of the loop."""
    return tuple(entry for _, entries in sorted(placed, key=itemgetter(0)) for entry in entries)
