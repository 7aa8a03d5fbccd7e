"""Any recogniser with restoration before it: python examples/plugins/own.py line.png [line.png ...]

``recognise`` stands for yours: crops (h, w, 3) uint8 in, one reading each out. Needs: pip install textsr[ocr]
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image

from runtime import Restorer
from runtime.options import Options
from runtime.plugins import Lines, wrap
from runtime.recognizer import PPOCRReader

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("line", nargs="+")
parser.add_argument("--bundle", default="compact")
parser.add_argument("--deadline", type=float, metavar="MS", help="for the restoration of all lines")
given = parser.parse_args()
reader = PPOCRReader()


def recognise(crops: Sequence[np.ndarray]) -> list[str]:
    return [reading.text for reading in reader.read(crops)]


read = wrap(recognise, Lines(Restorer.open(given.bundle), Options(deadline_ms=given.deadline)))
for name, text in zip(
    given.line, read([np.asarray(Image.open(path).convert("RGB")) for path in given.line]), strict=True
):
    sys.stdout.write(f"{name} {text}\n")
