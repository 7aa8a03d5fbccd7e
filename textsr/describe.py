"""What a preset consists of and costs: ``python -m textsr.describe paper``. FLOP = 2 multiply-adds.

Networks are built and run on torch's meta device, which has shapes and no values: nothing is allocated or computed, so
the largest preset takes seconds. Parameters and FLOP are counted; times are not measured here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from textsr.config import PRESETS, Preset, preset
from textsr.errors import InputError
from textsr.graphs import Model, example_inputs, graphs
from textsr.program import TEXT_BRANCH

EVERY_STEP, SAMPLED = ("unet_step",), ("text_condition", "glyph_canvas", "unet_step", "mom_image", "text_step")
"""Graphs that run once a step: with fixed text, and with the categorical sampler."""
TRANSOCR_STEPS = 12
"""Decoded characters that a line's cost counts with, half of the most; the prefix of each is half as long."""

_RESSHIFT, _ENCODER, _DECODER = "ResShift UNet", "encoder", "decoder"
PARTS = {
    "unet": {
        **dict.fromkeys(("time_embed", "input_blocks", "middle_block", "output_blocks", "out"), _RESSHIFT),
        "text_blocks": "text transformers",
    },
    "vqgan": {
        **{"encoder": _ENCODER, "quant_conv": _ENCODER, "decoder": _DECODER, "post_quant_conv": _DECODER},
        "quantize": "codebook",
    },
    "mom": {"Transformer": "text transformer", "Unet": "image UNet", "first_embeder": "tokens of the image UNet"},
}
"""What the children of a network belong to, for those that are told apart."""

DIFFTSR = {"UNet a step": 592.0, "MoM a step": 3.6, "TDM a step": 8.3, "encode": 345.4, "decode": 670.6, "OCR": 23.5}
"""Published modules of DiffTSR in GFLOP at 128 x 512, measured on its code."""
DIFFTSR_PARAMETERS = {
    "UNet": 874_024_003, "TDM": 211_099_217, "MoM": 6_226_675, "autoencoder": 55_312_063, "OCR": 83_904_779,
}  # fmt: skip
DIFFTSR_STEPS = 200
IMAGE_UNET, PAPER_UNET = "parameters of the image UNet", 155e6
"""What Table 3 of the paper counts, and its figure for the paper's model."""


@dataclass(frozen=True)
class Cost:
    """What a preset costs: parameters by network and by its parts, GFLOP by graph for one line and one call."""

    preset: Preset
    parameters: Mapping[str, int]
    gflop: Mapping[str, float]
    parts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def calls(self, graph: str, steps: int, sampled: bool = False) -> int:
        """How often a line runs ``graph``."""
        if graph in TEXT_BRANCH and not sampled:
            return 0
        if graph == "recognizer_step":
            return TRANSOCR_STEPS
        return steps if graph in (SAMPLED if sampled else EVERY_STEP) else 1

    def line(self, steps: int, sampled: bool = False) -> float:
        """GFLOP of a line, the recogniser included where it is counted."""
        return sum(value * self.calls(graph, steps, sampled) for graph, value in self.gflop.items())

    @property
    def trained(self) -> int:
        """Parameters of the preset's own networks."""
        return sum(value for name, value in self.parameters.items() if "not trained" not in name)


def count(module: nn.Module, inputs: Sequence[Tensor]) -> float:
    """GFLOP of one call."""
    # As plain products: the counter does not know the fused attention of CPUs.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() / 1e9


def number(module: nn.Module) -> int:
    """Parameters of ``module``, buffers not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def example_tensors(model: Model, graph: str) -> list[Tensor]:
    """Inputs of a graph for one line on the meta device, in order."""
    made = graphs(model)
    if graph == "recognizer_step":
        # `example_inputs` would run the recogniser for its features.
        with torch.inference_mode():
            (features,) = made["recognizer_encoder"](*example_tensors(model, "recognizer_encoder"))
        return [features, torch.zeros(1, TRANSOCR_STEPS // 2, dtype=torch.int64, device="meta")]
    arrays = example_inputs(model, graph, batch=1)
    return [torch.from_numpy(arrays[name]).to("meta") for name in made[graph].inputs]


def measure(which: Preset) -> Cost:
    """The cost of a preset's own networks, counted on the meta device."""
    with torch.device("meta"):
        model = Model(which).eval()
    children = dict(model.named_children())
    parts: dict[str, dict[str, int]] = {}
    for name, labels in PARTS.items():
        for child, network in children[name].named_children():
            group = parts.setdefault(name, {})
            group[labels[child]] = group.get(labels[child], 0) + number(network)
    gflop = {name: count(graph, example_tensors(model, name)) for name, graph in graphs(model).items()}
    return Cost(which, {name: number(child) for name, child in children.items()}, gflop, parts)


def difftsr_tflop(steps: int = DIFFTSR_STEPS, with_text: bool = False) -> float:
    """DiffTSR's cost of a line in TFLOP; ``with_text``: its text diffusion runs too (off in its release)."""
    each = DIFFTSR["UNet a step"] + DIFFTSR["MoM a step"] + DIFFTSR["TDM a step"] * with_text
    return (each * steps + DIFFTSR["encode"] + DIFFTSR["decode"] + DIFFTSR["OCR"]) / 1000


def fewer(steps: int) -> list[int]:
    """Numbers of steps that a line's cost is told for, ``steps`` the most."""
    return sorted({steps, *(few for few in (15, 8, 4, 2, 1) if few < steps)})[::-1]


