"""PaddleOCR with restoration before its recogniser: python examples/plugins/paddle_page.py photo.jpg

Needs: pip install textsr[ocr] paddleocr paddlepaddle. PaddleOCR downloads its weights.
"""

import argparse
import sys

from paddleocr import PaddleOCR

from runtime import Restorer
from runtime.options import Options
from runtime.plugins import Lines
from runtime.plugins.paddleocr import attach

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("page")
parser.add_argument("--bundle", default="compact")
parser.add_argument("--deadline", type=float, metavar="MS", help="for the restoration of a page's lines")
given = parser.parse_args()

lines = Lines(Restorer.open(given.bundle), Options(deadline_ms=given.deadline), below=0.9, keep="better")
ocr = attach(PaddleOCR(), lines)
for page in ocr.predict(given.page):
    for text, score in zip(page["rec_texts"], page["rec_scores"], strict=True):
        sys.stdout.write(f"{score:.3f} {text}\n")
sys.stdout.write(f"{lines.counts}\n")
