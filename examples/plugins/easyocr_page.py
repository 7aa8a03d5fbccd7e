"""EasyOCR with restoration before its recogniser: python examples/plugins/easyocr_page.py photo.jpg

Needs: pip install textsr[ocr] easyocr. EasyOCR downloads its weights.
"""

import argparse
import sys

from easyocr import Reader

from runtime import Restorer
from runtime.options import Options
from runtime.plugins import Lines
from runtime.plugins.easyocr import attach

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("page")
parser.add_argument("--bundle", default="compact")
parser.add_argument("--deadline", type=float, metavar="MS", help="for the restoration of a page's lines")
given = parser.parse_args()

lines = Lines(Restorer.open(given.bundle), Options(deadline_ms=given.deadline), below=0.9, keep="better")
reader = attach(Reader(["ch_sim", "en"]), lines)
for _, text, score in reader.readtext(given.page):
    sys.stdout.write(f"{score:.3f} {text}\n")
sys.stdout.write(f"{lines.counts}\n")
