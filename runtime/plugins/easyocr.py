"""EasyOCR (package ``easyocr`` 1.7): the grey line crops of its boxes are restored before they are read.

EasyOCR cuts and reads within one method, so each line is given to that method as a picture of its own, and its lists
are put together as it does. On a GPU with ``batch_size`` above 1 it would read several lines at once; here it reads
them one by one, as it does on a CPU.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from easyocr import Reader
from easyocr.utils import four_point_transform, get_paragraph, merge_to_free, reformat_input

from runtime.plugins.hook import hook
from runtime.plugins.lines import Crop, Lines

Found = tuple[list[list[int]], str, float]
"""Box, text and confidence."""
_OURS = {"horizontal_list": None, "free_list": None, "detail": 1, "paragraph": False, "reformat": False}


def attach(reader: Reader, lines: Lines) -> Reader:
    """Puts restoring by ``lines`` into this reader and returns it; readtext and recognize return what they did, but for
    the text.

    :raises InputError: something is attached already, or this version is built otherwise.
    """
    hook(reader, reader, "recognize", lambda original: _Restoring(reader, original, lines))
    return reader


class _Restoring:
    """In the place of Reader.recognize."""

    def __init__(self, reader: Reader, original: Any, lines: Lines) -> None:
        self._reader, self._original, self._lines = reader, original, lines
        self._signature = inspect.signature(original)

    def __call__(self, *given: Any, **named: Any) -> Any:
        bound = self._signature.bind(*given, **named)
        bound.apply_defaults()
        how = bound.arguments
        page = how["img_cv_grey"]
        if how["reformat"]:
            page = reformat_input(page)[1]
        flat, free = how["horizontal_list"], how["free_list"]
        if flat is None and free is None:
            flat = [[0, page.shape[1], 0, page.shape[0]]]
        boxes, crops = _cut(page, flat or [], free or [])
        options = {name: value for name, value in how.items() if name not in ("img_cv_grey", "output_format")} | _OURS

        def recognise(shown: Sequence[Crop]) -> list[list[Found]]:
            return [self._original(crop, **options) for crop in shown]

        # EasyOCR drops crops that are too narrow to be read: their lists are empty.
        read = self._lines.read(crops, recognise, _confidence, "rgb") if crops else []
        found: list[Found] = [(box, line[0][1], line[0][2]) for box, line in zip(boxes, read, strict=True) if line]
        if how["rotation_info"] or (how["batch_size"] != 1 and self._reader.device != "cpu"):
            found.sort(key=lambda item: item[0][0][1])  # so does EasyOCR where it reads several at once
        return self._finished(found, free or [], how)

    def _finished(self, found: list[Found], free: list[Any], how: dict[str, Any]) -> Any:
        """In the form that was asked for, as Reader.recognize ends."""
        result: list[Any] = list(found)
        if how["paragraph"]:
            mode = "rtl" if self._reader.model_lang == "arabic" else "ltr"
            result = get_paragraph(result, x_ths=how["x_ths"], y_ths=how["y_ths"], mode=mode)
        if how["detail"] == 0:
            return [item[1] for item in result]
        kind = how["output_format"]
        if kind == "free_merge":
            return merge_to_free(result, free)
        if kind not in ("dict", "json"):
            return result
        names = ("boxes", "text", "confident")  # a paragraph has no confidence
        if kind == "dict":
            return [dict(zip(names, item, strict=False)) for item in result]
        plain = ([[[int(value) for value in point] for point in item[0]], *item[1:]] for item in result)
        return [json.dumps(dict(zip(names, item, strict=False)), ensure_ascii=False) for item in plain]


def _cut(page: Crop, flat: Sequence[Any], free: Sequence[Any]) -> tuple[list[Any], list[Crop]]:
    """Boxes and grey crops, cut as EasyOCR does; those without any pixels are left out."""
    boxes: list[Any] = []
    crops: list[Crop] = []
    height, width = page.shape
    for left, right, top, bottom in flat:
        left, right, top, bottom = max(0, left), min(right, width), max(0, top), min(bottom, height)
        boxes.append([[left, top], [right, top], [right, bottom], [left, bottom]])
        crops.append(page[top:bottom, left:right])
    for corners in free:
        boxes.append(corners)
        crops.append(four_point_transform(page, np.array(corners, dtype="float32")))
    kept = [place for place, crop in enumerate(crops) if crop.size]
    return [boxes[place] for place in kept], [crops[place] for place in kept]


def _confidence(line: list[Found]) -> float:
    return float(line[0][2]) if line else 0.0
