"""Pools of rendered lines on disk, written ahead of training: ``python -m train.pool --out DIR --lines N``.

A pool is a folder of shards of up to 1,000 lines: ``lines-00000.npy``, uint8 (n, 128, 512, 3), lines right-padded by
repeating their last column as line fitting does; and ``lines-00000.jsonl``, one object a line with text, centres and
widths (shares of 512), width (pixels before padding), font and kind. A shard appears complete or not at all, so a
reader may start while the pool grows. Line i depends on seed, split, kind of texts and i alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from textsr.errors import InputError
from train.render import HEIGHT, WIDTH, RenderAssets, RenderedLine, RenderSpec, render_line
from train.render_colour import DEFAULT_PICTURES
from train.words import TEXTS, Texts, default_symbols

LOG = logging.getLogger(__name__)

SHARD = 1000
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class PoolLine:
    """A line of a pool: image uint8 (128, 512, 3), read-only; centres and widths (n,) as shares of 512."""

    image: np.ndarray
    text: str
    centres: np.ndarray
    widths: np.ndarray
    width: int  # columns before the padding
    font: str
    kind: str


def fit_line(image: np.ndarray) -> np.ndarray:
    """A line uint8 (128, w <= 512, 3) right-padded to 512 by repeating its last column."""
    return np.pad(image, ((0, 0), (0, WIDTH - image.shape[1]), (0, 0)), mode="edge")


def _record(line: RenderedLine) -> dict[str, object]:
    share = line.image.shape[1] / WIDTH
    return {
        "text": line.text,
        "centres": [round(float(value) * share, 5) for value in line.centres],
        "widths": [round(float(value) * share, 5) for value in line.widths],
        "width": int(line.image.shape[1]),
        "font": line.font,
        "kind": line.kind,
    }


@dataclass(frozen=True, kw_only=True)
class PoolJob:
    """What a worker needs to know to write any shard of a pool."""

    out: str
    lines: int
    seed: int
    split: str
    font_folders: tuple[str, ...] = ()
    picture_folders: tuple[str, ...] = DEFAULT_PICTURES
    shard: int = SHARD
    families: int = 1
    texts: Texts = "varied"


@lru_cache(maxsize=2)
def _assets(
    split: str, font_folders: tuple[str, ...], picture_folders: tuple[str, ...], families: int, texts: Texts
) -> RenderAssets:
    return RenderAssets.load(split, default_symbols(), font_folders, picture_folders, families, texts)


def line_generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The generator of line ``index``: the same on every machine and with any number of workers."""
    return np.random.default_rng((seed, SPLITS.index(split), index))


def write_shard(job: PoolJob, number: int) -> int:
    """Writes shard ``number`` unless it is there; returns its lines."""
    folder = Path(job.out)
    pixels, texts = folder / f"lines-{number:05}.npy", folder / f"lines-{number:05}.jsonl"
    first = number * job.shard
    count = min(job.shard, job.lines - first)
    if pixels.exists() and texts.exists():
        return count
    assets = _assets(job.split, job.font_folders, job.picture_folders, job.families, job.texts)
    images = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    records = []
    for place in range(count):
        line = render_line(line_generator(job.seed, job.split, first + place), assets, RenderSpec())
        images[place] = fit_line(line.image)
        records.append(json.dumps(_record(line), ensure_ascii=False))
    unfinished = [path.with_name(f".{path.name}.{os.getpid()}") for path in (texts, pixels)]
    unfinished[0].write_text("\n".join(records) + "\n", encoding="utf-8")
    with unfinished[1].open("wb") as file:
        np.save(file, images)
    for path, final in zip(unfinished, (texts, pixels), strict=True):  # the pixels last: they announce the shard
        path.replace(final)
    return count


def write_pool(job: PoolJob, workers: int = 1) -> int:
    """Writes all shards; returns the number of lines. Shards that are there already are kept."""
    if job.lines < 1 or job.split not in SPLITS:
        raise InputError(f"a pool needs at least one line and a split of {', '.join(SPLITS)}: {job}")
    Path(job.out).mkdir(parents=True, exist_ok=True)
    shards = range(-(-job.lines // job.shard))
    total = 0
    with tqdm(total=job.lines, unit="line") as bar:
        if workers == 1:
            for number in shards:
                total += (done := write_shard(job, number))
                bar.update(done)
        else:
            with ProcessPoolExecutor(workers) as pool:
                for done in pool.map(write_shard, [job] * len(shards), shards):
                    total += done
                    bar.update(done)
    return total


class LinePool:
    """Reader of a pool: ``len``, random access. ``refresh`` finds shards that were written since."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._pixels: list[np.ndarray] = []
        self._records: list[list[dict[str, object]]] = []
        self._ends: list[int] = []
        if self.refresh() == 0:
            raise InputError(f"no shard lines-*.npy in {self.folder}: write one with python -m train.pool --out ...")

    def refresh(self) -> int:
        """Opens new complete shards; returns the number of lines."""
        for path in sorted(self.folder.glob("lines-*.npy"))[len(self._pixels) :]:
            pixels = np.load(path, mmap_mode="r")
            records = [json.loads(line) for line in path.with_suffix(".jsonl").read_text("utf-8").splitlines()]
            if len(records) != len(pixels):
                raise InputError(
                    f"{path}: {len(pixels)} pictures but {len(records)} texts; delete the shard and write it again"
                )
            self._pixels.append(pixels)
            self._records.append(records)
            self._ends.append((self._ends[-1] if self._ends else 0) + len(pixels))
        return len(self)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> PoolLine:
        if not 0 <= index < len(self):
            raise IndexError(f"line {index} of {len(self)}")
        shard = int(np.searchsorted(self._ends, index, side="right"))
        place = index - (self._ends[shard - 1] if shard else 0)
        record = self._records[shard][place]
        return PoolLine(
            self._pixels[shard][place],
            str(record["text"]),
            np.asarray(record["centres"], np.float32),
            np.asarray(record["widths"], np.float32),
            int(str(record["width"])),
            str(record["font"]),
            str(record["kind"]),
        )

    def images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 (B, 128, 512, 3), a copy."""
        return np.stack([self[int(index)].image for index in indices])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m train.pool", description="Write a pool of rendered text lines.")
    parser.add_argument("--out", required=True, help="folder to write; shards that are there are kept")
    parser.add_argument("--lines", type=int, required=True, help="number of lines")
    parser.add_argument("--seed", type=int, default=0, help="seed of the lines (default: 0)")
    parser.add_argument("--split", choices=SPLITS, default="train", help="test: held-out fonts and words")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--fonts", action="append", default=[], metavar="DIR", help="further folder with fonts; repeatable"
    )
    parser.add_argument(
        "--pictures", action="append", default=[], metavar="DIR", help="background pictures; repeatable"
    )
    parser.add_argument("--families", type=int, default=1, help="fail below so many Chinese families (default: 1)")
    parser.add_argument(
        "--texts", choices=list(TEXTS), default="varied",
        help="usual: words as often as they are written, no random characters (default: varied)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    job = PoolJob(
        out=options.out,
        lines=options.lines,
        seed=options.seed,
        split=options.split,
        families=options.families,
        texts=options.texts,
        font_folders=tuple(options.fonts),
        picture_folders=tuple(options.pictures) or DEFAULT_PICTURES,
    )
    try:
        write_pool(job, options.workers)
    except InputError as error:
        parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
