"""Parameters and FLOP of a preset: ``python -m benchmarks.flops``. FLOP = 2 multiply-adds of products and convolutions.

Counted with torch's dispatch on one line through each graph; the recogniser (PP-OCRv6 where the preset has none of
its own) at 48 x 320, its input for lines of an aspect up to 6.7.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from textsr.config import PRESETS, Preset, preset
from textsr.graphs import Model, example_inputs, graphs
from train.losses import package_file
from train.onnx_torch import load

RECOGNIZER = "recognizer (PP-OCRv6)"
EVERY_STEP, SAMPLED = ("unet_step",), ("text_condition", "glyph_canvas", "unet_step", "mom_image", "text_step")
"""Graphs that run once a step: with fixed text, and with the categorical sampler."""
ONLY_SAMPLED = ("mom_image", "text_step")
TRANSOCR_STEPS = 12
"""Decoded characters that a line's cost counts with, half of the most."""
DIFFTSR = {"UNet a step": 592.0, "MoM a step": 3.6, "TDM a step": 8.3, "encode": 345.4, "decode": 670.6, "OCR": 23.5}
"""Published modules of DiffTSR in GFLOP at 128 x 512, measured on its code; its parameters in all: 1.23e9."""
DIFFTSR_STEPS = 200


@dataclass(frozen=True)
class Cost:
    """What a preset costs: parameters by network, GFLOP by graph for one line and one call."""

    preset: Preset
    parameters: Mapping[str, int]
    gflop: Mapping[str, float]

    def calls(self, graph: str, steps: int, sampled: bool = False) -> int:
        """How often a line runs ``graph``."""
        if graph in ONLY_SAMPLED and not sampled:
            return 0
        if graph == "recognizer_step":
            return TRANSOCR_STEPS
        return steps if graph in (SAMPLED if sampled else EVERY_STEP) else 1

    def line(self, steps: int, sampled: bool = False) -> float:
        """GFLOP of a line, recogniser included."""
        return sum(value * self.calls(graph, steps, sampled) for graph, value in self.gflop.items())


def count(module: nn.Module, inputs: Sequence[torch.Tensor]) -> float:
    """GFLOP of one call."""
    # As plain products: the counter does not know the fused attention of CPUs.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() / 1e9


def measure(which: Preset) -> Cost:
    """Costs of a preset with random weights. Raises InputError where PP-OCRv6 is needed and not installed."""
    model = Model(which).eval()
    found: dict[str, float] = {}
    for name, graph in graphs(model).items():
        arrays = example_inputs(model, name, batch=1)
        found[name] = count(graph, [torch.from_numpy(arrays[key]) for key in graph.inputs])
    parameters = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    if which.transocr is None:
        reader = load(package_file("rapidocr", "models/PP-OCRv6_rec_small.onnx"))
        found[RECOGNIZER] = count(reader, [torch.zeros(1, 3, 48, 320)])
        parameters[f"{RECOGNIZER}, not trained here"] = sum(buffer.numel() for buffer in reader.buffers())
    return Cost(which, parameters, found)


def difftsr_tflop(steps: int = DIFFTSR_STEPS, with_text: bool = False) -> float:
    """DiffTSR's cost of a line in TFLOP; ``with_text``: its text diffusion runs too (off in its release)."""
    each = DIFFTSR["UNet a step"] + DIFFTSR["MoM a step"] + DIFFTSR["TDM a step"] * with_text
    return (each * steps + DIFFTSR["encode"] + DIFFTSR["decode"] + DIFFTSR["OCR"]) / 1000


def table(cost: Cost, steps: int) -> str:
    """Markdown."""
    trained = sum(value for name, value in cost.parameters.items() if "not trained" not in name)
    rows = [f"preset {cost.preset.name}, {steps} steps, FLOP = 2 MAC", "", "| network | parameters |", "|---|---|"]
    rows += [f"| {name} | {value:,} |" for name, value in cost.parameters.items()]
    rows += [f"| all trained | {trained:,} |", "", "| graph | GFLOP a call | calls a line | GFLOP a line |"]
    rows.append("|---|---|---|---|")
    for graph, value in cost.gflop.items():
        calls = cost.calls(graph, steps)
        rows.append(f"| {graph} | {value:.3f} | {calls} | {value * calls:.2f} |")
    rows.append(f"| a line, fixed text | | | {cost.line(steps):.2f} |")
    rows.append(f"| a line, sampled text | | | {cost.line(steps, sampled=True):.2f} |")
    ratio = difftsr_tflop() * 1000 / cost.line(steps)
    rows += ["", f"DiffTSR, {DIFFTSR_STEPS} steps: {difftsr_tflop():.1f} TFLOP a line, {ratio:,.0f} times as many."]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flops", description="Parameters and FLOP of a preset.")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="compact")
    parser.add_argument("--steps", type=int, default=None, help="residual-shift steps (default: the preset's)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    cost = measure(preset(options.preset))
    steps = options.steps or cost.preset.schedule.steps
    if options.json:
        data = {"parameters": cost.parameters, "gflop": cost.gflop, "line": cost.line(steps)}
        sys.stdout.write(json.dumps(data, indent=1) + "\n")
    else:
        sys.stdout.write(table(cost, steps) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
