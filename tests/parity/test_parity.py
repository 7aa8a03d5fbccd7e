"""Torch against ONNX Runtime on the tiny preset: graph by graph, step by step, both text samplers, any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.parity import BATCHES, SAMPLERS, example_lines, main, run
from export.report import BOUND, PSNR_BOUND, Flips, Measured, ParityReport, psnr, relative_error
from runtime.bundle import Bundle
from runtime.executors.onnxruntime import OrtExecutor
from textsr.checkpoint import load_model
from textsr.config import TINY
from textsr.errors import EngineError
from textsr.graphs import GRAPHS, Model, example_inputs, graphs
from textsr.loop import restore
from textsr.torch_executor import TorchExecutor


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture(scope="module")
def report(bundle: Bundle) -> ParityReport:
    """What the build measured and kept, over all 18 steps."""
    return ParityReport.from_json(bundle.manifest["parity"])


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> Model:
    found = load_model(bundle.path / "weights.safetensors", bundle.preset)
    assert isinstance(found, Model)
    return found


def test_every_graph_agrees_alone(report: ParityReport, bundle: Bundle) -> None:
    measured = {(entry.graph, entry.where): entry.error for entry in report.graphs}
    assert {graph for graph, _ in measured} == set(bundle.graphs)
    assert {where for _, where in measured} == {f"batch {count}" for count in BATCHES}
    assert max(measured.values()) <= BOUND


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_agrees_on_the_reference_tensors(report: ParityReport, sampler: str) -> None:
    entries = [entry for entry in report.steps if entry.where == sampler]
    steps = [entry.step for entry in entries if entry.graph == "unet_step" and entry.output == "z0_hat"]
    assert steps == list(range(TINY.schedule.steps))
    assert {"mom_image", "text_step"} <= {entry.graph for entry in entries} or sampler == "fixed"
    assert max(entry.error for entry in entries) <= BOUND


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_final_image_agrees(report: ParityReport, sampler: str) -> None:
    free = report.free[sampler]
    assert free.psnr_forced >= PSNR_BOUND
    assert free.z_0 <= BOUND
    assert free.codes.total == 2 * 32 * 128
    assert free.tokens.total == 24


def test_discrete_outputs_are_counted_not_bounded(report: ParityReport) -> None:
    assert set(report.flips) == {"text_step.tokens_prev", "vqgan_decoder.codes"}
    tokens, codes = report.flips["text_step.tokens_prev"], report.flips["vqgan_decoder.codes"]
    assert tokens.flipped < 0.13 * tokens.total
    assert codes.flipped == 0, "code vectors are fed, so every executor must find them again"
    assert report.failures() == []


def test_the_loop_agrees_on_both_executors(bundle: Bundle, model: Model) -> None:
    """Independent of the report: three lines, two steps."""
    lines = example_lines(TINY, 3, seed=3)
    expected = restore(TorchExecutor(graphs(model)), TINY, lines, seed=5, steps=2)
    found = restore(OrtExecutor(bundle, "cpu", threads=1), TINY, lines, seed=5, steps=2)
    same = expected.codes == found.codes
    assert same.mean() > 0.999
    assert psnr(expected.image, found.image) > 40


@pytest.mark.parametrize("graph", sorted(name for name in GRAPHS if "time_condition" not in name))  # they have no lines
def test_a_batch_gives_what_its_lines_give_alone(bundle: Bundle, model: Model, graph: str) -> None:
    executor = OrtExecutor(bundle, "cpu", threads=1)
    inputs = example_inputs(model, graph, 3, seed=7)
    batched = {name for name in inputs if inputs[name].shape[0] == 3}
    whole = run(executor, graph, inputs)
    assert all(np.ptp(value) > 0 for value in whole.values()), "equal zeros would prove nothing"
    for line in range(3):
        alone = run(executor, graph, {k: v[line : line + 1] if k in batched else v for k, v in inputs.items()})
        for name, value in alone.items():
            if np.issubdtype(value.dtype, np.floating):
                assert relative_error(whole[name][line : line + 1], value) <= BOUND
            else:
                assert (whole[name][line : line + 1] == value).mean() > 0.9


def test_reports_survive_json_and_say_what_failed(report: ParityReport) -> None:
    assert ParityReport.from_json(report.to_json()) == report
    table = report.table()
    assert "unet_step" in table
    assert "categorical text" in table
    moved = Measured("fixed", 4, "unet_step", "z0_hat", 0.5)
    broken = ParityReport(**{**vars(report), "steps": (*report.steps, moved)})
    with pytest.raises(
        EngineError, match=r"graph unet_step, output z0_hat \(fixed text, step 4\): relative error 0\.5"
    ):
        broken.require()
    assert broken.worst == moved


def test_errors_are_relative_and_strict() -> None:
    one = np.array([1.0, -2.0], np.float32)
    assert relative_error(one, one + np.float32(0.5)) == 0.25
    assert relative_error(one, np.array([1.0, np.nan], np.float32)) == np.inf
    assert relative_error(np.zeros(2), one) == np.inf
    assert relative_error(one, one[:1]) == np.inf
    assert psnr(one, np.array([np.nan, 0], np.float32)) == 0
    assert Flips(1, 2) != Flips(0, 2)


def test_the_command_prints_the_table(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "bundle.json" in capsys.readouterr().err
    assert main([str(tiny_bundle), "--steps", "2"]) == 0
    assert "torch:cpu against onnxruntime:cpu" in capsys.readouterr().out
