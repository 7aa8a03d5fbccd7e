"""``python -m export.parity A B``: how sides are named, what it writes, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import export.parity
from export.lines import TEXTS, draw
from export.parity import compared, main
from export.plot import plot_errors
from export.report import BOUNDS, ParityReport
from export.trajectory_lines import drawn_lines, edit_distance, folder_lines
from export.trajectory_report import TrajectoryReport
from export.trajectory_sides import Spec, open_side
from runtime.bundle import Bundle
from tests.parity.helpers import with_half_graphs, with_other_weights
from textsr.alphabet import Alphabet
from textsr.checkpoint import load_model, save_model
from textsr.config import TINY
from textsr.errors import BundleError, DeviceError, InputError


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("compact", Spec("compact", "onnxruntime")),
        ("compact@torch", Spec("compact", "torch")),
        ("build/mine@onnxruntime:fp16", Spec("build/mine", "onnxruntime", "fp16")),
        ("a@b@torch:cuda:1:fp16", Spec("a@b", "torch", "fp16", "cuda:1")),
        ("mine@tensorrt", Spec("mine", "tensorrt", "fp32", "cuda")),
        ("mine@emulated-half", Spec("mine", "emulated-half", "fp16")),
        ("w.safetensors", Spec("w.safetensors", "torch")),
        ("w.safetensors@torch:paper", Spec("w.safetensors", "torch", preset="paper")),
        ("C:\\bundles\\mine@torch", Spec("C:\\bundles\\mine", "torch")),
    ],
)
def test_sides_are_named_by_model_executor_and_words(text: str, spec: Spec) -> None:
    assert Spec.parse(text) == spec
    assert Spec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("compact@torhc", "no executor 'torhc'"),
        ("@torch", "MODEL"),
        ("compact@torch:fp8", "'fp8' is no precision, device or preset"),
        ("compact@torch:1", "'1' is no precision"),
        ("compact@torch:tiny", "a bundle has its preset"),
        ("w.safetensors@onnxruntime", "a checkpoint runs on torch"),
        ("compact@emulated-half:fp32", "fp16 on the CPU"),
    ],
)
def test_what_is_no_side_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        Spec.parse(text)
    assert text in str(caught.value)


def test_a_folder_may_have_an_at_sign(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine@torch"
    folder.symlink_to(tiny_bundle)
    assert Spec.parse(str(folder)) == Spec(str(folder), "onnxruntime")


def test_the_command_compares_torch_with_onnxruntime(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = [f"{tiny_bundle}@torch", f"{tiny_bundle}@onnxruntime"]
    written, plot = tmp_path / "new" / "parity.json", tmp_path / "parity.svg"
    files = ["--json", str(written), "--plot", str(plot)]
    assert main([*sides, "--steps", "2", "--count", "1", *files]) == 0
    table = capsys.readouterr().out
    assert "torch:fp32:cpu" in table
    assert "categorical text, step" in table
    assert "what moved first" not in table
    report = TrajectoryReport.from_json(json.loads(written.read_text()))
    assert (report.parity.reference, report.parity.candidate) == ("torch:cpu", "onnxruntime:cpu")
    assert report.bounds == BOUNDS["fp32"]
    assert report.lines["texts"] == [TEXTS[0]]
    assert report.statistics.keys() == {f"{entry.graph}.{entry.output}" for entry in report.parity.steps}
    assert 0 < max(entry.error for entry in report.drift) < 1e-4
    assert "<svg" in plot.read_text()


@pytest.mark.slow
def test_emulated_half_precision_is_a_side(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = with_half_graphs(tiny_bundle, tmp_path / "half")
    report = compared(f"{folder}@torch", f"{folder}@emulated-half", steps=2, count=1, sampler="categorical")
    assert report.bounds == BOUNDS["fp16"]
    moving: dict[str, float] = {}
    for entry in report.parity.steps:
        moving[entry.graph] = max(entry.error, moving.get(entry.graph, 0.0))
    del moving["glyph_canvas"]  # its places want float32, which export.precision would find
    assert len(moving) == len(Bundle.open(folder).graphs) - 1
    assert max(moving.values()) < 1e-2, str(moving)
    assert moving["unet_step"] > 1e-4 < moving["vqgan_decoder"], "half precision rounds"
    assert report.forced["categorical"].psnr_forced > BOUNDS["fp16"].psnr
    less = compared(f"{folder}@torch", f"{folder}@onnxruntime:fp16", steps=1, count=1, sampler="fixed")
    assert less.parity.candidate == "onnxruntime:cpu:fp16"
    with pytest.raises(BundleError, match="no half-precision graph"):
        open_side(Spec.parse(f"{tiny_bundle}@emulated-half"))


def test_parity_that_fails_exits_1_and_names_what_moved(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = with_other_weights(tiny_bundle, tmp_path / "other", "mom.Transformer.transformer.token_emb.weight", 1.5)
    assert main([f"{tiny_bundle}@torch", f"{other}@torch", "--steps", "1", "--count", "1"]) == 1
    told = capsys.readouterr().out
    assert "FAILED: graph text_condition, output c_cond (fixed text, step 0)" in told
    first = next(line for line in told.splitlines() if line.startswith("first"))
    assert first.split()[1:3] == ["0", "text_condition"]


def test_a_checkpoint_is_a_side(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_model(load_model(tiny_bundle / "weights.safetensors", TINY), path, {})
    with pytest.raises(InputError, match="states no preset"):
        open_side(Spec.parse(str(path)))
    report = compared(f"{path}@torch:tiny", str(tiny_bundle), steps=1, count=1, sampler="fixed")
    assert report.failures() == []
    with pytest.raises(DeviceError, match="CUDA device"):
        open_side(Spec.parse(f"{path}@torch:tiny:cuda:99"))


def test_a_bundle_alone_can_be_written_and_plotted(tiny_bundle: Path, tmp_path: Path) -> None:
    written, plot = tmp_path / "parity.json", tmp_path / "parity.png"
    assert main([str(tiny_bundle), "--steps", "1", "--json", str(written), "--plot", str(plot)]) == 0
    report = ParityReport.from_json(json.loads(written.read_text()))
    assert {entry.graph for entry in report.graphs} == set(Bundle.open(tiny_bundle).graphs)
    with Image.open(plot) as picture:
        assert picture.width > 300


def test_wrong_usage_is_told(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = str(tiny_bundle)
    for arguments in ([name, "--lines", "x"], [name, name, "--checkpoint", "w"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert main([name, name, "--count", "0"]) == 1
    assert main([name, f"{name}@nothing"]) == 1
    assert main([name, name, "--lines", str(tmp_path)]) == 1
    assert "no pictures" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "emulated-half" in capsys.readouterr().out


def test_a_plot_needs_a_known_suffix_and_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = ParityReport("a", "b", 1e-4, 50.0, (), ())
    with pytest.raises(InputError, match="ends in"):
        plot_errors(report, tmp_path / "plot.txt")

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("export.plot.import_module", missing)
    with pytest.raises(InputError, match="matplotlib"):
        plot_errors(report, tmp_path / "plot.png")


def test_lines_are_drawn_or_come_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alphabet = Alphabet.load()
    drawn = drawn_lines(TINY, alphabet, 3)
    assert len(drawn.batch) == 3
    assert drawn.told["texts"] == list(TEXTS[:3])
    for seed, text in enumerate(TEXTS[:2]):
        Image.fromarray(draw(text, alphabet, seed)).save(tmp_path / f"{seed}.png")
    monkeypatch.setattr("export.trajectory_lines.find_model", lambda: None)
    found = folder_lines(tmp_path, TINY, alphabet, 5)
    assert (found.told["files"], found.told["texts"]) == (["0.png", "1.png"], ["", ""])
    assert np.array_equal(found.batch.lq, drawn.batch.lq[:2]), "the same pictures"
    assert len(folder_lines(tmp_path, TINY, alphabet, 1).batch) == 1


def test_without_a_recogniser_texts_are_not_compared(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.parity, "open_reader", lambda: None)
    report = compared(str(tiny_bundle), str(tiny_bundle), steps=1, count=1, sampler="fixed")
    assert "not installed" in report.reader
    assert report.failures() == []


def _distance(one: str, two: str) -> int:
    """By its definition."""
    if not one or not two:
        return len(one) + len(two)
    if one[0] == two[0]:
        return _distance(one[1:], two[1:])
    return 1 + min(_distance(one[1:], two), _distance(one, two[1:]), _distance(one[1:], two[1:]))


@given(st.text("ab号", max_size=5), st.text("ab号", max_size=5))
def test_edit_distance_is_the_fewest_changes(one: str, two: str) -> None:
    assert edit_distance(one, two) == _distance(one, two)
