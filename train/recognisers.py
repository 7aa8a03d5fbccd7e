"""The two recognisers of Algorithm 1: what each reads on a batch of degraded lines, and its loss on restored ones.

TransOCR is the paper's and comes in the checkpoint; PP-OCRv6 has its own weights here, not those for degraded lines
that the product reads with (`train.reader`), which are easier to please. Both are frozen, run on the device of the
model, and read what they would be shown when a line is restored.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from textsr.alphabet import Alphabet
from textsr.errors import InputError
from textsr.fit import Place
from textsr.graphs import Model, graphs
from textsr.reading import LineReading, TextArrays, conditions, stacked
from textsr.recognition import START, TransOCRReader
from textsr.torch_executor import TorchExecutor
from train.losses import RecognizerLoss

log = logging.getLogger(__name__)

Ocr = Literal["auto", "transocr", "ppocr"]
HEIGHT, STRIDE, NARROWEST = 48, 32, 320
"""PP-OCR's input: pixels of height, what its width is a multiple of, and its least width (`runtime.recognizer`)."""
IGNORED = -100


class Recogniser(Protocol):
    """Reads lines, and says how badly restored ones read."""

    name: str

    def read(self, lq: Tensor, filled: Tensor) -> list[LineReading]:
        """Readings of lq (B,3,h,w) in [-1,1], lines that fill the first ``filled`` (B,) of the width.

        Centres are shares of the whole width.
        """

    def loss(self, image: Tensor, texts: Sequence[str], filled: Tensor) -> Tensor:
        """Cross-entropy (B,) in nats a character of ``texts`` on image (B,3,H,W) in [-1,1].

        0 for a line without text, or with a character that the recogniser does not know.
        """


class PPOCR(nn.Module):
    """PP-OCRv6 (rapidocr's small model): CTC loss as `train.losses.RecognizerLoss` has it, greedy reading."""

    name = "PP-OCRv6"

    def __init__(self) -> None:
        """Raises InputError where rapidocr is not installed."""
        super().__init__()
        self.ctc = RecognizerLoss()

    @torch.no_grad()
    def read(self, lq: Tensor, filled: Tensor) -> list[LineReading]:
        """See `Recogniser`. The input is the product's."""
        with torch.autocast(lq.device.type, enabled=False):
            image = shown(lq.float(), filled)
            probabilities = self.ctc.network(image).softmax(-1)
        return read_ctc(probabilities, self.ctc.symbols, image.shape[3] / natural_width(lq))

    def loss(self, image: Tensor, texts: Sequence[str], filled: Tensor) -> Tensor:
        """See `Recogniser`."""
        return self.ctc(image, texts, filled)


def natural_width(image: Tensor) -> int:
    """Columns of lines (B,3,h,w) at PP-OCR's height."""
    return HEIGHT * image.shape[3] // image.shape[2]


