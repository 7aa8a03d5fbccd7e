"""Two executors beside each other: what is wrong is named first, flips do no harm, and reports say what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from export.report import BOUNDS, IDENTICAL, FreeRun, Measured
from export.trajectory import Codebook
from export.trajectory_compare import bounds_of, compare
from export.trajectory_lines import NOT_INSTALLED, Lines, ReadLine, drawn_lines
from export.trajectory_report import TrajectoryReport
from export.trajectory_sides import Side, Spec, open_side
from tests.parity.helpers import Changed
from textsr.config import TINY
from textsr.errors import BundleError, EngineError, InputError
from textsr.reading import LineReading, spread
from textsr.torch_executor import TorchExecutor

STEPS = 3
NOTHING = 1e-5
"""Relative error of what torch computes from values that lie in memory in another order."""
LAST_STEPS = 8.0
"""The loop's three steps are 17, 8 or 9, and 0: what a wrong executor takes for the second half."""


@pytest.fixture(scope="module")
def side(tiny_bundle: Path) -> Side:
    return open_side(Spec.parse(f"{tiny_bundle}@torch"))


@pytest.fixture(scope="module")
def lines(side: Side) -> Lines:
    return drawn_lines(side.preset, side.alphabet, 1)


@pytest.fixture(scope="module")
def same(side: Side, lines: Lines) -> TrajectoryReport:
    """A side against itself."""
    return compare(side, side, lines, steps=STEPS)


class Counting:
    """Reads the next number on every picture."""

    name = "counting"

    def __init__(self) -> None:
        self.count = 0

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        self.count += 1
        text = str(self.count)
        return [LineReading(text, (1.0,) * len(text), spread(text)) for _ in images]


def changed(side: Side, **changes: Any) -> Side:
    return replace(side, executor=Changed(side.executor, **changes))


def test_an_executor_beside_itself_moves_nowhere(same: TrajectoryReport, side: Side) -> None:
    assert same.parity.steps
    assert {entry.graph for entry in same.parity.steps} == side.graphs
    assert {entry.where for entry in same.parity.steps} == {"fixed", "categorical", "recognizer"}
    assert max(entry.error for entry in (*same.parity.steps, *same.drift)) == 0
    assert {entry.snr for entry in same.parity.steps} == {IDENTICAL}
    flips = [*same.parity.flips.values(), *(f for r in same.forced.values() for f in (r.codes, r.tokens))]
    assert all(one.flipped == 0 < one.total for one in flips)
    assert same.forced.keys() == same.parity.free.keys() == {"fixed", "categorical"}
    assert all(run.psnr == run.psnr_forced == IDENTICAL for run in same.forced.values())
    assert (same.failures(), same.moved(), same.failed()) == ([], [], "")
    assert same.captured == {}, "torch on the CPU captures nothing"
    assert same.steps == STEPS


def test_steps_are_in_order_and_complete(same: TrajectoryReport) -> None:
    for sampler, entries in (("fixed", same.parity.steps), ("categorical", same.drift)):
        unet = [e.step for e in entries if (e.where, e.graph, e.output) == (sampler, "unet_step", "z_prev")]
        assert unet == list(range(STEPS))
    first = [entry.graph for entry in same.parity.steps if entry.where == "categorical"]
    assert first[0] == "vqgan_encoder"
    assert first[-1] == "vqgan_decoder"


