"""``python -m textsr.checkpoint import ...``: the published files as one checkpoint; ``show FILE``: what one states."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import get_args

from textsr.checkpoint.files import read_metadata
from textsr.checkpoint.importing import SOURCES, Import, import_published
from textsr.checkpoint.stated import ALPHABET, SYMBOLS
from textsr.config import SCHEDULES, Preprocessing
from textsr.errors import InputError, TextSRError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m textsr.checkpoint", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    about = "Make a checkpoint of the preset paper. A part without a file is initialised, and the checkpoint says so."
    importing = commands.add_parser("import", help="make a checkpoint from published files", description=about)
    add = importing.add_argument
    helps = {
        "resshift-unet": "ResShift's UNet, such as resshift_realsrx4_s15_v1.pth",
        "vqgan": "its autoencoder, autoencoder_vq_f4.pth",
        "difftsr": "DiffTSR.ckpt: MoM and TDM are taken from it",
        "transocr": "transocr.pth",
    }
    for name in SOURCES:
        add(f"--{name}", type=Path, metavar="F", help=helps[name])
    add("--alphabet", type=Path, metavar="F", help="DiffTSR's 6735 symbols, UTF-8 (default: the shipped alphabet)")
    add(
        "--transocr-alphabet", type=Path, metavar="F", help="TransOCR's 7934 symbols, UTF-8; without it, it cannot read"
    )
    add("--out", type=Path, required=True, metavar="F", help="the checkpoint, .safetensors")
    add("--overwrite", action="store_true", help="replace an existing checkpoint")
    add(
        "--schedule", type=int, default=18, choices=list(SCHEDULES),
        help="T that the UNet is for: 18 the paper's (default), 15 and 4 for ResShift's own checkpoints",
    )  # fmt: skip
    add(
        "--transocr-preprocessing", default="transocr", choices=get_args(Preprocessing),
        help="how TransOCR is shown a line: as it was published (default) or as DiffTSR does",
    )  # fmt: skip
    add("--seed", type=int, default=0, help="of what has no file (default: 0)")
    show = commands.add_parser("show", help="print what a checkpoint states")
    show.add_argument("file", type=Path)
    return parser


def _import(args: argparse.Namespace) -> dict[str, str]:
    if args.out.exists() and not args.overwrite:
        raise InputError(f"{args.out} exists already: use --overwrite or another name")
    files = {name: getattr(args, name.replace("-", "_")) for name in SOURCES}
    given = {name: path for name, path in files.items() if path is not None}
    if any(path.exists() and args.out.exists() and path.samefile(args.out) for path in given.values()):
        raise InputError(f"{args.out} is one of the files to import: give another name")
    wanted = Import(
        files=given, alphabet=args.alphabet, transocr_alphabet=args.transocr_alphabet, schedule=args.schedule,
        preprocessing=args.transocr_preprocessing, seed=args.seed,
    )  # fmt: skip
    return import_published(wanted, args.out)


def summary(metadata: dict[str, str]) -> str:
    """What a checkpoint states, for people: alphabets by their size alone."""
    shown = dict(metadata)
    if ALPHABET in shown:
        shown[ALPHABET] = f"{len(json.loads(shown[ALPHABET])['symbols'])} symbols"
    if SYMBOLS in shown:
        shown[SYMBOLS] = f"{len(shown[SYMBOLS])} symbols"
    return "\n".join(f"{key}: {value}" for key, value in sorted(shown.items()))


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        metadata = _import(args) if args.command == "import" else read_metadata(args.file)
    except TextSRError as error:
        sys.stderr.write(f"textsr.checkpoint: {error}\n")
        return 1
    sys.stdout.write(summary(metadata) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
