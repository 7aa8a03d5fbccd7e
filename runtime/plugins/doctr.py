"""docTR (package ``python-doctr``): the word crops that its OCR predictor cuts are restored before they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from runtime.plugins.hook import hook
from runtime.plugins.lines import Crop, Lines

Predictor = TypeVar("Predictor")


def attach(predictor: Predictor, lines: Lines) -> Predictor:
    """Puts restoring by ``lines`` into a predictor of ``doctr.models.ocr_predictor``, its kin for key information, or a
    bare one of ``recognition_predictor``, and returns it; the documents that it returns are unchanged but for what
    words say.

    :raises InputError: something is attached already, or this version is built otherwise.
    """
    recogniser: Any = getattr(predictor, "reco_predictor", predictor)
    hook(predictor, recogniser, "forward", lambda original: _Restoring(original, lines))
    return predictor


class _Restoring:
    """In the place of RecognitionPredictor.forward: (text, confidence) for each RGB crop."""

    def __init__(self, original: Any, lines: Lines) -> None:
        self._original, self._lines = original, lines

    def __call__(self, crops: Sequence[Crop], **options: Any) -> list[tuple[str, float]]:
        return self._lines.read(crops, lambda shown: self._original(list(shown), **options), _confidence)


def _confidence(read: tuple[str, float]) -> float:
    return float(read[1])
