"""Builds the package's assets: alphabet.txt, folding.json and atlas.xz. Run as ``python -m train.assets``.

Sources: the Chinese word counts of jieba (MIT), the single-character table of OpenCC as packaged by
opencc-python-reimplemented (Apache-2.0), NFKC, and Noto Sans CJK SC Regular (SIL OFL 1.1) for the bitmaps.
"""

from __future__ import annotations

import argparse
import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from textsr.alphabet import Alphabet
from textsr.atlas import FILE, save_atlas
from train.glyphs import FONT, rasterise

LOG = logging.getLogger(__name__)

SYMBOLS = 6735
"""Symbols without padding."""

PUNCTUATION = "，。、；：？！“”‘’（）《》〈〉【】「」『』〔〕—…·～￥￡€§¶×÷±≈≤≥≠°℃℉㎡㎏㎜㎝㎞№℡®©™①②③④⑤⑥⑦⑧⑨⑩"
PUNCTUATION += "→←↑↓★☆●○■□◆◇▲△▼▽♥♪√∞αβγδμΩπ々〇"
"""Beyond ASCII: Chinese and full-width punctuation, currency, units and signs that stand on shop fronts and labels."""

ASCII = "".join(chr(code) for code in range(32, 127))


def gb2312() -> set[str]:
    """The 6,763 Chinese characters of GB 2312 (rows 16 to 87)."""
    found = set()
    for row in range(16, 88):
        for column in range(1, 95):
            try:
                found.add(bytes((0xA0 + row, 0xA0 + column)).decode("gb2312"))
            except UnicodeDecodeError:
                continue  # the last five places of row 55 are empty
    return found


def character_counts() -> Counter[str]:
    """How often each character occurs in the words of jieba's dictionary, weighted with the words' counts."""
    counts: Counter[str] = Counter()
    for line in (resources.files("jieba") / "dict.txt").read_text(encoding="utf-8").splitlines():
        word, count = line.split(" ")[:2]
        for character in word:
            counts[character] += int(count)
    return counts


def build_symbols() -> tuple[str, ...]:
    """ASCII, punctuation, then the characters of GB 2312 by falling frequency (ties by code point), 6735 in all."""
    counts = character_counts()
    ordered = sorted(gb2312() - set(PUNCTUATION), key=lambda symbol: (-counts[symbol], symbol))
    head = tuple(ASCII + PUNCTUATION)
    return head + tuple(ordered[: SYMBOLS - len(head)])


def build_folding(symbols: Sequence[str]) -> dict[str, str]:
    """Single characters outside the alphabet and what they fold to: OpenCC's first choice, else NFKC."""
    inside = set(symbols)
    folding: dict[str, str] = {}
    for code in (*range(0xA0, 0x3400), *range(0xF900, 0xFB00), *range(0xFE30, 0x10000)):
        character = chr(code)
        plain = unicodedata.normalize("NFKC", character)
        if character not in inside and plain in inside:
            folding[character] = plain
    table = (resources.files("opencc") / "dictionary" / "TSCharacters.txt").read_text(encoding="utf-8")
    for line in table.splitlines():
        character, choices = line.split("\t")[:2]
        simple = choices.split(" ")[0]
        if len(character) == 1 and character not in inside and simple in inside:
            folding[character] = simple
    return dict(sorted(folding.items()))


def write_alphabet(folder: Path) -> Alphabet:
    """Writes alphabet.txt and folding.json into ``folder``."""
    symbols = build_symbols()
    folding = build_folding(symbols)
    (folder / "alphabet.txt").write_text("\n".join(symbols) + "\n", encoding="utf-8")
    text = json.dumps(folding, ensure_ascii=False, indent=0, separators=(",", ":"))
    (folder / "folding.json").write_text(text + "\n", encoding="utf-8")
    LOG.info("%d symbols, %d folded characters", len(symbols), len(folding))
    return Alphabet(symbols, folding)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: ``--out`` is the folder of the assets."""
    parser = argparse.ArgumentParser(prog="python -m train.assets", description=__doc__)
    default = Path(__file__).resolve().parents[1] / "textsr" / "assets"
    parser.add_argument("--out", type=Path, default=default, help="folder to write to (default: the package's)")
    parser.add_argument("--font", type=Path, default=FONT, help="collection with Noto Sans CJK SC")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    alphabet = write_alphabet(options.out)
    save_atlas(options.out / FILE, rasterise(alphabet.symbols, options.font))


if __name__ == "__main__":
    main()
