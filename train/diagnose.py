"""What limits a model: ``python -m train.diagnose --checkpoint W``, on validation lines, judged by PP-OCRv6.

Rows: the clean lines, the autoencoder's ceiling (clean lines encoded and decoded), bicubic, the model in several
numbers of steps with the recogniser's text, and in all its steps with no text, the true one and a wrong one. With the
true text, what is missing to the ceiling is the picture's making; with a wrong text, "right" must stay and "as told" be
near 0: then the model follows the picture. The figures rest on the recogniser that restores, so they are for choices in
training; PP-OCRv4 alone judges results. ``diagnosis.json`` is written after each row.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.bundle import SHIPPED
from runtime.recognizer import LineReader, PPOCRReader, open_reader
from textsr.checkpoint import load_model
from textsr.config import PRESETS, preset
from textsr.errors import InputError, TextSRError
from textsr.graphs import Model
from train.diagnose_report import conclusions, table, write
from train.diagnosis import BICUBIC, CEILING, CLEAN, Diagnosis, Row
from train.evaluation.degradation import enlarge
from train.harness import pick_device
from train.losses import PerceptualLoss
from train.metrics import accuracy, ned, psnr
from train.pool import LinePool
from train.validation import TEXTS, ModelRestorer, ValidationLine, validation_lines

log = logging.getLogger(__name__)


class Diagnostician:
    """Fills a `Diagnosis` row by row and keeps ``folder`` up to date."""

    def __init__(
        self,
        lines: list[ValidationLine],
        reader: LineReader,
        folder: Path,
        about: dict[str, object],
        device: torch.device | None = None,
    ) -> None:
        """``device``: what measures ST-LPIPS, by default the CPU."""
        self.lines, self.reader, self.folder = lines, reader, folder
        heard = [line.readings.get("recogniser") for line in lines]
        own = [accuracy(reading.text if reading else "", line.text) for reading, line in zip(heard, lines, strict=True)]
        told = {"lines": len(lines), "judge": "PP-OCRv6", "read right before restoring": float(np.mean(own))}
        self.found = Diagnosis({**about, **told})
        self._device = device or torch.device("cpu")
        self._perceptual = PerceptualLoss("st-lpips").to(self._device)
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        name: str,
        images: list[NDArray[np.uint8]],
        *,
        text: str = "",
        steps: int | None = None,
        seconds: float = 0.0,
    ) -> Row:
        """Judges ``images``, one a line, and writes what there is."""
        read = [reading.text for reading in self.reader.read(images)]
        given = [line.readings.get(text) for line in self.lines]
        told = [accuracy(now, told.text) for now, told in zip(read, given, strict=True) if told and told.text]
        triples = list(zip(images, read, self.lines, strict=True))
        row = Row(
            name, text, steps,
            right=[accuracy(now, line.text) for _, now, line in triples],
            ned=[ned(now, line.text) for _, now, line in triples],
            psnr=[psnr(image, line.hr) for image, _, line in triples],
            st_lpips=[self._distance(image, line.hr) for image, _, line in triples],
            told=told, seconds=seconds / len(images),
        )  # fmt: skip
        self.found.rows.append(row)
        self.found.pictures[name] = images
        log.info("%s: %.3f read right, PSNR %.2f", name, np.mean(row.right), np.mean(row.psnr))
        write(self.found, self.folder)
        return row

    @torch.inference_mode()
    def _distance(self, image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
        pair = torch.from_numpy(np.stack([image, truth])).to(self._device).permute(0, 3, 1, 2).float() / 127.5 - 1
        return float(self._perceptual(pair[:1], pair[1:]))

    def clean_and_ceiling(self, restorer: ModelRestorer) -> float:
        """Adds the clean lines and the autoencoder's ceiling; returns the latter's share."""
        self.add(CLEAN, [line.hr for line in self.lines])
        self.add(CEILING, restorer.reconstruct(self.lines))
        return self.found.ceiling

    def restored(self, restorer: ModelRestorer, text: str, steps: int) -> Row:
        """Adds a row of restored lines."""
        begin = time.perf_counter()
        images = restorer(self.lines, text, steps)
        seconds = time.perf_counter() - begin
        return self.add(f"{text} text, {steps} steps", images, text=text, steps=steps, seconds=seconds)


def diagnose(
    model: Model, restorer: ModelRestorer, work: Diagnostician, steps: Sequence[int], texts: Sequence[str]
) -> Diagnosis:
    """All rows: the first of ``texts`` in every number of ``steps``, the others in the most. Raises InputError."""
    trained = model.preset.schedule.steps
    if bad := [value for value in steps if not 1 <= value <= trained] + [t for t in texts if t not in TEXTS]:
        raise InputError(f"cannot diagnose {bad}: steps go from 1 to {trained}, texts are {', '.join(TEXTS)}")
    work.clean_and_ceiling(restorer)
    work.add(BICUBIC, [enlarge(line.lr) for line in work.lines])
    for count in sorted(steps):  # the quickest first: the most is known if time runs out
        work.restored(restorer, texts[0], count)
    for text in texts[1:]:
        work.restored(restorer, text, max(steps))
    return work.found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        device = pick_device(given.device)
        if given.threads:
            torch.set_num_threads(given.threads)
        config = preset(given.preset)
        checkpoint = given.checkpoint or SHIPPED / config.name / "weights.safetensors"
        model = load_model(checkpoint, config)
        assert isinstance(model, Model)
        reader = PPOCRReader(threads=given.threads or None)
        lines = validation_lines(LinePool(given.pool), given.lines, open_reader(threads=given.threads or None))
        about: dict[str, object] = {"preset": config.name, "checkpoint": checkpoint.name, "precision": given.precision}
        work = Diagnostician(lines, reader, given.out, about, device)
        restorer = ModelRestorer(model, device, precision=given.precision, batch_size=given.batch_size)
        found = diagnose(model, restorer, work, [int(s) for s in given.steps.split(",")], given.texts.split(","))
    except (TextSRError, ValueError) as error:
        sys.stderr.write(f"train.diagnose: {error}\n")
        return 1
    sys.stdout.write(table(found) + "\n\n" + "\n".join(conclusions(found)) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m train.diagnose", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="compact", choices=sorted(PRESETS))
    parser.add_argument("--checkpoint", type=Path, metavar="W", help="default: the weights shipped for the preset")
    parser.add_argument("--pool", type=Path, required=True, help="validation lines: train.pool --split val")
    parser.add_argument("--out", type=Path, default=Path("runs/diagnosis"), help="default: runs/diagnosis")
    parser.add_argument("--lines", type=int, default=300, help="default: 300")
    parser.add_argument("--steps", default="18,4,1", help="numbers of steps, by commas (default: 18,4,1)")
    parser.add_argument("--texts", default=",".join(TEXTS), help="first in all numbers of steps, others in the most")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "bf16", "fp16"))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    return parser


if __name__ == "__main__":
    sys.exit(main())
