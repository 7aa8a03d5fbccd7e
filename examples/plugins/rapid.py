"""RapidOCR with restoration between detection and recognition: python examples/plugins/rapid.py photo.jpg

Needs: pip install textsr[ocr]
"""

import argparse
import sys

from rapidocr import RapidOCR

from runtime import Restorer
from runtime.options import Options
from runtime.plugins import Lines
from runtime.plugins.rapidocr import attach

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("page")
parser.add_argument("--bundle", default="compact")
parser.add_argument("--deadline", type=float, metavar="MS", help="for the restoration of a page's lines")
given = parser.parse_args()

# Only lines that RapidOCR is unsure of are restored, and the surer of both readings is kept.
lines = Lines(Restorer.open(given.bundle), Options(deadline_ms=given.deadline), below=0.9, keep="better")
ocr = attach(RapidOCR(params={"Global.log_level": "error"}), lines)
found = ocr(given.page)
for text, score in zip(found.txts or (), found.scores or (), strict=False):
    sys.stdout.write(f"{score:.3f} {text}\n")
sys.stdout.write(f"{lines.counts}\n")
