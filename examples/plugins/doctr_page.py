"""docTR with restoration before its recogniser: python examples/plugins/doctr_page.py photo.jpg

Needs: pip install textsr[ocr] python-doctr. docTR downloads its weights.
"""

import argparse
import sys

from doctr.io import DocumentFile
from doctr.models import ocr_predictor

from runtime import Restorer
from runtime.options import Options
from runtime.plugins import Lines
from runtime.plugins.doctr import attach

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("page")
parser.add_argument("--bundle", default="compact")
parser.add_argument("--deadline", type=float, metavar="MS", help="for the restoration of a page's words")
parser.add_argument("--untrained", action="store_true", help="random weights, nothing is downloaded: reads nonsense")
given = parser.parse_args()

lines = Lines(Restorer.open(given.bundle), Options(deadline_ms=given.deadline), below=0.9, keep="better")
plain = ocr_predictor(pretrained=not given.untrained, pretrained_backbone=not given.untrained)
predictor = attach(plain, lines)
sys.stdout.write(f"{predictor(DocumentFile.from_images(given.page)).render()}\n")
sys.stdout.write(f"{lines.counts}\n")
