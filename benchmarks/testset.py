"""The test split, generated from a seed: ``python -m benchmarks.testset``.

Lines in fonts and words that are not trained on, at three severities and from the three sources of training, in
turns. Line i depends on the seed and on i alone; the first 120 lines, or any other beginning, hold the severities
and sources in equal parts. A high-resolution line that the judge misreads is drawn anew, up to `DRAWS` times: the
test asks what a restoration does to lines that can be read at all.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from textsr.config import SCALE
from textsr.errors import InputError
from train.evaluation.degradation import SEVERITIES, degrade_line, enlarge, line_seed, turn
from train.evaluation.judge import Judge, Reader
from train.metrics import accuracy

log = logging.getLogger(__name__)

VERSION = 1
"""Of the recipe: a test set made by another one is made anew."""
SEED = 2026
LINES, QUICK = 1000, 120
DRAWS = 5
HR_AT_LEAST, BICUBIC_BETWEEN = 0.98, (0.55, 0.75)
"""Shares of lines that the judge must read for the set to be fit for use."""
FOLDER = Path(__file__).resolve().parents[1] / ".cache" / "testset"


@dataclass(frozen=True)
class Entry:
    """A row of ``lines.tsv``; pictures are ``hr/<index>.png`` and ``lr/<index>.png``."""

    index: int
    text: str
    severity: str
    source: str
    font: str
    kind: str
    draws: int  # how often the line was drawn until the judge could read it
    hr_reading: str
    lr_reading: str  # of the bicubically enlarged line


@dataclass(frozen=True)
class TestLine:
    """A line of the test: ``hr`` (128, w, 3) and ``lr`` (32, w/4, 3) uint8 RGB, w a multiple of 4 and at most 512."""

    __test__ = False

    entry: Entry
    hr: NDArray[np.uint8]
    lr: NDArray[np.uint8]


class Generator:
    """Draws the lines of a seed. Needs the test split's fonts; raises InputError without them."""

    def __init__(self, seed: int, judge: Reader, severities: dict[str, float] | None = None) -> None:
        from train.render import RenderAssets
        from train.words import default_symbols

        self._seed, self._judge, self._severities = seed, judge, severities or SEVERITIES
        self._assets = RenderAssets.load("test", default_symbols())

    def line(self, index: int) -> TestLine:
        """Line ``index``, drawn until the judge reads it or `DRAWS` times."""
        for draw in range(1, DRAWS + 1):
            hr, text, font, kind = self._render(index, draw)
            hr_reading = self._judge(hr)
            if accuracy(hr_reading, text):
                break
        severity, source = turn(index, self._severities)
        lr = degrade_line(hr, source, self._severities[severity], line_seed(self._seed, index))
        reading = self._judge(enlarge(lr))
        return TestLine(Entry(index, text, severity, source, font, kind, draw, hr_reading, reading), hr, lr)

    def _render(self, index: int, draw: int) -> tuple[NDArray[np.uint8], str, str, str]:
        from train.render import RenderSpec, render_line

        rng = np.random.default_rng((self._seed, index, draw))
        line = render_line(rng, self._assets, RenderSpec())
        missing = -line.image.shape[1] % SCALE
        hr = np.pad(line.image, ((0, 0), (0, missing), (0, 0)), mode="edge")
        return hr, line.text, line.font, line.kind


def write(folder: Path, lines: int, seed: int, judge: Reader) -> None:
    """Adds what is missing of the first ``lines`` lines; a folder of another recipe or seed is refused."""
    recipe = {"version": VERSION, "seed": seed, "severities": SEVERITIES}
    manifest = folder / "recipe.json"
    if manifest.exists() and json.loads(manifest.read_text(encoding="utf-8")) != recipe:
        raise InputError(f"{folder} holds another test set: delete it, or name another folder")
    done = len(entries(folder)) if manifest.exists() else 0
    if done >= lines:
        return
    for name in ("hr", "lr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps(recipe) + "\n", encoding="utf-8")
    generator = Generator(seed, judge)
    with (folder / "lines.tsv").open("a", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        if not done:
            table.writerow([field.name for field in fields(Entry)])
        for index in tqdm(range(done, lines), desc="test lines", unit="line"):
            line = generator.line(index)
            Image.fromarray(line.hr).save(folder / "hr" / f"{index:04}.png")
            Image.fromarray(line.lr).save(folder / "lr" / f"{index:04}.png")
            table.writerow([getattr(line.entry, field.name) for field in fields(Entry)])
            file.flush()


def entries(folder: Path) -> list[Entry]:
    """The rows of a test set's table. Raises InputError where there is none."""
    path = folder / "lines.tsv"
    if not path.exists():
        raise InputError(f"no test set in {folder}: write it with python -m benchmarks.testset")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [Entry(**{**row, "index": int(row["index"]), "draws": int(row["draws"])}) for row in rows]  # type: ignore[arg-type]


def read(folder: Path, lines: int) -> Iterator[TestLine]:
    """The first ``lines`` lines of a test set."""
    for entry in entries(folder)[:lines]:
        hr, lr = (np.asarray(Image.open(folder / name / f"{entry.index:04}.png")) for name in ("hr", "lr"))
        yield TestLine(entry, hr, lr)


def check(found: Sequence[Entry]) -> str:
    """One paragraph: what the judge reads, and whether that is within the quotas."""
    hr = np.mean([accuracy(entry.hr_reading, entry.text) for entry in found])
    first = np.mean([entry.draws == 1 for entry in found])
    shares = {
        name: np.mean([accuracy(entry.lr_reading, entry.text) for entry in found if entry.severity == name])
        for name in SEVERITIES
    }
    bicubic = np.mean([accuracy(entry.lr_reading, entry.text) for entry in found])
    fit = hr >= HR_AT_LEAST and BICUBIC_BETWEEN[0] <= bicubic <= BICUBIC_BETWEEN[1]
    detail = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
    return (
        f"{len(found)} lines: the judge reads {hr:.3f} of the HR lines ({first:.3f} at the first draw, lines it "
        f"misreads are drawn anew up to {DRAWS} times) and {bicubic:.3f} of the bicubic ones ({detail}); "
        f"quotas {HR_AT_LEAST} and {BICUBIC_BETWEEN[0]} to {BICUBIC_BETWEEN[1]}: {'met' if fit else 'NOT MET'}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.testset", description="Write the test split.")
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"folder (default: {FOLDER})")
    parser.add_argument("--lines", type=int, default=LINES, help=f"lines (default: {LINES})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed (default: {SEED})")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    import torch

    torch.set_num_threads(options.threads)
    try:
        write(options.out, options.lines, options.seed, Judge(options.threads))
        found = entries(options.out)[: options.lines]
    except InputError as error:
        parser.exit(1, f"{error}\n")
    import sys

    sys.stdout.write(check(found) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
