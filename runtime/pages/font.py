"""A font without any shapes for the invisible text of a PDF: it has a blank for each character that a page says.

So no font has to cover the text, and copying gives back what was written, whatever its script. The TrueType file
holds one blank glyph (OpenType specification, the tables that a font needs which is embedded in a PDF).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pypdf import PdfWriter
    from pypdf.generic import IndirectObject

UNITS = 1000
WIDTH = 500
"""Units of the em, and of each blank."""
ASCENT, DESCENT = 800, -200

_MAP = """/CIDInit /ProcSet findresource begin
12 dict begin
begincmap
/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def
/CMapName /Adobe-Identity-UCS def
/CMapType 2 def
1 begincodespacerange
<0000> <FFFF>
endcodespacerange
{}
endcmap
CMapName currentdict /CMap defineresource pop
end
end
"""
_MOST = 100
"""Entries that a block of such a map may have."""


def codes(text: str) -> dict[str, int]:
    """A code from 1 for each character of ``text``."""
    return {character: number for number, character in enumerate(sorted(set(text)), 1)}


def add_font(writer: PdfWriter, characters: Mapping[str, int]) -> IndirectObject:
    """Adds the font to a PDF; ``characters`` have the codes (16 bits, big endian) that `codes` gives."""
    from pypdf.generic import ArrayObject, DecodedStreamObject, DictionaryObject, NameObject, NumberObject
    from pypdf.generic import TextStringObject as Text

    def name(value: str) -> NameObject:
        return NameObject(f"/{value}")

    def stream(data: bytes, **entries: int) -> IndirectObject:
        made = DecodedStreamObject()
        made.set_data(data)
        packed = made.flate_encode()
        packed.update({name(key): NumberObject(value) for key, value in entries.items()})
        return writer._add_object(packed)

    file = font_file()
    descriptor = DictionaryObject(
        {
            name("Type"): name("FontDescriptor"), name("FontName"): name("Blank"), name("Flags"): NumberObject(5),
            name("FontBBox"): ArrayObject([NumberObject(value) for value in (0, DESCENT, WIDTH, ASCENT)]),
            name("ItalicAngle"): NumberObject(0), name("Ascent"): NumberObject(ASCENT),
            name("Descent"): NumberObject(DESCENT), name("CapHeight"): NumberObject(ASCENT),
            name("StemV"): NumberObject(80), name("FontFile2"): stream(file, Length1=len(file)),
        }
    )  # fmt: skip
    system = {name("Registry"): Text("Adobe"), name("Ordering"): Text("Identity"), name("Supplement"): NumberObject(0)}
    descendant = DictionaryObject(
        {
            name("Type"): name("Font"), name("Subtype"): name("CIDFontType2"), name("BaseFont"): name("Blank"),
            name("CIDSystemInfo"): DictionaryObject(system), name("DW"): NumberObject(WIDTH),
            name("CIDToGIDMap"): stream(bytes(2 * (len(characters) + 1))),
            name("FontDescriptor"): writer._add_object(descriptor),
        }
    )  # fmt: skip
    return writer._add_object(
        DictionaryObject(
            {
                name("Type"): name("Font"), name("Subtype"): name("Type0"), name("BaseFont"): name("Blank"),
                name("Encoding"): name("Identity-H"), name("ToUnicode"): stream(to_unicode(characters)),
                name("DescendantFonts"): ArrayObject([writer._add_object(descendant)]),
            }
        )
    )  # fmt: skip


def to_unicode(characters: Mapping[str, int]) -> bytes:
    """The map from codes to UTF-16."""
    entries = [
        f"<{code:04X}> <{character.encode('utf-16-be').hex().upper()}>" for character, code in characters.items()
    ]
    blocks = [entries[first : first + _MOST] for first in range(0, len(entries), _MOST)]
    listed = "\n".join("\n".join([f"{len(block)} beginbfchar", *block, "endbfchar"]) for block in blocks)
    return _MAP.format(listed).encode()


def font_file() -> bytes:
    """The TrueType file: a single blank glyph."""
    tables = {
        b"glyf": b"\0\0\0\0",
        b"head": struct.pack(
            ">4I2H2Q4h2H3h",
            0x00010000, 0x00010000, 0, 0x5F0F3CF5, 0, UNITS, 0, 0, 0, DESCENT, WIDTH, ASCENT, 0, 8, 2, 0, 0,
        ),
        b"hhea": struct.pack(">I3hH11hH", 0x00010000, ASCENT, DESCENT, 0, WIDTH, *[0] * 3, 1, *[0] * 7, 1),
        b"hmtx": struct.pack(">Hh", WIDTH, 0),
        b"loca": struct.pack(">HH", 0, 0),
        b"maxp": struct.pack(">I14H", 0x00010000, 1, 0, 0, 0, 0, 1, *[0] * 8),
    }  # fmt: skip
    count = len(tables)
    power = count.bit_length() - 1
    entries, bodies, head = b"", b"", 0
    for tag, data in sorted(tables.items()):
        at = 12 + 16 * count + len(bodies)
        head = at if tag == b"head" else head
        padded = data + bytes(-len(data) % 4)
        entries += struct.pack(">4s3I", tag, _sum(padded), at, len(data))
        bodies += padded
    whole = struct.pack(">I4H", 0x00010000, count, 16 << power, power, 16 * (count - (1 << power))) + entries + bodies
    adjustment = struct.pack(">I", (0xB1B0AFBA - _sum(whole)) & 0xFFFFFFFF)
    return whole[: head + 8] + adjustment + whole[head + 12 :]


def _sum(data: bytes) -> int:
    """A table's checksum: its 32-bit words added up."""
    return sum(struct.unpack(f">{len(data) // 4}I", data)) & 0xFFFFFFFF
