"""``python -m benchmarks.difftsr INPUT... -o OUT``: the DiffTSR baseline on pictures of text lines."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.difftsr.lines import baseline_alphabet, from_network, open_reader, stretched, to_network, tokens_of
from benchmarks.difftsr.model import DiffTSR
from benchmarks.difftsr.networks import SIZES
from benchmarks.difftsr.sampler import Options, restore
from textsr.alphabet import Alphabet
from textsr.checkpoint.importing import SOFT_HYPHEN, read_symbols
from textsr.errors import InputError, TextSRError
from textsr.images import load_image, save_png
from textsr.inputs import Item, check_outputs, collect
from textsr.noise import image_key
from textsr.recognition import TransOCRReader
from textsr.sidecars import read_texts

FAILED, MISUSED = 1, 2


@dataclass(frozen=True)
class Baseline:
    """The networks and what turns texts into their tokens; without a reader, lines without a text are padding."""

    model: DiffTSR
    alphabet: Alphabet
    reader: TransOCRReader | None


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.difftsr",
        description="Restores pictures of text lines with DiffTSR, stretched to 512 x 128 pixels as it was released.",
        epilog="Exit status: 0 all restored, 1 some failed (each is named, the others are done), 2 wrong usage.",
    )
    add = made.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="file, folder or glob")
    add("-o", "--out", required=True, type=Path, metavar="OUT", help="folder for the results, made if missing")
    weights = made.add_mutually_exclusive_group(required=True)
    weights.add_argument("--checkpoint", type=Path, metavar="F", help="DiffTSR.ckpt")
    weights.add_argument("--random", action="store_true", help="random weights: the cost is real, the pictures are not")
    add("--transocr", type=Path, metavar="F", help="transocr.pth, which reads lines that --text says nothing of")
    add("--alphabet", type=Path, metavar="F", help="DiffTSR's 6735 symbols, UTF-8: needed for texts with --checkpoint")
    add("--transocr-alphabet", type=Path, metavar="F", help="TransOCR's 7934 symbols, UTF-8: needed with --transocr")
    add("--size", choices=list(SIZES), default="full", help="small: the same networks in miniature, for tests")
    add("--steps", type=int, default=200, help="DDIM steps, 1 to 1000 (default: 200)")
    add("--eta", type=float, default=0.2, help="noise of the DDIM steps, 0 to 1 (default: 0.2)")
    add("--text-diffusion", action="store_true", help="draw the text anew at each step; off as in the release")
    add("--text", help="what the line says, or a sidecar .tsv with the texts of many pictures")
    add("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    add("--batch-size", type=int, default=1, help="lines at a time (default: 1)")
    add("--seed", type=int, default=0, help="of the noise, and of random weights (default: 0)")
    add("--overwrite", action="store_true", help="replace existing results")
    return made


def open_baseline(options: argparse.Namespace, *, with_text: bool) -> Baseline:
    """The networks that the options name. Says on standard output where their weights come from.

    Raises InputError where options contradict each other, BundleError where a file does not fit.
    """
    sizes = SIZES[options.size]
    if options.random and options.transocr:
        raise InputError("--random makes all weights: leave --transocr out")
    if (options.transocr is None) != (options.transocr_alphabet is None):
        raise InputError("--transocr and --transocr-alphabet go together: its classes mean nothing without symbols")
    if options.checkpoint and options.alphabet is None and (with_text or options.transocr):
        raise InputError("DiffTSR's tokens are places in its own alphabet: give --alphabet, or no text at all")
    symbols = read_symbols(options.alphabet) if options.alphabet else Alphabet.load().symbols
    alphabet = baseline_alphabet(symbols, sizes.preset)
    if options.random:
        sys.stdout.write(f"random weights of seed {options.seed}: costs are real, pictures mean nothing\n")
        model = DiffTSR.random(options.seed, sizes, device=options.device, transocr=False)
        return Baseline(model, alphabet, None)
    sys.stdout.write(f"weights of {options.checkpoint}; TransOCR: {options.transocr or 'none'}; nothing is random\n")
    model = DiffTSR.open(options.checkpoint, options.transocr, sizes, device=options.device)
    if options.transocr is None:
        return Baseline(model, alphabet, None)
    classes = read_symbols(options.transocr_alphabet)
    if sizes.preset.transocr is not None and len(classes) == sizes.preset.transocr.classes - 3:
        classes = (SOFT_HYPHEN, *classes)
    return Baseline(model, alphabet, open_reader(model, classes))


def restore_batch(
    baseline: Baseline, images: Sequence[NDArray[np.uint8]], texts: Sequence[str | None], options: Options
) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """Restored lines (H, W, 3) uint8 and the texts they started from; None is read, or padding without a reader."""
    preset = baseline.model.preset
    lines = [stretched(image, preset) for image in images]
    unread = [place for place, text in enumerate(texts) if text is None]
    said = [text or "" for text in texts]
    if baseline.reader is not None and unread:
        for place, reading in zip(unread, baseline.reader.read([lines[place] for place in unread]), strict=True):
            said[place] = reading.text
    tokens = tokens_of(said, baseline.alphabet, preset.max_chars)
    keys = [image_key(image) for image in images]
    restored = restore(baseline.model, to_network(lines), tokens, keys, options, progress=True)
    return [from_network(image) for image in restored.image.numpy()], said


def _batches(
    items: Sequence[Item], texts: Sequence[str | None], size: int, failed: list[str]
) -> Iterator[list[tuple[Item, NDArray[np.uint8], str | None]]]:
    """Loaded pictures, ``size`` at a time; those that cannot be read go to ``failed``."""
    batch = []
    for item, text in zip(tqdm(items, desc="DiffTSR", unit="line", disable=None), texts, strict=True):
        try:
            batch.append((item, load_image(item.path), text))
        except InputError as error:
            failed.append(f"{item.path}: {error}")
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _restore_all(
    baseline: Baseline, items: Sequence[Item], texts: Sequence[str | None], options: argparse.Namespace,
    how: Options, failed: list[str],
) -> int:  # fmt: skip
    """Restores and writes batch by batch; the number written, the others with their reasons in ``failed``."""
    done = 0
    for batch in _batches(items, texts, options.batch_size, failed):
        images, said = restore_batch(baseline, [image for _, image, _ in batch], [text for *_, text in batch], how)
        for (item, _, _), image, text in zip(batch, images, said, strict=True):
            try:
                save_png(item.output(options.out), image)
            except InputError as error:
                failed.append(str(error))
                continue
            done += 1
            tqdm.write(f"{item.path}: text {text!r}", file=sys.stdout)
    return done


def _run(options: argparse.Namespace) -> int:
    how = Options(options.steps, options.eta, options.text_diffusion, options.seed)
    if options.batch_size < 1:
        raise InputError(f"--batch-size must be 1 or more, not {options.batch_size}")
    found = collect(options.inputs, options.out)
    check_outputs(found.items, options.out, compare=False, overwrite=options.overwrite)
    texts = [None if given is None else given.text for given in read_texts(options.text, found.items)]
    failed = [f"{name}: {reason}" for name, reason in found.failures]
    done = 0
    if found.items:
        baseline = open_baseline(options, with_text=any(texts))
        done = _restore_all(baseline, found.items, texts, options, how, failed)
    for reason in failed:
        sys.stderr.write(f"{reason}\n")
    text = "drawn anew at each step" if how.text_diffusion else "kept as it was read or given"
    sys.stdout.write(f"{done} restored in {options.out}, {how.steps} DDIM steps, text {text}; {len(failed)} failed\n")
    return FAILED if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return _run(options)
    except TextSRError as error:
        sys.stderr.write(f"{error}\n")
        return MISUSED if isinstance(error, InputError) else FAILED


if __name__ == "__main__":
    raise SystemExit(main())
