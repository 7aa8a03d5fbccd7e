"""``python -m runtime.infer --page``: what the command line does with whole pages."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from runtime.gate import INPUT
from runtime.options import Options
from runtime.pages.alto import alto
from runtime.pages.detector import RapidOCRDetector
from runtime.pages.hocr import hocr
from runtime.pages.options import PageOptions
from runtime.pages.pages import Pages
from runtime.pages.pdf import check_pdf, pdf
from runtime.pages.result import PageLine, PageResult
from runtime.restorer import Restorer
from runtime.result import enlarged
from textsr.errors import EngineError, InputError
from textsr.images import atomic, load_image, save_png
from textsr.inputs import Item

BOX_THRESHOLD = 0.5
FILES = {"pdf": ".pdf", "alto": ".alto.xml", "hocr": ".hocr"}
"""Files that are written beside a page's picture, by the option that asks for them."""


FAILED = "failed"
"""The report's cause of a page that the detector or the network broke down on."""


def add_options(made: argparse.ArgumentParser) -> None:
    """The options that pages have."""
    add = made.add_argument
    add("--page", action="store_true", help="the pictures are pages or photos: find their lines, restore, put back")
    add("--pdf", action="store_true", help="with --page: write OUT/<name>.pdf, with invisible text (extra [pdf])")
    add("--alto", action="store_true", help="with --page: write OUT/<name>.alto.xml, ALTO 4 with words and places")
    add("--hocr", action="store_true", help="with --page: write OUT/<name>.hocr, HTML with words and places")
    add("--scale", type=float, metavar="TIMES",
        help="with --page: size of the result (default: 4, less for pages that would become too large)")  # fmt: skip
    add("--box-threshold", type=float, metavar="SHARE",
        help=f"with --page: how sure the detector has to be of a line (default: {BOX_THRESHOLD:g})")  # fmt: skip


def suffixes(given: argparse.Namespace) -> tuple[str, ...]:
    """Of the files that are asked for beside a page's picture."""
    return tuple(suffix for name, suffix in FILES.items() if getattr(given, name))


def check(given: argparse.Namespace) -> None:
    """Raises InputError for options that do not go together, are out of range, or lack a package."""
    if given.page:
        if given.text is not None:
            raise InputError("--text is one line's text: the lines of a --page are read")
        PageOptions(scale=given.scale)
        if given.pdf:
            check_pdf()
        return
    asked = [name for name in ("pdf", "alto", "hocr", "scale", "box_threshold") if getattr(given, name)]
    if asked:
        raise InputError(f"--{asked[0].replace('_', '-')} is for pages: add --page")


class PageWork:
    """Restores pages one by one and writes what is asked for."""

    def __init__(
        self, restorer: Restorer, given: argparse.Namespace, options: Options, say: Callable[[str], None]
    ) -> None:
        """``options`` of the restorer; ``say`` tells the user a line."""
        threshold = BOX_THRESHOLD if given.box_threshold is None else given.box_threshold
        self._pages = Pages(restorer, RapidOCRDetector(box_threshold=threshold))
        self._given, self._options, self._say = given, options, say
        self._how = PageOptions(scale=given.scale)

    def __call__(self, item: Item) -> dict[str, Any]:
        """The page's record for the report; what is wrong with its file is said there, and to the user."""
        how = self._options
        try:
            image = load_image(item.path, self._how.max_pixels)
            page = self._pages(
                image, self._how, seed=how.seed, steps=how.steps, strength=how.strength, paint=how.paint,
                text_sampler=how.text_sampler,
                batch_size=how.batch_size, split=how.split, gate=how.gate, deadline_ms=how.deadline_ms,
            )  # fmt: skip
            self._write(item, image, page)
        except (InputError, EngineError) as error:
            self._say(f"{item.path}: {error}")
            return failure(str(item.path), str(error), INPUT if isinstance(error, InputError) else FAILED)
        if page.reason:
            self._say(f"{item.path}: {page.reason}")
        return record(item, self._given.out, page, how.seed)

    def _write(self, item: Item, image: np.ndarray, page: PageResult) -> None:
        out = self._given.out
        picture = item.output(out)
        files: dict[Path, Callable[[], bytes]] = {}
        if self._given.pdf:
            files[item.beside(out, FILES["pdf"])] = lambda: pdf(page)
        if self._given.alto:
            files[item.beside(out, FILES["alto"])] = lambda: alto(page, picture)
        if self._given.hocr:
            files[item.beside(out, FILES["hocr"])] = lambda: hocr(page, picture)
        there = next((path for path in (picture, *files) if path.exists()), None)
        if there is not None and not self._given.overwrite:
            raise InputError(f"{there} has come into being meanwhile, it is left alone")
        save_png(picture, page.image)
        if self._given.compare:
            before = enlarged(image, page.scale)
            axis = 1 if image.shape[0] > image.shape[1] else 0
            save_png(item.comparison(out), np.concatenate([before, page.image], axis=axis))
        for path, content in files.items():
            data = content()
            with atomic(path) as stream:
                stream.write(data)


def record(item: Item, out: Path, page: PageResult, seed: int) -> dict[str, Any]:
    """What the report says of a page."""
    return {
        "input": str(item.path), "output": str(item.output(out)), "text": page.text, "applied": page.applied,
        "reason": page.reason, "cause": page.cause, "scale": page.scale, "seed": seed,
        "timings": {name: round(value, 4) for name, value in page.timings.items()},
        "lines": [_line(line) for line in page.lines],
    }  # fmt: skip


def _line(line: PageLine) -> dict[str, Any]:
    result = line.result
    return {
        "box": [[round(float(value), 1) for value in corner] for corner in line.box], "text": line.text,
        "before": result.text, "after": line.after, "applied": line.placed, "cause": result.cause,
        "reason": result.reason, "confidence": round(line.confidence, 4),
        "confidences": [round(value, 4) for value in result.confidences], "reader": result.reader,
        "executor": result.executor, "steps": result.steps, "strength": result.strength, "paint": result.paint,
        "turned": result.turned, "stacked": result.stacked,
        "evidence": dict(result.evidence),
    }  # fmt: skip


def failure(name: str, reason: str, cause: str = INPUT) -> dict[str, Any]:
    """The report's record of an input that gave no page."""
    return {
        "input": name, "output": None, "text": "", "applied": False, "reason": reason, "cause": cause,
        "scale": None, "seed": None, "timings": {}, "lines": [],
    }  # fmt: skip
