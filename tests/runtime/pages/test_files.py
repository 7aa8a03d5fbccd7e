"""ALTO, hOCR and PDF: read back and compared with the page."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.pages.alto import NAMESPACE, alto
from runtime.pages.font import codes, font_file, to_unicode
from runtime.pages.hocr import hocr
from runtime.pages.pdf import pdf
from runtime.pages.result import PageLine, PageResult
from runtime.pages.words import text_lines
from runtime.result import Result
from tests.runtime.pages.stand_ins import turned, upright
from textsr.errors import InputError
from textsr.reading import spread

NOTHING = np.zeros((4, 4, 3), np.uint8)
PICTURE = PurePath('out/a "page" & more.png')
LINES = ("Grand Hotel 42", "强力去污符合国标", "漢字 かな 한국", '𠮷野家 <b> & "ok"', "down the side")


def line(
    box: NDArray[np.float32], text: str, *, placed: bool = False, after: str | None = None, **result: Any
) -> PageLine:
    told = Result(NOTHING, text=text, confidence=0.8, confidences=(0.8,) * len(text), centres=spread(text), **result)
    return PageLine(box, box, told, after, 0.6, placed)


def page(*lines: PageLine, scale: float = 4.0) -> PageResult:
    shape = round(200 * scale), round(300 * scale), 3
    return PageResult(np.full(shape, 230, np.uint8), scale, lines)


WHOLE = page(
    line(upright(20, 20, 150, 20), LINES[0]),
    line(upright(20, 60, 120, 20), LINES[1]),
    line(turned(upright(150, 60, 120, 20), 20), LINES[2]),
    line(upright(20, 160, 150, 20), LINES[3]),
    line(turned(upright(220, 110, 100, 20), 90), LINES[4], turned=90),
    line(upright(200, 20, 20, 20), ""),
)


def alto_tree(of: PageResult) -> ET.Element:
    return ET.fromstring(alto(of, PICTURE))


def every(tree: ET.Element, name: str) -> list[ET.Element]:
    return tree.findall(f".//{{{NAMESPACE}}}{name}")


def extent_of(element: ET.Element) -> tuple[int, int, int, int]:
    left, top, width, height = (int(element.attrib[name]) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    return left, top, left + width, top + height


def test_alto_says_what_the_page_says() -> None:
    tree = alto_tree(WHOLE)
    lines = every(tree, "TextLine")
    said = [" ".join(string.attrib["CONTENT"] for string in every(found, "String")) for found in lines]
    assert said == list(LINES)
    assert [float(string.attrib["WC"]) for string in every(tree, "String")] == [0.8] * sum(
        len(text.split()) for text in LINES
    )
    sheet = every(tree, "Page")[0]
    assert (sheet.attrib["WIDTH"], sheet.attrib["HEIGHT"]) == ("1200", "800")
    assert every(tree, "fileName")[0].text == PICTURE.name
    assert extent_of(lines[0]) == (80, 80, 680, 160)
    assert lines[0].attrib["BASELINE"] == "80.0,144.0 680.0,144.0"
    assert "BASEDIRECTION" not in lines[2].attrib
    assert lines[4].attrib["BASEDIRECTION"] == "ttb"


def test_alto_is_built_as_its_schema_wants_it() -> None:
    """Order and number of children, required attributes, unique names (alto-4-4.xsd)."""
    tree = alto_tree(WHOLE)
    names = [child.tag.removeprefix(f"{{{NAMESPACE}}}") for child in tree]
    assert names == ["Description", "Layout"]
    ids = [element.attrib["ID"] for element in tree.iter() if "ID" in element.attrib]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Za-z_][\w.-]*", one) for one in ids)
    for found in every(tree, "TextLine"):
        kinds = "".join({"Shape": "h", "String": "S", "SP": "p"}[child.tag.split("}")[1]] for child in found)
        assert re.fullmatch("h?S(pS)*", kinds)
    shaped = [found.find(f"{{{NAMESPACE}}}Shape") is not None for found in every(tree, "TextLine")]
    assert shaped == [False, False, True, False, False]  # only what is askew needs a polygon
    for string in every(tree, "String"):
        left, top, right, bottom = extent_of(string)
        assert 0 <= left < right <= 1200
        assert 0 <= top < bottom <= 800


def test_words_stand_in_their_line_in_order() -> None:
    for found in text_lines(WHOLE):
        first, along = found.corners[0], found.corners[1] - found.corners[0]
        places = [(corner - first) @ along / (along @ along) for word in found.words for corner in word.corners[:2]]
        assert places == sorted(places)
        assert min(places) >= -1e-6
        assert max(places) <= 1 + 1e-6
    angles = [round(found.angle) for found in text_lines(WHOLE)]
    assert angles == [0, 0, -20, 0, -90]


def test_characters_places_are_those_of_the_picture_with_its_margin() -> None:
    """Box of 100 in a crop of 120: a character in the crop's middle is in the box's middle, one at its end outside."""
    box = upright(20, 20, 100, 20)
    told = Result(NOTHING, text="a b", confidences=(0.5, 0.1, 0.9), centres=(0.25, 0.5, 0.75))
    one = PageLine(box, upright(10, 10, 120, 40), told)
    first, second = text_lines(page(one, scale=1.0))[0].words
    middle = (70 - 30 / 2, 70 + 30 / 2)  # centres at 40, 70 and 100 pixels
    assert (first.corners[0, 0], first.corners[1, 0]) == pytest.approx((25, middle[0]))
    assert (second.corners[0, 0], second.corners[1, 0]) == pytest.approx((middle[1], 115))
    assert (first.confidence, second.confidence) == (0.5, 0.9)


@pytest.mark.parametrize(("degrees", "tops"), [(90, (0.25, 0.75)), (270, (0.75, 0.25))])
def test_columns_are_read_along_their_direction(degrees: int, tops: tuple[float, float]) -> None:
    """Centres count from the top of the picture; text that runs upwards begins at the bottom."""
    column = upright(20, 10, 20, 100)
    box = np.roll(column, -1 if degrees == 90 else -3, axis=0)
    told = Result(NOTHING, text="a b", confidences=(1, 1, 1), centres=(tops[0], 0.5, tops[1]), turned=degrees)
    first, second = text_lines(page(PageLine(box, column, told), scale=1.0))[0].words
    assert first.corners[:, 1].mean() == pytest.approx(10 + 100 * tops[0], abs=6)
    assert second.corners[:, 1].mean() == pytest.approx(10 + 100 * tops[1], abs=6)


def test_the_text_is_that_of_the_restored_line_where_it_is_shown() -> None:
    shown, kept = (line(upright(20, top, 100, 20), "before", placed=top == 20, after="after") for top in (20, 60))
    found = text_lines(page(shown, kept))
    assert [(one.text, one.words[0].confidence) for one in found] == [("after", 0.6), ("before", pytest.approx(0.8))]


def test_what_xml_cannot_say_is_left_out() -> None:
    odd = page(line(upright(20, 20, 100, 20), "a\x00b\x1b \ud800c\ufffe"))
    assert text_lines(odd)[0].text == "ab c"
    alto_tree(odd)
    ET.fromstring(hocr(odd, PICTURE))


@pytest.mark.parametrize("make", [alto, hocr])
def test_a_page_without_text(make: Any) -> None:
    assert not [
        found for found in ET.fromstring(make(page(), PICTURE)).iter() if "line" in found.get("class", found.tag)
    ]


def hocr_elements(of: PageResult, kind: str) -> list[tuple[dict[str, list[str]], ET.Element]]:
    """Elements of a class with their properties."""
    found = []
    for element in ET.fromstring(hocr(of, PICTURE)).iter():
        if element.get("class") == kind:
            parts = (part.split() for part in element.attrib["title"].split(";"))
            found.append(({part[0]: part[1:] for part in parts}, element))
    return found


def test_hocr_says_what_the_page_says() -> None:
    lines = hocr_elements(WHOLE, "ocr_line")
    assert ["".join(element.itertext()) for _, element in lines] == list(LINES)
    assert next(told["x_wconf"] for told, _ in hocr_elements(WHOLE, "ocrx_word")) == ["80"]
    told, element = hocr_elements(WHOLE, "ocr_page")[0]
    assert told["bbox"] == ["0", "0", "1200", "800"]
    assert 'image "a \\"page\\" & more.png"' in element.attrib["title"]
    assert lines[0][0]["bbox"] == ["80", "80", "680", "160"]
    assert lines[0][0]["baseline"] == ["0.0000", "-16.0"]
    assert lines[4][0]["textangle"] == ["270.0"]
    assert "baseline" not in lines[4][0]


def test_hocr_baseline_of_a_turned_line_is_its_own() -> None:
    told = hocr_elements(WHOLE, "ocr_line")[2][0]
    slope, offset = (float(value) for value in told["baseline"])
    left, _, _, bottom = (int(value) for value in told["bbox"])
    assert slope == pytest.approx(np.tan(np.deg2rad(20)), abs=1e-3)
    for x, y in text_lines(WHOLE)[2].baseline:
        assert bottom + offset + slope * (x - left) == pytest.approx(y, abs=0.2)


def test_pdf_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.pages.pdf.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"extra \[pdf\]"):
        pdf(WHOLE)


def test_pdf_text_is_found_where_it_stands() -> None:
    pypdf = pytest.importorskip("pypdf", reason="the extra [pdf] is not installed")
    sheet = pypdf.PdfReader(io.BytesIO(pdf(WHOLE))).pages[0]
    assert [float(side) for side in sheet.mediabox] == [0, 0, 300, 200]
    found: dict[str, tuple[float, float]] = {}
    sheet.extract_text(visitor_text=lambda text, cm, tm, font, size: found.setdefault(text.strip(), (tm[4], tm[5])))
    assert {word for text in LINES for word in text.split()} <= set(found)
    assert found["Grand"] == pytest.approx((20, 200 - 36), abs=0.1)
    assert found[LINES[1]] == pytest.approx((20, 200 - 76), abs=0.1)
    assert b"3 Tr" in sheet.get_contents().get_data()
    image = next(iter(sheet.images)).image
    assert image.size == (1200, 800)


def test_pdf_of_a_page_without_text_and_of_a_huge_one() -> None:
    pypdf = pytest.importorskip("pypdf", reason="the extra [pdf] is not installed")
    assert pypdf.PdfReader(io.BytesIO(pdf(page()))).pages[0].extract_text() == ""
    wide = PageResult(np.zeros((2, 30000, 3), np.uint8), 1.0)
    assert float(pypdf.PdfReader(io.BytesIO(pdf(wide))).pages[0].mediabox.width) == pytest.approx(14400)


def test_pdf_as_poppler_reads_it(tmp_path: Path) -> None:
    pytest.importorskip("pypdf", reason="the extra [pdf] is not installed")
    tool = shutil.which("pdftotext")
    if tool is None:
        pytest.skip("pdftotext (poppler-utils) is not installed")
    (tmp_path / "page.pdf").write_bytes(pdf(WHOLE))
    run = [tool, "-raw", str(tmp_path / "page.pdf"), "-"]
    said = subprocess.run(run, capture_output=True, check=True, timeout=60)
    assert said.stderr == b""
    assert {word for text in LINES for word in text.split()} <= set(said.stdout.decode().split())


def test_the_font_is_a_font() -> None:
    fonts = pytest.importorskip("fontTools.ttLib", reason="fontTools (extra [train]) is not installed")
    font = fonts.TTFont(io.BytesIO(font_file()), checkChecksums=2, lazy=False)
    assert (font["maxp"].numGlyphs, font["head"].unitsPerEm, font["hmtx"][".notdef"]) == (1, 1000, (500, 0))
    assert font["glyf"][".notdef"].numberOfContours == 0


def test_the_map_to_unicode_has_no_block_that_is_too_long() -> None:
    text = "".join(chr(number) for number in range(0x4E00, 0x4E00 + 250)) + "𠮷"
    said = to_unicode(codes(text)).decode()
    assert [int(count) for count in re.findall(r"(\d+) beginbfchar", said)] == [100, 100, 51]
    mapped = {
        int(code, 16): bytes.fromhex(to).decode("utf-16-be") for code, to in re.findall(r"<(\w+)> <(\w+)>\n", said)
    }
    assert {character: code for code, character in mapped.items() if code} == codes(text)