def table(cost: Cost, steps: int) -> str:
    """Parameters, GFLOP by graph and by line. Markdown."""
    which = cost.preset
    rows = [f"preset {which.name}, {which.height} x {which.width}, {steps} steps, FLOP = 2 MAC", ""]
    rows += ["| network | parameters |", "|---|---|"]
    for name, size in cost.parameters.items():
        rows.append(f"| {name} | {size:,} |")
        rows += [f"| {name}: {part} | {share:,} |" for part, share in cost.parts.get(name, {}).items()]
    rows += [f"| all trained | {cost.trained:,} |", "", "| graph | GFLOP a call | calls a line | GFLOP a line |"]
    rows.append("|---|---|---|---|")
    for graph, value in cost.gflop.items():
        calls, sampled = cost.calls(graph, steps), cost.calls(graph, steps, sampled=True)
        times = str(calls) if calls == sampled else f"{calls} ({sampled} where text is sampled)"
        rows.append(f"| {graph} | {value:.3f} | {times} | {value * calls:.2f} |")
    rows += ["", "| a line in GFLOP | fixed text | sampled text |", "|---|---|---|"]
    rows += [f"| {n} steps | {cost.line(n):.2f} | {cost.line(n, sampled=True):.2f} |" for n in fewer(steps)]
    if not any(graph.startswith("recognizer") for graph in cost.gflop):
        rows += ["", "Its recogniser is another project's and is not counted here: python -m benchmarks.flops does."]
    return "\n".join(rows)


def comparison(cost: Cost, steps: int) -> dict[str, tuple[float, float]]:
    """What the paper's Table 3 compares, counted: (DiffTSR's, ours) by name."""
    return {
        IMAGE_UNET: (DIFFTSR_PARAMETERS["UNet"], cost.parameters["unet"]),
        "parameters of all modules": (sum(DIFFTSR_PARAMETERS.values()), cost.trained),
        "GFLOP a line, fixed text": (difftsr_tflop() * 1000, cost.line(steps)),
        "GFLOP a line, sampled text": (difftsr_tflop(with_text=True) * 1000, cost.line(steps, sampled=True)),
    }


def beside_the_paper(cost: Cost, steps: int) -> str:
    """How the counts compare with the paper's Table 3. Markdown."""
    rows = [f"| | DiffTSR, {DIFFTSR_STEPS} steps | paper's Table 3 | here, {steps} steps | less by (paper) | less by |"]
    rows.append("|---|---|---|---|---|---|")
    for name, (theirs, ours) in comparison(cost, steps).items():
        in_paper, stated = ("155M, DiffTSR 874M", "82.2%") if name == IMAGE_UNET else ("", "")
        rows.append(f"| {name} | {theirs:,.0f} | {in_paper} | {ours:,.0f} | {stated} | {1 - ours / theirs:.1%} |")
    rows.append("| seconds a line | | 1.68, DiffTSR 25.32 | not measured | 93.4% | |")
    near = cost.parameters["unet"] / PAPER_UNET - 1
    own = " This preset's UNet is within 1% of it." if abs(near) < 0.01 else ""
    tflop, with_text = difftsr_tflop(), difftsr_tflop(with_text=True)
    rows += [
        "",
        f"Table 3 counts image UNets alone: 874M is DiffTSR's, 155M ResShift's with text cross-attention.{own}",
        "Autoencoder, recogniser and text modules come on top on both sides, so all modules together shrink by less.",
        f"DiffTSR takes {tflop:.1f} TFLOP a line ({with_text:.1f} with its text diffusion), "
        f"{tflop * 1000 / cost.line(steps):,.0f} times ours.",
        "Seconds are the paper's, on its authors' GPU: this command counts, and measures no time.",
    ]
    return "\n".join(rows)


def _steps(which: Preset, steps: int | None) -> int:
    most = which.schedule.steps
    steps = most if steps is None else steps
    if not 1 <= steps <= most:
        raise InputError(f"--steps {steps}: preset {which.name} takes 1 to {most}")
    return steps


def report(cost: Cost, steps: int | None = None, as_json: bool = False) -> str:
    """All of it, as Markdown or JSON; ``steps`` defaults to all. Raises InputError for others than the preset's."""
    steps = _steps(cost.preset, steps)
    if not as_json:
        return f"{table(cost, steps)}\n\n{beside_the_paper(cost, steps)}\n"
    data: dict[str, Any] = {"preset": cost.preset.name, "steps": steps, "parameters": cost.parameters}
    data |= {"parts": cost.parts, "gflop": cost.gflop, "line": cost.line(steps)}
    data |= {"line_sampled": cost.line(steps, sampled=True), "compared": comparison(cost, steps)}
    return json.dumps(data, indent=1) + "\n"


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--steps`` and ``--json``."""
    parser.add_argument("--steps", type=int, default=None, help="residual-shift steps (default: the preset's)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def write(options: argparse.Namespace, measured: Callable[[Preset], Cost]) -> int:
    """Prints the report on ``options.preset``; 1 with a message when something is missing."""
    try:
        which = preset(options.preset)
        steps = _steps(which, options.steps)  # before counting, which takes seconds
        sys.stdout.write(report(measured(which), steps, options.json))
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m textsr.describe", description=__doc__.split("\n")[0])
    parser.add_argument("preset", choices=sorted(PRESETS))
    add_options(parser)
    return write(parser.parse_args(arguments), measure)


if __name__ == "__main__":
    raise SystemExit(main())