def test_a_graph_that_is_wrong_from_a_step_on_is_named_first(side: Side, lines: Lines) -> None:
    def wrong(graph: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
        if graph == "unet_step" and inputs["t"][0] <= LAST_STEPS + 1:
            outputs["z0_hat"][..., 5:9] *= 1.01
            outputs["z_prev"][..., 5:9] *= 1.02 if inputs["t"][0] > 1 else 1.5
        return outputs

    report = compare(side, changed(side, after=wrong), lines, steps=STEPS, samplers=["fixed"])
    first, worst = report.moved()[0], max(report.moved(), key=lambda entry: entry.error)
    assert (first.graph, first.step, first.where) == ("unet_step", 1, "fixed")
    assert {entry.graph for entry in report.moved()} == {"unet_step"}, "what is only fed by it is not blamed"
    assert (worst.step, worst.output) == (2, "z_prev")
    assert report.failures()[0].startswith("graph unet_step, output z_prev (fixed text, step 1): relative error 0.0")
    rows = [line.split() for line in report.failed().splitlines() if line.startswith(("first", "largest"))]
    assert [row[:3] for row in rows] == [["first", "1", "unet_step"], ["largest", "2", "unet_step"]]
    drift = {entry.step: entry.error for entry in report.drift if entry.output == "z_prev"}
    assert drift[0] < NOTHING < drift[1] < drift[2]
    decoder = [entry for entry in report.parity.steps if entry.graph == "vqgan_decoder"]
    assert decoder[0].error < NOTHING, "its code vectors are forced"


def test_a_value_that_is_not_finite_is_infinitely_wrong(side: Side, lines: Lines) -> None:
    def black(graph: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
        if graph == "vqgan_decoder":
            outputs["image"][:, :, 0] = np.nan
        return outputs

    report = compare(side, changed(side, after=black), lines, steps=1, samplers=["fixed"])
    assert (report.moved()[0].graph, report.moved()[0].error) == ("vqgan_decoder", float("inf"))
    assert report.moved()[0].snr == -IDENTICAL
    assert report.forced["fixed"].psnr == 0
    assert TrajectoryReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report


def test_forced_tokens_make_parity_immune_to_flips(side: Side, lines: Lines) -> None:
    def other_tokens(graph: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
        if graph == "text_step":
            outputs["tokens_prev"] = (outputs["tokens_prev"] + 1) % TINY.symbols
        return outputs

    report = compare(side, changed(side, after=other_tokens), lines, steps=STEPS, samplers=["categorical"])
    assert max(entry.error for entry in (*report.parity.steps, *report.drift)) < NOTHING
    assert report.failures() == []
    flips, forced = report.parity.flips["text_step.tokens_prev"], report.forced["categorical"]
    assert flips.flipped == flips.total == STEPS * TINY.max_chars
    assert forced.tokens == flips
    assert forced.z_0 < NOTHING
    assert forced.psnr > 100
    free = report.parity.free["categorical"]
    assert free.tokens.flipped == TINY.max_chars
    assert free.z_0 > 1e-3, "left to itself it goes another way"


def test_forced_codes_make_parity_immune_to_flips(side: Side, lines: Lines) -> None:
    def nudged(graph: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
        if graph == "vqgan_decoder":
            inputs["z_0"] += np.float32(0.01)
        return inputs

    report = compare(side, changed(side, before=nudged), lines, steps=1, samplers=["fixed"])
    run = report.forced["fixed"]
    assert 0 < run.codes.flipped < run.codes.total
    assert report.parity.flips["vqgan_decoder.codes"].flipped == 0
    assert run.psnr < run.psnr_forced == IDENTICAL
    assert report.failures() == []


def test_code_vectors_are_found_again(side: Side) -> None:
    rng = np.random.default_rng(0)
    shape = (2, side.codebook.groups, *side.preset.latent_shape[1:])
    codes = rng.integers(0, side.preset.vqgan.codes, shape)
    vectors = side.codebook.vectors(codes)
    assert vectors.shape == (2, *side.preset.latent_shape)
    found = side.executor.run("vqgan_decoder", {"z_0": side.executor.put(vectors)})
    assert (side.executor.get(found["codes"]) == codes).all()
    small = Codebook(np.arange(12, dtype=np.float32).reshape(4, 3), 2)
    assert small.vectors(np.array([[[[1]], [[0]]]])).ravel().tolist() == [3, 4, 5, 6, 7, 8]


def test_bounds_follow_the_precision_of_computing_and_of_storing(side: Side) -> None:
    half = replace(side, spec=replace(side.spec, precision="fp16"))
    assert bounds_of(side, side) == BOUNDS["fp32"]
    assert bounds_of(side, half) == bounds_of(half, side) == BOUNDS["fp16"]
    assert bounds_of(side, replace(side, stored="fp16")) == BOUNDS["fp16"]
    assert (BOUNDS["fp32"].error, BOUNDS["fp32"].psnr) == (1e-4, 50)
    assert (BOUNDS["fp16"].psnr, BOUNDS["fp16"].own, BOUNDS["fp16"].same_text) == (40, 40, True)


def test_half_precision_needs_40_db_and_the_same_text(same: TrajectoryReport) -> None:
    run = same.forced["fixed"]
    blurred: FreeRun = replace(run, psnr=39.9)
    misread = (ReadLine("fixed", 0, "SALE", "SALF", 1), ReadLine("fixed", 1, "50%", "50%", 0))
    moved = Measured("fixed", 1, "unet_step", "z_prev", 5e-3, 40.0)
    parity = replace(same.parity, steps=(*same.parity.steps, moved))
    single = replace(same, forced={"fixed": blurred}, texts=misread)
    assert single.failures() == [], "float32 is judged by its graphs"
    half = replace(single, bounds=BOUNDS["fp16"], parity=replace(parity, bound=BOUNDS["fp16"].error))
    assert half.failures() == [
        "final image (fixed text, codes its own): 39.9 dB, 40 needed",
        "line 0 (fixed text) reads 'SALF', not 'SALE'",
    ]
    assert "what moved first" not in half.failed(), "every graph is within its bound"
    assert replace(single, parity=parity).moved() == [moved]


def test_drift_is_shown_where_no_graph_is_wrong_by_itself(same: TrajectoryReport) -> None:
    far = Measured("fixed", 2, "unet_step", "z_prev", 0.3, 9.0)
    report = replace(
        same, bounds=BOUNDS["fp16"], drift=(*same.drift, far), forced={"fixed": replace(same.forced["fixed"], psnr=20)}
    )
    assert report.moved() == [far]
    assert "on the candidate's own latents" in report.failed()


def test_texts_are_read_on_both_and_compared(side: Side, lines: Lines) -> None:
    report = compare(side, side, lines, steps=1, samplers=["fixed"], reader=Counting())
    assert report.texts == (ReadLine("fixed", 0, "1", "2", 1),)
    assert "counting reads the same on 0 of 1" in report.table()
    assert report.failures() == []


def test_no_recogniser_is_said(same: TrajectoryReport) -> None:
    assert (same.reader, same.texts) == (NOT_INSTALLED, ())
    assert NOT_INSTALLED in same.table()


def test_captured_passes_are_compared_with_the_loop_run_graph_by_graph(side: Side, lines: Lines) -> None:
    executor = side.executor
    assert isinstance(executor, TorchExecutor)
    capturing = TorchExecutor(executor.graphs, capture=True)
    report = compare(side, replace(side, executor=capturing), lines, steps=2, samplers=["fixed"])
    assert report.captured["fixed"].name.endswith(":graph")
    assert report.captured["fixed"].psnr == IDENTICAL
    off = replace(report, captured={"fixed": replace(report.captured["fixed"], psnr=20.0)})
    assert "20.0 dB from the same loop run graph by graph" in off.failures()[0]


def test_statistics_are_those_of_the_worst_run(side: Side, lines: Lines) -> None:
    def louder(graph: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
        if graph == "vqgan_encoder":
            outputs["z_y"] += np.float32(0.5)
        return outputs

    report = compare(side, changed(side, after=louder), lines, steps=1, samplers=["fixed"])
    found = report.statistics["vqgan_encoder.z_y"]
    assert found["max_absdiff"] == pytest.approx(0.5, abs=1e-5)
    assert found["median_absdiff"] == pytest.approx(0.5, abs=1e-5)
    assert (found["where"], found["step"]) == ("fixed", -1)
    assert report.statistics["unet_step.z_prev"]["max_absdiff"] == 0


def test_reports_survive_json(same: TrajectoryReport) -> None:
    text = json.dumps(same.to_json(), allow_nan=False)
    assert TrajectoryReport.from_json(json.loads(text)) == same


def test_models_of_different_kinds_are_refused(side: Side, lines: Lines) -> None:
    with pytest.raises(BundleError, match=r"differ in preset \(unet\)"):
        compare(side, replace(side, preset=replace(TINY, unet=replace(TINY.unet, lq_channels=4))), lines)
    with pytest.raises(BundleError, match="alphabets"):
        compare(side, replace(side, alphabet=replace(side.alphabet, symbols=side.alphabet.symbols[::-1])), lines)
    few = replace(side, graphs=side.graphs - {"mom_image"})
    with pytest.raises(InputError, match="categorical"):
        compare(side, few, lines, samplers=["categorical"])
    assert compare(side, few, lines, steps=1).forced.keys() == {"fixed"}


def test_a_graph_that_fails_is_named(side: Side, lines: Lines) -> None:
    def failing(graph: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
        raise EngineError(f"graph {graph} failed")

    with pytest.raises(EngineError, match="graph glyph_canvas failed"):
        compare(side, changed(side, after=failing), lines, steps=1, samplers=["fixed"])
