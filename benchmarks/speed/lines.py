"""The lines that are restored: the test set's, or noise where it is not made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHAPE = (32, 128, 3)
"""Of a line of noise: one that the presets' height and width hold without change."""


def noise(count: int) -> list[NDArray[np.uint8]]:
    """Lines of noise: speed does not depend on what is to be seen."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, SHAPE, dtype=np.uint8) for _ in range(count)]


def sample_lines(folder: Path, count: int) -> list[NDArray[np.uint8]]:
    """The first lines of the test set, begun anew where it has fewer; noise where it is not made."""
    if not (folder / "lines.tsv").exists():
        return noise(count)
    from benchmarks import testset  # the judge comes with it, which noise does not need

    lines = [line.lr for line in testset.read(folder, count)]
    return [lines[place % len(lines)] for place in range(count)]
