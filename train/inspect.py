"""``python -m train.inspect DATA...``: what is in a data set, what is left out and why, and a contact sheet."""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from textsr.alphabet import Alphabet
from textsr.config import PRESETS, preset
from textsr.errors import InputError, TextSRError
from textsr.images import save_png
from train.data import HELP, BrokenRecord, Dataset, Line, Report, open_data
from train.data.contact import contact_sheet
from train.degrade_ops import Seeds, sample_seed
from train.degrade_sources import three_sources

NAMED = 3  # records named of each reason
SHEET_SEED = 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m train.inspect",
        description=f"Counts and shows data sets. DATA is:\n{HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("data", nargs="+", metavar="DATA")
    made.add_argument("--sheet", type=Path, default=Path("contact.png"), help="contact sheet (default: contact.png)")
    made.add_argument("--lines", type=int, default=24, help="lines on it, at even distances; 0: no sheet (24)")
    made.add_argument("--drops", type=Path, help="TSV to write with every record that is left out, and why")
    made.add_argument("--preset", default="compact", choices=sorted(PRESETS), help="whose fitting is shown (compact)")
    made.add_argument("--split", choices=("train", "test", "all"), default="all", help="part to look at (all)")
    made.add_argument("--read", type=int, default=200, help="lines decoded for the figures of texts and sizes (200)")
    return made


def places(count: int, wanted: int) -> list[int]:
    """``wanted`` places of ``count``, at even distances."""
    few = min(count, wanted)
    return [round((place + 0.5) * count / few - 0.5) for place in range(few)]


def read_some(dataset: Dataset, wanted: int) -> list[Line]:
    """Lines at even distances; those that cannot be read go to the report."""
    lines = []
    for place in tqdm(places(len(dataset), wanted), desc="reading", unit="line", disable=wanted < 100):
        try:
            lines.append(dataset[place])
        except BrokenRecord:  # counted by the data set
            continue
    return lines


def describe(report: Report) -> str:
    """Counts, and the records that are left out by reason with the first few names."""
    rows = [report.summary().partition("\n")[0]]
    for reason, count in report.reasons().items():
        rows.append(f"  {count} left out: {reason}")
        named = [drop for drop in report.drops if drop.reason == reason][:NAMED]
        rows += [f"    {drop.name}" + (f": {drop.detail}" if drop.detail else "") for drop in named]
        if count > NAMED:
            rows.append(f"    and {count - NAMED} more")
    return "\n".join(rows)


def figures(lines: Sequence[Line]) -> str:
    """Lengths and symbols of the texts, widths, and which lines have places or a real low resolution."""
    if not lines:
        return "  no line could be read"
    alphabet = Alphabet.load()
    lengths, widths = [len(line.text) for line in lines], [line.width for line in lines]
    characters = Counter(character for line in lines for character in alphabet.fold(line.text) if character != " ")
    unknown = {character: count for character, count in characters.items() if character not in alphabet}
    share = sum(unknown.values()) / max(1, characters.total())
    rows = [
        f"  {len(lines)} read: texts of {_spread(lengths)} characters, "
        f"{len(characters)} different ones, {share:.2%} outside the alphabet",
        f"  width before padding: {_spread(widths)} of 512 columns",
        f"  places of characters known: {sum(line.placed for line in lines)}; "
        f"real low resolution: {sum(line.lr is not None for line in lines)}",
    ]
    if unknown:
        often = sorted(unknown, key=lambda character: -unknown[character])[:20]
        rows[0] += f" ({''.join(often)})"
    return "\n".join(rows)


def _spread(values: Sequence[int]) -> str:
    low, middle, high = np.percentile(values, (5, 50, 95))
    return f"{low:.0f} to {high:.0f} (median {middle:.0f})"


def low_resolution(lines: Sequence[Line]) -> list[NDArray[np.uint8]]:
    """(32, 128, 3) of each line: the real one, or one degraded as training does at its end."""
    made = []
    for number, line in enumerate(lines):
        if line.lr is not None:
            made.append(line.lr)
            continue
        hr = torch.from_numpy(np.array(line.image)).permute(2, 0, 1)[None].float() / 255
        lq = three_sources(hr, 1.0, Seeds(torch.tensor([sample_seed(SHEET_SEED, 0, number)])))
        made.append(lq[0].permute(1, 2, 0).mul(255).round().byte().numpy())
    return made


def write_drops(path: Path, reports: Sequence[Report]) -> None:
    """Source, name, reason and detail of every record left out. Raises InputError where it cannot be written."""
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, delimiter="\t", lineterminator="\n")
            table.writerow(("source", "name", "reason", "detail"))
            for report in reports:
                table.writerows((report.source, drop.name, drop.reason, drop.detail) for drop in report.drops)
    except OSError as error:
        raise InputError(f"--drops {path}: {error.strerror}") from error


def look(spec: str, options: argparse.Namespace) -> tuple[list[Line], Report]:
    """Prints what a data set holds; returns lines for the sheet, and its report."""
    dataset = open_data(spec, preset=preset(options.preset), split=options.split)
    lines = read_some(dataset, max(options.read, 1))
    shown = read_some(dataset, options.lines // len(options.data))
    sys.stdout.write(f"{describe(dataset.report)}\n{figures(lines)}\n")
    return shown, dataset.report


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; a source that cannot be used is named, the others go on, and the exit code is 1."""
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    options = parser().parse_args(arguments)
    failed, lines, reports = 0, list[Line](), list[Report]()
    for spec in options.data:
        try:
            shown, report = look(spec, options)
        except TextSRError as error:
            sys.stderr.write(f"train.inspect: {error}\n")
            failed = 1
            continue
        lines += shown
        reports.append(report)
    try:
        if options.drops is not None:
            write_drops(options.drops, reports)
        if lines:
            save_png(options.sheet, np.asarray(contact_sheet(lines, low_resolution(lines))))
            sys.stdout.write(f"{len(lines)} lines in {options.sheet}\n")
    except InputError as error:
        sys.stderr.write(f"train.inspect: {error}\n")
        failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