def shown(image: Tensor, filled: Tensor, *, antialias: bool = False) -> Tensor:
    """PP-OCR's input (B,3,48,width), BGR in [-1,1], of lines (B,3,h,w) in [-1,1] that fill the first ``filled`` (B,) of
    their width: 48 pixels high, zeros beside the line. ``antialias`` for lines that are higher than that."""
    natural = natural_width(image)
    width = max(NARROWEST, -(-natural // STRIDE) * STRIDE)
    image = F.interpolate(image, (HEIGHT, natural), mode="bilinear", align_corners=False, antialias=antialias).flip(1)
    inside = torch.arange(natural, device=image.device) < (filled.to(image.device) * natural).ceil()[:, None]
    return F.pad(image * inside[:, None, None, :], (0, width - natural))


def read_ctc(probabilities: Tensor, symbols: Sequence[str], stretch: float = 1.0) -> list[LineReading]:
    """Greedy readings of probabilities (B,T,classes), the line filling the first 1 / ``stretch`` of the steps."""
    sure, best = probabilities.float().max(-1)
    pairs = zip(best.cpu().numpy(), sure.cpu().numpy(), strict=True)
    return [_decode(row, certain, symbols, stretch) for row, certain in pairs]


def _decode(
    best: NDArray[np.int64], sure: NDArray[np.float32], symbols: Sequence[str], stretch: float
) -> LineReading:  # fmt: skip
    """A character is a run of steps of one class, as sure as its surest step, in the middle of the run."""
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    ends = np.append(starts[1:], len(best))
    runs = [(int(start), int(end)) for start, end in zip(starts, ends, strict=True) if best[start] != 0]
    text = "".join(symbols[best[start]] for start, _ in runs)
    confidences = tuple(min(1.0, float(sure[start:end].max())) for start, end in runs)
    centres = tuple(min(1.0, (start + end) / 2 / len(best) * stretch) for start, end in runs)
    return LineReading(text, confidences, centres)


class TransOCRGuide(nn.Module):
    """The checkpoint's TransOCR: greedy reading as the product has it, teacher-forced cross-entropy."""

    name = "TransOCR"

    def __init__(self, full: Model, symbols: Sequence[str], alphabet: Alphabet) -> None:
        """Raises InputError where the model has no TransOCR, or ``symbols`` are not those of its classes."""
        super().__init__()
        config = full.preset.transocr
        if config is None or not symbols:
            raise InputError(
                "--ocr transocr needs a checkpoint with TransOCR and its symbols: import one with --transocr and "
                "--transocr-alphabet (python -m textsr.checkpoint import), or give --ocr ppocr"
            )
        self.config, self.alphabet = config, alphabet
        self.network = full.transocr.eval()
        device = next(full.transocr.parameters()).device
        names = ("recognizer_encoder", "recognizer_step")
        executor = TorchExecutor({name: graphs(full)[name] for name in names}, device)
        self.reader = TransOCRReader(executor, config, symbols, batch_size=64)
        self._classes = {symbol: number for number, symbol in enumerate(symbols, START + 1)}

    @torch.no_grad()
    def read(self, lq: Tensor, filled: Tensor) -> list[LineReading]:
        """See `Recogniser`. Of a padded line only the filled part is shown."""
        pixels = lq.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        columns = [max(1, round(share * pixels.shape[2])) for share in filled.tolist()]
        with torch.autocast(lq.device.type, enabled=False):
            readings = self.reader.read([line[:, :count] for line, count in zip(pixels, columns, strict=True)])
        shares = [count / pixels.shape[2] for count in columns]
        return [
            LineReading(reading.text, reading.confidences, tuple(centre * share for centre in reading.centres))
            for reading, share in zip(readings, shares, strict=True)
        ]

    def loss(self, image: Tensor, texts: Sequence[str], filled: Tensor) -> Tensor:
        """See `Recogniser`; the end of the text counts as a character."""
        targets = [self.encode(text) for text in texts]
        length = max(len(target) for target in targets) + 1
        prefix = torch.full((len(texts), length), START)
        wanted = torch.full((len(texts), length), IGNORED)
        for row, target in enumerate(targets):
            if target:
                prefix[row, 1 : len(target) + 1] = torch.tensor(target)
                wanted[row, : len(target) + 1] = torch.tensor([*target, self.reader.end])
        with torch.autocast(image.device.type, enabled=False):
            logits = self.network(self.prepare(image.float(), filled), prefix.to(image.device))
        wanted = wanted.to(image.device)
        each = F.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none")
        return each.sum(1) / (wanted != IGNORED).sum(1).clamp(min=1)

    def encode(self, text: str) -> list[int]:
        """The classes of ``text``: of a character, of what it folds to, or of its lower case; empty if one has none."""
        classes = []
        for symbol in text:
            folded = self.alphabet.fold(symbol)
            found = [self._classes[s] for s in (symbol, folded, symbol.lower(), folded.lower()) if s in self._classes]
            if not found:
                return []
            classes.append(found[0])
        return classes

    def prepare(self, image: Tensor, filled: Tensor) -> Tensor:
        """The recogniser's input (B,3,32,256): the filled part of each line, as `textsr.recognition.prepare` has it."""
        size = self.config.height, self.config.width
        columns = [max(1, round(share * image.shape[3])) for share in filled.tolist()]
        lines = [line[None, :, :, :count] for line, count in zip(image, columns, strict=True)]
        if self.config.preprocessing == "difftsr":
            return torch.cat([F.interpolate(line, size, mode="nearest") for line in lines]).add(1).div(2)
        return torch.cat([F.interpolate(line, size, mode="bilinear", align_corners=False) for line in lines])


def choose(ocr: Ocr, full: Model, symbols: Sequence[str], alphabet: Alphabet) -> PPOCR | TransOCRGuide:
    """The recogniser of a run; ``auto``: TransOCR where the checkpoint has it with its symbols, else PP-OCRv6.

    Raises InputError where it cannot be had.
    """
    if ocr == "transocr" or (ocr == "auto" and symbols and full.preset.transocr is not None):
        return TransOCRGuide(full, symbols, alphabet)
    if ocr == "auto":
        log.info("the checkpoint has no TransOCR with its symbols: PP-OCRv6 reads the lines and gives the loss")
    return PPOCR()


def text_arrays(readings: Sequence[LineReading], alphabet: Alphabet, place: Place, max_chars: int) -> TextArrays:
    """Readings with centres in shares of the whole width as the model's arrays (B, max_chars)."""
    rows = [conditions(reading, alphabet, place, max_chars) for reading in readings]
    return stacked(rows)
