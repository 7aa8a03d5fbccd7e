"""Parameters and FLOP of a preset with its recogniser: ``python -m benchmarks.flops``.

As `textsr.describe`, and where the preset has no recogniser of its own also PP-OCRv6, at 48 x 320, its input for lines
of an aspect up to 6.7.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

import torch

from runtime.recognizer import MODEL
from textsr import describe
from textsr.config import PRESETS, Preset
from textsr.describe import DIFFTSR_STEPS, Cost, count, difftsr_tflop
from train.losses import package_file
from train.onnx_torch import load

__all__ = ["DIFFTSR_STEPS", "Cost", "difftsr_tflop", "measure"]

RECOGNIZER = "recognizer (PP-OCRv6)"


def measure(which: Preset) -> Cost:
    """The cost of a preset, recogniser included. Raises InputError where PP-OCRv6 is needed and not installed."""
    cost = describe.measure(which)
    if which.transocr is not None:
        return cost
    reader = load(package_file("rapidocr", f"models/{MODEL}"))
    size = sum(buffer.numel() for buffer in reader.buffers())
    gflop = count(reader, [torch.zeros(1, 3, 48, 320)])
    return replace(
        cost,
        parameters={**cost.parameters, f"{RECOGNIZER}, not trained here": size},
        gflop={**cost.gflop, RECOGNIZER: gflop},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flops", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=sorted(PRESETS), default="compact")
    describe.add_options(parser)
    return describe.write(parser.parse_args(arguments), measure)


if __name__ == "__main__":
    raise SystemExit(main())
