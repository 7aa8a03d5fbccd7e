"""RapidOCR (package ``rapidocr`` 3): its crops are restored after detection and turning, before they are read.

Where RapidOCR reads with PP-OCRv6, its default, it is, but for some training, the recogniser that also tells our
restoration what a line says: its confidence in a restored line is then no independent witness.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rapidocr import RapidOCR

from runtime.plugins.hook import hook
from runtime.plugins.lines import Crop, Lines


@dataclass(frozen=True)
class _Read:
    """A line as RapidOCR gives it."""

    text: str
    score: float
    words: Any


def attach(ocr: RapidOCR, lines: Lines) -> RapidOCR:
    """Puts restoring by ``lines`` into this RapidOCR and returns it; what ``ocr`` returns is unchanged but for what the
    lines say.

    :raises InputError: something is attached already, or this version of RapidOCR has no ``recognize_txt``.
    """
    hook(ocr, ocr, "recognize_txt", lambda original: lambda img: _recognise(original, lines, img))
    return ocr


def _recognise(original: Any, lines: Lines, crops: Sequence[Crop]) -> Any:
    """RapidOCR's ``recognize_txt``: a TextRecOutput whose pictures are the crops as they came."""
    begin = time.perf_counter()
    last: list[Any] = []

    def recognise(shown: Sequence[Crop]) -> list[_Read]:
        last[:] = [original(list(shown))]
        return [_Read(*one) for one in zip(last[0].txts, last[0].scores, last[0].word_results, strict=True)]

    found = lines.read(crops, recognise, lambda read: float(read.score), "bgr")
    texts, scores, words = (tuple(getattr(read, name) for read in found) for name in ("text", "score", "words"))
    elapse = time.perf_counter() - begin
    return replace(last[0], imgs=list(crops), txts=texts, scores=scores, word_results=words, elapse=elapse)
