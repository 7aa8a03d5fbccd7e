"""What a checkpoint states decides what its bundle says: schedule, alphabet, recogniser, preprocessing."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import export.build
import export.source
from export.build import build_bundle
from export.manifest import describe
from export.parity import main, measure
from export.source import open_source
from export.trace import EXPORT_BATCH, trace
from runtime.bundle import Bundle
from runtime.restorer import Restorer
from tests.export.helpers import traced_graphs
from tests.runtime.helpers import draw_line
from textsr.alphabet import Alphabet
from textsr.checkpoint import load_model, save_model
from textsr.config import PAPER, PRESETS, SCHEDULES, TINY, GlyphConfig, Preset
from textsr.errors import BundleError
from textsr.graphs import Model, example_inputs, graphs
from textsr.recognition import TransOCRReader

CJK = [chr(code) for code in range(0x4E00, 0x4E00 + 8000)]
OWN = Alphabet(tuple(CJK[:6735]), {"A": CJK[0]})
SYMBOLS = "\u00ad" + "".join(CJK[:7934])


@pytest.fixture
def stating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes a checkpoint of one tensor that states things, of a model that takes no memory."""

    def meta_model(path: Path | None, preset: Preset, seed: int) -> Model:
        with torch.device("meta"):
            return Model(preset)

    def make(**metadata: str) -> Path:
        save_model(torch.nn.Linear(1, 1), tmp_path / "stating.safetensors", metadata)
        return tmp_path / "stating.safetensors"

    monkeypatch.setattr(export.source, "load_model", meta_model)
    return make


@pytest.mark.parametrize("steps", SCHEDULES)
def test_paper_as_its_checkpoint_states(stating: Any, steps: int) -> None:
    words: dict[str, str] = {"preset": "paper", "schedule": str(steps), "transocr_preprocessing": "difftsr"}
    checkpoint = stating(**words, alphabet=OWN.to_json(), recognizer_symbols=SYMBOLS, licence="MIT", initialised="[]")
    source = open_source(PAPER, checkpoint)
    assert set(graphs(source.model)) == set(graphs_of(PAPER))
    described = describe(source, graphs={}, precision="fp32", files={})
    assert described["schedule"]["steps"] == steps == len(described["schedule"]["sqrt_etas"])
    assert described["preset"]["schedule"]["min_noise"] == SCHEDULES[steps].min_noise
    assert described["preset"]["transocr"]["preprocessing"] == "difftsr"
    assert described["alphabet"] == {"symbols": "".join(CJK[:6735]), "folding": {"A": CJK[0]}}
    assert described["recognizer"] == "transocr"
    assert described["recognizer_symbols"] == SYMBOLS
    assert described["provenance"]["licence"] == "MIT"
    assert len(json.dumps(described, ensure_ascii=False, indent=1).encode()) < 64 * 1024


def graphs_of(preset: Preset) -> Mapping[str, torch.nn.Module]:
    with torch.device("meta"):
        return graphs(Model(preset))


@pytest.mark.parametrize("words", [{}, {"recognizer_symbols": SYMBOLS, "initialised": '["tdm", "transocr"]'}])
def test_a_recogniser_that_cannot_read_is_left_out(
    stating: Any, words: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        source = open_source(PAPER, stating(preset="paper", **words))
    assert "leaves TransOCR out and names rapidocr" in caplog.text
    assert set(graphs_of(PAPER)) - set(graphs(source.model)) == {"recognizer_encoder", "recognizer_step"}
    assert not any(name.startswith("transocr") for name in source.model.state_dict())
    described = describe(source, graphs={}, precision="fp32", files={})
    assert described["recognizer"] == "rapidocr"
    assert described["preset"]["transocr"] is None
    assert described["preset"]["schedule"]["steps"] == 18
    assert described["alphabet"]["symbols"] == "".join(Alphabet.load().symbols)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"preset": "compact"}, "of preset compact, not paper"),
        ({"schedule": "17"}, "schedule '17' is none of"),
        ({"alphabet": Alphabet(tuple("abc")).to_json()}, "needs 6735 symbols, the checkpoint's alphabet has 3"),
        ({"recognizer_symbols": "abc"}, "states 3 symbols for TransOCR, preset paper has 7935"),
        ({"transocr_preprocessing": "lanczos"}, "preprocessing 'lanczos' is none of"),
    ],
)
def test_what_does_not_fit_is_refused(stating: Any, words: dict[str, str], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        open_source(PAPER, stating(**words))


@pytest.mark.slow
def test_bundles_restore_with_the_alphabet_and_the_recogniser_that_were_stated(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export.build, "measure", partial(measure, steps=1))
    unfitted = replace(TINY, glyph=GlyphConfig(), unet=replace(TINY.unet, painted_channels=0))
    monkeypatch.setitem(PRESETS, "tiny", unfitted)  # glyphs are fitted by the numbers of textsr's own alphabet
    model, line, symbols = load_model(None, unfitted), draw_line(), "".join(CJK[:95])
    assert isinstance(model, Model)
    traced = traced_graphs(tiny_bundle)
    del traced["painted_encoder"]
    step = example_inputs(model, "unet_step", EXPORT_BATCH)
    traced["unet_step"] = trace("unet_step", graphs(model)["unet_step"], step, model.state_dict())
    save = partial(save_model, model, tmp_path / "w.safetensors")
    build = partial(build_bundle, preset="tiny", checkpoint=tmp_path / "w.safetensors", out=tmp_path / "bundle")

    save({"alphabet": OWN.to_json(), "recognizer_symbols": symbols, "transocr_preprocessing": "difftsr"})
    restorer = Restorer.open(build(traced=traced), "cpu", threads=1)
    assert restorer.bundle.alphabet == OWN
    assert isinstance(restorer.reader, TransOCRReader)
    assert restorer.reader.symbols == tuple(symbols)
    result = restorer([line], steps=1)[0]
    assert (result.reader, result.applied) == ("TransOCR", True)
    assert set(result.text) <= set(symbols)

    save({"initialised": '["transocr"]'})
    own = {name: graph for name, graph in traced.items() if not name.startswith("recognizer")}
    bundle = Bundle.open(build(traced=own))
    assert bundle.recognizer == "rapidocr"
    result = Restorer.open(bundle, "cpu", threads=1)([line], ["Hello"], steps=1)[0]
    assert result.applied
    assert result.image.shape == (96, 480, 3)
    assert main([str(bundle.path), "--steps", "1"]) == 0
    assert main([str(bundle.path), "--steps", "1", "--checkpoint", str(tmp_path / "w.safetensors")]) == 0
    save({})
    assert main([str(bundle.path), "--checkpoint", str(tmp_path / "w.safetensors")]) == 1
    assert "another schedule or recogniser" in capsys.readouterr().err
