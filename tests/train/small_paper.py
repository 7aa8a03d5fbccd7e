"""Small data, models and options for the tests of Algorithm 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.train.small import TEXTS, write_pool
from textsr.checkpoint.stated import SYMBOLS
from textsr.config import TINY
from textsr.graphs import Model
from train.distributed import Group
from train.paper import PaperStage
from train.paper_config import PaperConfig
from train.samples import Samples, collate

ASCII = "".join(map(chr, range(32, 127)))
"""As many symbols as the TransOCR of ``tiny`` has."""
METADATA = {SYMBOLS: ASCII}


def write_pairs(folder: Path, lines: int = 4) -> Path:
    """A folder of pairs: bars in high resolution and, as their real low resolution, a flat grey of its own each."""
    rows = ["hr\ttext"]
    for name in ("hr", "lr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(lines):
        image = np.full((128, 400, 3), 200, np.uint8)
        image[30:100, 20 * number : 20 * number + 90] = 10 * number
        Image.fromarray(image).save(folder / "hr" / f"{number}.png")
        Image.new("RGB", (100, 32), (40 * number,) * 3).save(folder / "lr" / f"{number}.png")
        rows.append(f"{number}.png\t{TEXTS[number % len(TEXTS)]}")
    (folder / "lines.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def write_data(folder: Path) -> Path:
    """Eight lines of a pool and four pairs below ``folder``."""
    write_pool(folder / "pool", 8)
    write_pairs(folder / "pairs")
    return folder


def paper_config(folder: Path, **options: Any) -> PaperConfig:
    """The paper's recipe on a batch of 4 lines of `write_data`, in fp32."""
    given: dict[str, Any] = {
        "stage": "paper", "preset": "tiny", "device": "cpu", "out": folder / "out", "batch_size": 4, "steps": 2,
        "learning_rate": 1e-4, "schedule": "constant", "warmup_steps": 0, "betas": (0.9, 0.999), "clip": 0.0,
        "precision": "fp32", "ema_decay": 0.9, "ocr": "transocr", "phases": (1, 2), "validate": 0,
        "data": (f"pool:{folder / 'pool'}?split=all", f"pairs:{folder / 'pairs'}?split=all"),
    }  # fmt: skip
    return PaperConfig(**{**given, **options})


def tiny_model(seed: int = 0) -> Model:
    """A model through all of which gradients pass from the start: in training some layers start at zero."""
    torch.manual_seed(seed)
    model = Model(TINY)
    for parameter in [model.unet.out[2].weight, *(p for n, p in model.unet.named_parameters() if "proj_out" in n)]:
        torch.nn.init.normal_(parameter, std=0.1)  # type: ignore[arg-type]
    torch.nn.init.ones_(model.tdm.rezero.alpha)
    return model


def paper_stage(folder: Path, model: Model | None = None, group: Group | None = None, **options: Any) -> PaperStage:
    """The stage on `write_data`."""
    return PaperStage(
        model or tiny_model(), paper_config(folder, **options), group or Group(torch.device("cpu")), METADATA
    )


class Differences(torch.nn.Module):
    """Stands in for the perceptual network, which takes most of a small step's time."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).diff(dim=3).square().mean((1, 2, 3))


def numbered(stage: PaperStage, numbers: list[int], places: list[int]) -> Samples:
    """Lines of the data with numbers of our own."""
    lines = [(number, stage.data[place]) for number, place in zip(numbers, places, strict=True)]
    return collate(lines, TINY, stage.alphabet)
