"""Outcomes as the JSON of answers, whose shape is `runtime.serve.schema`'s."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.pages import PageLine
from runtime.plain import plain
from runtime.result import Result
from runtime.serve.pagework import PageOutcome
from runtime.serve.parse import Item
from runtime.serve.problems import Problem
from runtime.serve.work import Outcome
from textsr.reading import LineReading

TOLD = (
    "applied", "cause", "reason", "text", "confidence", "confidences", "centres", "pieces", "turned", "stacked",
    "timings", "executor", "reader", "seed", "steps", "strength", "paint", "evidence",
)  # fmt: skip
"""What is told of a `runtime.Result`."""


def restored(item: Item, found: Outcome | Problem) -> dict[str, Any]:
    """One entry of ``results``, of a picture of a line."""
    if isinstance(found, Problem):
        return {"name": item.name, "cause": "input" if found.status < 500 else "failed", "error": found.body()}
    assert found.result is not None
    return {**_shown(item, found.result.image, found.png, found.shown), **_line(found.result, _after(found.after))}


def page(item: Item, found: PageOutcome) -> dict[str, Any]:
    """The answer on a page but for its ``seconds``."""
    result = found.result
    assert result is not None
    return {
        **_shown(item, result.image, found.png, found.shown),
        **{name: plain(getattr(result, name)) for name in ("scale", "applied", "cause", "reason", "text", "timings")},
        "lines": [_page_line(line) for line in result.lines],
    }


def _page_line(line: PageLine) -> dict[str, Any]:
    after = None if line.after is None else {"text": line.after, "confidence": line.after_confidence, "confidences": ()}
    return {"box": plain(line.box), "placed": line.placed, **_line(line.result, after)}


def _line(result: Result, after: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**{name: plain(getattr(result, name)) for name in TOLD}, "after": plain(after)}


def _after(reading: LineReading | None) -> dict[str, Any] | None:
    if reading is None:
        return None
    mean = sum(reading.confidences) / max(1, len(reading.confidences))
    return {"text": reading.text, "confidence": mean, "confidences": reading.confidences}


def _shown(item: Item, image: NDArray[np.uint8], png: bytes, shown: bytes | None) -> dict[str, Any]:
    return {
        "name": item.name,
        "image": base64.b64encode(png).decode(),
        "width": image.shape[1],
        "height": image.shape[0],
        "input": None if shown is None else base64.b64encode(shown).decode(),
    }
