"""PaddleOCR 3 (packages ``paddleocr`` and ``paddlex``): a page's list of line crops is restored before it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from runtime.plugins.hook import hook
from runtime.plugins.lines import Crop, Lines
from textsr.errors import InputError

Product = TypeVar("Product")


def attach(ocr: Product, lines: Lines) -> Product:
    """Puts restoring by ``lines`` into ``ocr``, a ``PaddleOCR`` or an OCR pipeline of PaddleX, and returns it; its
    results are unchanged but for what the lines say.

    :raises InputError: something is attached already, the pipeline runs on several devices, or is built otherwise.
    """
    pipeline: Any = getattr(ocr, "paddlex_pipeline", ocr)
    if getattr(pipeline, "multi_device_inference", False):
        raise InputError("PaddleOCR runs on several devices: restoring is attached to pipelines on one")
    pipeline = vars(pipeline).get("_pipeline", pipeline)
    hook(ocr, pipeline, "text_rec_model", lambda original: _Restoring(original, lines))
    return ocr


class _Restoring:
    """In the place of the pipeline's text_rec_model: a mapping with rec_text and rec_score for each BGR crop."""

    def __init__(self, original: Any, lines: Lines) -> None:
        self._original, self._lines = original, lines

    def __call__(self, crops: Sequence[Crop], **options: Any) -> list[Mapping[str, Any]]:
        return self._lines.read(crops, lambda shown: list(self._original(list(shown), **options)), _confidence, "bgr")

    def __getattr__(self, name: str) -> Any:
        """All else that the pipeline asks of its model."""
        return getattr(self._original, name)


def _confidence(read: Mapping[str, Any]) -> float:
    return float(read["rec_score"])
