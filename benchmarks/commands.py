"""What the commands of benchmarks with a generated part share: their frame, and the options of what restores."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks import blocks
from textsr.errors import TextSRError


class Figures(Protocol):
    """A module of figures: the name of its generated part, what was kept of them, and the part by file."""

    BLOCK: str

    def read(self) -> dict[str, Any]:
        """Raises InputError where nothing was measured."""

    def parts(self, found: Any, /) -> Mapping[Path, str]:
        """See `blocks.write`."""


def run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    figures: Figures,
    measured: Callable[[argparse.Namespace, Sequence[str]], int],
) -> int:
    """The command: with ``--readme`` the part of ``figures`` is put into the documents, else ``measured`` is given the
    options and the words they were read from. The exit code; 1 with a message when something is missing."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        if options.readme:
            blocks.write(figures.BLOCK, figures.parts(figures.read()))
            return 0
        return measured(options, words)
    except TextSRError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def add_restorer(made: argparse.ArgumentParser, threads: str = "CPU threads (default: all)") -> None:
    """``--bundle``, ``--device``, ``--threads`` with this help, and ``--seed``."""
    made.add_argument("--bundle", default="compact", help="name or folder of the bundle (default: compact)")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    made.add_argument("--threads", type=int, default=os.cpu_count() or 1, help=threads)
    made.add_argument("--seed", type=int, default=0, help="seed of the restoration")
