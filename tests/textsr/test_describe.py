"""Counts of parameters and FLOP: by hand, against the published sizes, and as they are printed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from textsr import describe
from textsr.config import PAPER, preset
from textsr.describe import Cost
from textsr.networks.unet import UNet

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def paper() -> Cost:
    return describe.measure(PAPER)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_count_of_a_convolution(device: str) -> None:
    layer = nn.Conv2d(3, 8, 3, padding=1, device=device)
    expected = 2 * 3 * 8 * 9 * 16 * 32 / 1e9
    assert describe.count(layer, [torch.zeros(1, 3, 16, 32, device=device)]) == pytest.approx(expected)


def test_count_of_a_linear_layer() -> None:
    layer = nn.Linear(48, 20, device="meta")
    assert describe.count(layer, [torch.zeros(5, 7, 48, device="meta")]) == pytest.approx(2 * 5 * 7 * 48 * 20 / 1e9)
    assert describe.number(layer) == 48 * 20 + 20


def test_count_of_attention() -> None:
    class Attention(nn.Module):
        def forward(self, q: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(q, q, q)

    assert describe.count(Attention(), [torch.zeros(1, 2, 64, 16)]) == pytest.approx(2 * 2 * 2 * 64 * 64 * 16 / 1e9)


def test_parameters_of_the_paper(paper: Cost) -> None:
    assert paper.parameters == {
        "unet": 153_585_903, "vqgan": 55_322_782, "mom": 6_226_675, "tdm": 211_099_217, "transocr": 83_904_779,
    }  # fmt: skip
    assert paper.trained == 510_139_356
    assert paper.parts["unet"] == {"ResShift UNet": 118_593_583, "text transformers": 34_992_320}
    for name, parts in paper.parts.items():
        assert sum(parts.values()) == paper.parameters[name], name


def test_gflop_of_the_published_modules(paper: Cost) -> None:
    found = dict(paper.gflop)
    found["mom"] = found["mom_image"] + found["text_condition"]
    published = {"vqgan_encoder": 345.2, "vqgan_decoder": 670.8, "mom": 3.6, "text_step": 8.3}
    for name, value in {**published, "recognizer_encoder": 9.1}.items():
        assert found[name] == pytest.approx(value, rel=0.015), name


def test_gflop_of_the_unet_without_text() -> None:
    with torch.device("meta"):
        unet = UNet(replace(PAPER.unet, context_dim=None))
        latent, t = torch.zeros(1, 3, 32, 128), torch.zeros(1)
    assert describe.count(unet, [latent, t, latent]) == pytest.approx(101.3, rel=0.015)


def test_a_line_adds_up(paper: Cost) -> None:
    once = ("vqgan_encoder", "time_condition", "text_condition", "vqgan_decoder", "recognizer_encoder")
    expected = sum(paper.gflop[name] for name in once) + describe.TRANSOCR_STEPS * paper.gflop["recognizer_step"]
    assert paper.line(18) == pytest.approx(expected + 18 * paper.gflop["unet_step"])
    each = [paper.gflop[name] for name in ("unet_step", "text_condition", "mom_image", "text_step")]
    assert paper.line(18, sampled=True) - paper.line(17, sampled=True) == pytest.approx(sum(each))


def test_baseline() -> None:
    assert describe.difftsr_tflop() == pytest.approx(120.2, abs=0.1)
    assert describe.difftsr_tflop(with_text=True) == pytest.approx(121.8, abs=0.1)
    assert sum(describe.DIFFTSR_PARAMETERS.values()) == pytest.approx(1.23e9, rel=0.001)


def test_the_report(paper: Cost) -> None:
    text = describe.report(paper)
    for expected in (
        "118,593,583",
        "34,992,320",
        "153,585,903",
        "55,322,782",
        "6,226,675",
        "211,099,217",
        "83,904,779",
    ):
        assert f"| {expected} |" in text
    for expected in ("82.2%", "82.4%", "93.4%", "120.2 TFLOP", "121.8", "1,230,566,737", "within 1%", "no time"):
        assert expected in text
    steps = [line for line in text.split("\n") if " steps | " in line and line.startswith("| ")]
    assert f"| 18 steps | {paper.line(18):.2f} | {paper.line(18, sampled=True):.2f} |" in steps
    assert f"| 4 steps | {paper.line(4):.2f} | {paper.line(4, sampled=True):.2f} |" in steps
    assert "preset paper, 128 x 512, 4 steps" in describe.report(paper, 4)


def test_other_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert describe.main(["tiny", "--json", "--steps", "2"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["parameters"] == describe.measure(preset("tiny")).parameters
    assert data["line_sampled"] > data["line"] > 0
    assert describe.main(["compact"]) == 0
    text = capsys.readouterr().out
    assert "recogniser is another project's" in text
    assert "within" not in text
    assert describe.main(["tiny", "--steps", "0"]) == 1
    assert "--steps 0" in capsys.readouterr().err


@pytest.mark.slow
def test_the_paper_needs_little_memory() -> None:
    code = "from tests.memory import peak; from textsr.describe import main; assert main(['paper']) == 0; print(peak())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.split("\n")[-2]) < 1 << 30  # the weights alone would take 2 GB
