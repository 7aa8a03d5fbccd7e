"""Small pools and options for the tests of training; no fonts are needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from train.harness import TrainConfig

TEXTS = ("中文 12", "Text", "8.50元", "沪A·12345")


def write_pool(folder: Path, lines: int = 8, seed: int = 0) -> Path:
    """A pool of ``lines`` pictures of bars, one bar a character, that claim to say something."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    images, records = np.empty((lines, 128, 512, 3), np.uint8), []
    for place in range(lines):
        text = TEXTS[place % len(TEXTS)]
        width = 60 * len(text)
        paper, ink = rng.integers(0, 256, (2, 3))
        images[place] = paper
        for character in range(len(text)):
            images[place, 20:108, 60 * character + 10 : 60 * character + 10 + 5 * (character + 2)] = ink
        centres = [(60 * character + 30) / 512 for character in range(len(text))]
        record = {"text": text, "centres": centres, "widths": [0.1] * len(text), "width": min(512, width)}
        records.append(json.dumps({**record, "font": "bars", "kind": "test"}, ensure_ascii=False))
    np.save(folder / "lines-00000.npy", images)
    (folder / "lines-00000.jsonl").write_text("\n".join(records) + "\n", encoding="utf-8")
    return folder


def write_pools(folder: Path, lines: int = 8) -> None:
    """Pools of ``lines`` and of 3 lines where `config` says."""
    write_pool(folder / "pool", lines)
    write_pool(folder / "val", 3, seed=1)


def config(folder: Path, **options: Any) -> TrainConfig:
    """Options of a short run that writes to ``folder``/out."""
    given = {"stage": "test", "preset": "tiny", "minutes": 0.005, "device": "cpu", "batch_size": 4, "warmup_steps": 1}
    places = {"out": folder / "out", "pool": folder / "pool", "val_pool": folder / "val"}
    return TrainConfig(**{**given, **places, **options})
