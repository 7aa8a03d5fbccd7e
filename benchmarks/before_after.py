"""The README's picture: ``python benchmarks/before_after.py``.

Lines chosen by rule: the first ones of enough characters. With ``--examples DIR`` it also writes their
low-resolution pictures, which the README's first command restores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import testset
from runtime import Restorer
from textsr.images import save_png

GAP = 8
WIDTH, HEIGHT = 512, 128


def chosen(folder: Path, count: int, shortest: int, severities: Sequence[str]) -> list[testset.TestLine]:
    """The first ``count`` lines of the test split of these severities with at least ``shortest`` characters."""
    lines = testset.read(folder, len(testset.entries(folder)))
    found: list[testset.TestLine] = []
    for line in lines:
        if len(line.entry.text) >= shortest and line.entry.severity in severities:
            found.append(line)
        if len(found) == count:
            break
    return found


def picture(rows: Sequence[Sequence[np.ndarray]]) -> Image.Image:
    """A white sheet, a row for each line, each picture at most 512 wide."""
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (WIDTH + GAP) - GAP, len(rows) * (HEIGHT + GAP) - GAP), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(Image.fromarray(image), (x * (WIDTH + GAP), y * (HEIGHT + GAP)))
    return sheet


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--testset", type=Path, default=testset.FOLDER, help="folder of the test split")
    parser.add_argument("--bundle", default="compact")
    parser.add_argument("--lines", type=int, default=12)
    parser.add_argument("--shortest", type=int, default=4, help="characters (default: 4)")
    parser.add_argument("--severities", default="mild,medium", help="mild, medium, strong (default: mild,medium)")
    parser.add_argument("--out", type=Path, default=Path("docs/before_after.png"))
    parser.add_argument("--examples", type=Path, help="also write the low-resolution lines here")
    given = parser.parse_args(arguments)
    lines = chosen(given.testset, given.lines, given.shortest, given.severities.split(","))
    restorer, inputs = Restorer.open(given.bundle), [line.lr for line in lines]
    shown = [[testset.enlarge(image) for image in inputs]]
    shown += [[result.image for result in restorer(inputs, paint=paint)] for paint in (None, 0.0)]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    picture(list(zip(*shown, strict=True))).save(given.out)
    if given.examples is not None:
        given.examples.mkdir(parents=True, exist_ok=True)
        for line in lines:
            save_png(given.examples / f"line_{line.entry.index:03}.png", line.lr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
