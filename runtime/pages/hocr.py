"""A page's text as hOCR 1.2: HTML that says in its title attributes where each word stands."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from runtime.pages.result import PageResult
from runtime.pages.words import TextLine, extent, text_lines

LEVEL = 45.0
"""Degrees: a line that is turned by more has a ``textangle``, others a ``baseline`` with a slope."""


def hocr(page: PageResult, picture: PurePath) -> bytes:
    """The file's bytes, UTF-8 XHTML. Coordinates are pixels of ``page.image``, ``picture`` names its file.

    An ``ocr_line`` for each line that says something, in reading order; ``x_wconf`` is the confidence in percent.
    """
    root = ET.Element("html", {"xmlns": "http://www.w3.org/1999/xhtml"})
    head = ET.SubElement(root, "head")
    ET.SubElement(head, "title").text = picture.name
    ET.SubElement(head, "meta", {"http-equiv": "Content-Type", "content": "text/html; charset=utf-8"})
    for name, content in (
        ("ocr-system", "textsr"),
        ("ocr-capabilities", "ocr_page ocr_carea ocr_par ocr_line ocrx_word ocrp_wconf"),
        ("ocr-number-of-pages", "1"),
    ):
        ET.SubElement(head, "meta", {"name": name, "content": content})
    height, width = page.image.shape[:2]
    title = f"image {_quoted(picture.name)}; bbox 0 0 {width} {height}; ppageno 0"
    sheet = ET.SubElement(ET.SubElement(root, "body"), "div", {"class": "ocr_page", "id": "page_1", "title": title})
    lines = text_lines(page)
    if lines:
        whole = {"title": _bbox(np.concatenate([line.corners for line in lines]))}
        area = ET.SubElement(sheet, "div", {"class": "ocr_carea", "id": "block_1", **whole})
        paragraph = ET.SubElement(area, "p", {"class": "ocr_par", "id": "par_1", **whole})
        for number, line in enumerate(lines, 1):
            _line(paragraph, line, number)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>\n' + bytes(ET.tostring(root, encoding="utf-8"))


def _line(paragraph: ET.Element, line: TextLine, number: int) -> None:
    title = f"{_bbox(line.corners)}; {_direction(line)}"
    made = ET.SubElement(paragraph, "span", {"class": "ocr_line", "id": f"line_{number}", "title": title})
    made.tail = "\n"
    for place, word in enumerate(line.words, 1):
        sure = round(100 * min(max(word.confidence, 0.0), 1.0))
        said = {"class": "ocrx_word", "id": f"word_{number}_{place}", "title": f"{_bbox(word.corners)}; x_wconf {sure}"}
        span = ET.SubElement(made, "span", said)
        span.text = word.text
        span.tail = " " if place < len(line.words) else None


def _direction(line: TextLine) -> str:
    """``baseline``: slope and offset from the lower left corner of the box, y downwards; or ``textangle``: degrees
    counterclockwise."""
    if abs(line.angle) > LEVEL:
        return f"textangle {line.angle % 360:.1f}"
    left, _, _, bottom = extent(line.corners)
    (x, y), (right, below) = line.baseline
    slope = (below - y) / (right - x)
    return f"baseline {slope:.4f} {y + slope * (left - x) - bottom:.1f}"


def _bbox(corners: NDArray[np.float64]) -> str:
    return "bbox {} {} {} {}".format(*extent(corners))


def _quoted(name: str) -> str:
    """A file's name in double quotes, in which the backslash escapes."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
