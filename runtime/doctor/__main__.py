"""``python -m runtime.doctor``: what there is to run on, what ``auto`` takes and why, and whether it works."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from runtime.bundle import shipped
from runtime.doctor.diagnosis import diagnose
from runtime.doctor.line import STEPS
from runtime.doctor.report import as_json, as_text
from textsr.errors import InputError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
MANUAL = """\
Tells what was found on this machine (GPU, driver, libraries, bundle, engine cache), which executor auto takes and why
no other, what to install for a faster one, and restores a built-in line with every executor that can be opened. Nothing
is fetched. With a GPU and TensorRT the first call builds engines, as the first restoration would.

exit status
  0 at least one executor passed the self-test, with --device cuda one on CUDA (with --no-self-test: auto opened one);
  1 none did; 2 wrong usage; 130 interrupted.
"""


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = argparse.ArgumentParser(
        prog="python -m runtime.doctor", description=MANUAL, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    names = ", ".join(shipped()) or "none"
    add("--bundle", default="compact", help=f"shipped bundle's name ({names}) or a bundle's folder (default: compact)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N: what to choose from and test (default: auto)")
    add("--steps", type=int, default=STEPS, help=f"diffusion steps of the self-test (default: {STEPS})")
    add("--no-self-test", action="store_true", help="restore nothing")
    add("--json", action="store_true", help="print one JSON object instead of text")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        found = diagnose(options.bundle, options.device, steps=options.steps, self_test=not options.no_self_test)
    except InputError as error:
        sys.stderr.write(f"runtime.doctor: {error}\n")
        return MISUSED
    except KeyboardInterrupt:
        sys.stderr.write("runtime.doctor: interrupted\n")
        return INTERRUPTED
    sys.stdout.write(json.dumps(as_json(found), indent=1, ensure_ascii=True) + "\n" if options.json else as_text(found))
    return 0 if found.ok else FAILED


if __name__ == "__main__":
    sys.exit(main())
