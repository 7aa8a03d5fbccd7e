"""A page's text as ALTO 4 XML (Library of Congress, schema 4.4)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from runtime.pages.result import PageResult
from runtime.pages.words import TextLine, Word, extent, text_lines

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
SCHEMA = "https://www.loc.gov/standards/alto/v4/alto-4-4.xsd"
UPRIGHT = 1.0
"""Pixels that a line's corners may be off its upright box without a polygon being given."""


def alto(page: PageResult, picture: PurePath) -> bytes:
    """The file's bytes, UTF-8. Coordinates are pixels of ``page.image``, ``picture`` names its file.

    One block with a TextLine for each line that says something, in reading order; String's WC is the confidence.
    """
    root = ET.Element(
        "alto",
        {
            "xmlns": NAMESPACE,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{NAMESPACE} {SCHEMA}",
            "SCHEMAVERSION": "4.4",
        },
    )
    _describe(root, picture)
    height, width = page.image.shape[:2]
    whole = {"WIDTH": str(width), "HEIGHT": str(height)}
    layout = ET.SubElement(ET.SubElement(root, "Layout"), "Page", {"ID": "page", "PHYSICAL_IMG_NR": "1", **whole})
    space = ET.SubElement(layout, "PrintSpace", {"HPOS": "0", "VPOS": "0", **whole})
    lines = text_lines(page)
    if lines:
        block = ET.SubElement(
            space, "TextBlock", {"ID": "block", **_box(np.concatenate([line.corners for line in lines]))}
        )
        for number, line in enumerate(lines, 1):
            _line(block, line, f"line_{number}")
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _describe(root: ET.Element, picture: PurePath) -> None:
    description = ET.SubElement(root, "Description")
    ET.SubElement(description, "MeasurementUnit").text = "pixel"
    source = ET.SubElement(description, "sourceImageInformation")
    ET.SubElement(source, "fileName").text = picture.name
    step = ET.SubElement(description, "Processing", {"ID": "restoring"})
    ET.SubElement(step, "processingCategory").text = "contentGeneration"
    ET.SubElement(ET.SubElement(step, "processingSoftware"), "softwareName").text = "textsr"


def _line(block: ET.Element, line: TextLine, name: str) -> None:
    direction = {} if abs(line.angle) <= 45 or abs(line.angle) > 135 else {"BASEDIRECTION": _direction(line.angle)}
    made = ET.SubElement(
        block, "TextLine", {"ID": name, **_box(line.corners), "BASELINE": _points(line.baseline), **direction}
    )
    _shape(made, line.corners)
    for number, word in enumerate(line.words, 1):
        if number > 1:
            _space(made, line.words[number - 2], word)
        string = ET.SubElement(
            made,
            "String",
            {
                "ID": f"{name}_{number}", **_box(word.corners), "CONTENT": word.text,
                "WC": f"{min(max(word.confidence, 0.0), 1.0):.4f}",
            },
        )  # fmt: skip
        _shape(string, word.corners)


def _direction(angle: float) -> str:
    return "ttb" if angle < 0 else "btt"


def _space(line: ET.Element, before: Word, after: Word) -> None:
    gap = np.stack([before.corners[1], after.corners[0], after.corners[3], before.corners[2]])
    ET.SubElement(line, "SP", _box(gap))


def _shape(parent: ET.Element, corners: NDArray[np.float64]) -> None:
    """A polygon for what is not upright."""
    left, top, right, bottom = extent(corners)
    upright = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    off = min(np.abs(np.roll(corners, turn, axis=0) - upright).max() for turn in range(4))
    if off > UPRIGHT:
        ET.SubElement(ET.SubElement(parent, "Shape"), "Polygon", {"POINTS": _points(corners)})


def _box(corners: NDArray[np.float64]) -> dict[str, str]:
    left, top, right, bottom = extent(corners)
    return {"HPOS": str(left), "VPOS": str(top), "WIDTH": str(right - left), "HEIGHT": str(bottom - top)}


def _points(points: Iterable[NDArray[np.float64]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
