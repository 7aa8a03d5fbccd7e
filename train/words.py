"""Texts for rendered lines: words, phrases, numbers, plates, prices, dates, mixed strings and random characters.

Words come from ``jieba`` (349,000 Chinese words with frequencies) and ``wordfreq`` (English). Texts are divided into a
training and a test part by a hash of the text, so that no word of the test part is ever trained on.
"""

from __future__ import annotations

import importlib.util
import string
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from textsr.alphabet import Alphabet
from textsr.errors import InputError

TEST_SHARE = 10  # one text of so many is held out for the test split
PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
PLATE = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
MEASURES = (
    "元",
    "块",
    "米",
    "公里",
    "号",
    "层",
    "年",
    "月",
    "日",
    "点",
    "分",
    "路",
    "楼",
    "室",
    "斤",
    "折",
    "kg",
    "ml",
    "cm",
    "%",
)
STREETS = ("路", "街", "大道", "巷", "中路", "北路", "南街", "广场", "大厦", "小区")
SHOPS = ("店", "超市", "酒店", "银行", "药房", "餐厅", "公司", "学校", "医院", "中心", "车站", "有限公司")
PUNCTUATION = "，。、！？：；"

KINDS: tuple[tuple[str, float], ...] = (
    ("phrase", 0.34),
    ("word", 0.09),
    ("english", 0.10),
    ("digits", 0.04),
    ("plate", 0.04),
    ("price", 0.04),
    ("date", 0.03),
    ("phone", 0.03),
    ("mixed", 0.09),
    ("random", 0.20),
)
USUAL_KINDS = tuple((name, share) for name, share in KINDS if name not in ("random", "plate"))
Texts = Literal["varied", "usual"]
TEXTS: dict[Texts, tuple[float, tuple[tuple[str, float], ...]]] = {
    "varied": (0.35, KINDS),
    "usual": (0.8, USUAL_KINDS),
}
"""What texts are drawn: a word in proportion to its frequency to this power, and kinds of texts in these shares. Varied
ones show every character often; usual ones are more like what is written, without random characters."""


def in_split(text: str, split: str) -> bool:
    """Whether ``text`` belongs to ``split`` ("test", or anything else for training). Single characters are in both."""
    if len(text) < 2:
        return True
    return (zlib.crc32(text.encode()) % TEST_SHARE == 0) == (split == "test")


def is_han(symbol: str) -> bool:
    """Whether a character is a Chinese one (unified ideographs of the basic plane)."""
    return "\u4e00" <= symbol <= "\u9fff"


@dataclass(frozen=True)
class WordList:
    """Words with a table to draw them by: word i has probability proportional to frequency ** power."""

    words: tuple[str, ...]
    cumulative: np.ndarray = field(repr=False)

    @classmethod
    def build(cls, words: Sequence[str], frequencies: Sequence[float], power: float) -> WordList:
        """Raises InputError if there are no words."""
        if not words:
            raise InputError("no words are left for this alphabet and split")
        total = np.cumsum(np.maximum(np.asarray(frequencies, np.float64), 1e-12) ** power)
        return cls(tuple(words), total / total[-1])

    def draw(self, rng: np.random.Generator) -> str:
        """One word."""
        return self.words[min(int(np.searchsorted(self.cumulative, rng.random())), len(self.words) - 1)]


def _jieba_words(allowed: Collection[str], split: str, power: float) -> WordList:
    spec = importlib.util.find_spec("jieba")
    if spec is None or spec.origin is None:
        raise InputError("the package jieba is needed for Chinese words: install the extra [train]")
    words, counts = [], []
    with (Path(spec.origin).parent / "dict.txt").open(encoding="utf-8") as lines:
        for line in lines:
            word, count, *_ = line.split()
            if len(word) <= 10 and in_split(word, split) and all(symbol in allowed for symbol in word):
                words.append(word)
                counts.append(float(count))
    return WordList.build(words, counts, power)


def _english_words(allowed: Collection[str], split: str, power: float) -> WordList:
    from wordfreq import top_n_list

    words = [
        word
        for word in top_n_list("en", 40000)
        if word.isascii()
        and 2 <= len(word) <= 16
        and in_split(word, split)
        and all(symbol in allowed for symbol in word)
    ]
    return WordList.build(words, [1.0 / (rank + 10) for rank in range(len(words))], power)


class TextSource:
    """Draws texts of a split whose characters are all in ``allowed``: `TEXTS` says which."""

    def __init__(self, split: str, allowed: Collection[str], texts: Texts = "varied") -> None:
        self.split = split
        self.allowed = frozenset(allowed)
        power, kinds = TEXTS[texts]
        self.chinese = _jieba_words(self.allowed, split, power)
        self.english = _english_words(self.allowed, split, power)
        self.han = sorted(filter(is_han, self.allowed))
        self.ascii = [symbol for symbol in map(chr, range(33, 127)) if symbol in self.allowed]
        self.other = sorted(symbol for symbol in self.allowed if not is_han(symbol) and not symbol.isascii())
        self._names = [name for name, _ in kinds]
        self._shares = np.cumsum([share for _, share in kinds])
        self._makers: dict[str, Callable[[np.random.Generator, int], str]] = {
            name: getattr(self, f"_{name}") for name in self._names
        }

    def draw(self, rng: np.random.Generator, max_chars: int = 24, kind: str | None = None) -> tuple[str, str]:
        """(text of 1 to ``max_chars`` characters, kind). Deterministic in the state of ``rng``."""
        name = kind or self._names[int(np.searchsorted(self._shares, rng.random() * self._shares[-1]))]
        for _ in range(200):
            text = self._makers[name](rng, max_chars)[:max_chars].strip()
            if text and self.fits(text):
                return text, name
        raise InputError(f"no text of kind {name!r} is possible in the alphabet given")

    def fits(self, text: str) -> bool:
        """Whether the text is of this split and alphabet."""
        return in_split(text, self.split) and all(symbol in self.allowed for symbol in text)

    def _length(self, rng: np.random.Generator, most: int) -> int:
        """A length of 1 to ``most``: lines of 2 to 8 characters are the rule, long ones happen."""
        return int(min(most, 1 + rng.poisson(4.5) if rng.random() < 0.8 else rng.integers(1, most + 1)))

    def _phrase(self, rng: np.random.Generator, most: int) -> str:
        wanted = self._length(rng, most)
        text = self.chinese.draw(rng)
        while len(text) < wanted:
            if rng.random() < 0.06:
                text += PUNCTUATION[rng.integers(len(PUNCTUATION))]
            word = self.chinese.draw(rng)
            if len(text) + len(word) > wanted + 1:
                break
            text += word
        return text

    def _word(self, rng: np.random.Generator, most: int) -> str:
        return self.chinese.draw(rng)

    def _english(self, rng: np.random.Generator, most: int) -> str:
        text = self.english.draw(rng)
        while rng.random() < 0.35 and len(text) < most - 4:
            text += (" " if rng.random() < 0.8 else "-") + self.english.draw(rng)
        return _cased(text, rng)

    def _digits(self, rng: np.random.Generator, most: int) -> str:
        digits = "".join(map(str, rng.integers(0, 10, int(rng.integers(1, 13)))))
        return rng.choice(["", "", "", "No.", "#", "-"]) + digits

    def _plate(self, rng: np.random.Generator, most: int) -> str:
        tail = "".join(PLATE[i] for i in rng.integers(0, len(PLATE), 5 + int(rng.random() < 0.3)))
        gap = ("·", " ", "")[rng.integers(3)]
        return PROVINCES[rng.integers(len(PROVINCES))] + string.ascii_uppercase[rng.integers(24)] + gap + tail

    def _price(self, rng: np.random.Generator, most: int) -> str:
        amount = f"{10 ** rng.uniform(0, 4):.{rng.integers(3)}f}"
        form = ("￥{}", "¥{}", "{}元", "${}", "{}元/斤", "仅{}元", "原价{}", "特价{}元", "{}%")[rng.integers(9)]
        return form.format(amount)

    def _date(self, rng: np.random.Generator, most: int) -> str:
        y, m, d = int(rng.integers(1950, 2040)), int(rng.integers(1, 13)), int(rng.integers(1, 32))
        hour, minute = int(rng.integers(24)), int(rng.integers(60))
        forms = (
            f"{y}年{m}月{d}日",
            f"{y}-{m:02}-{d:02}",
            f"{y}/{m}/{d}",
            f"{y}.{m:02}.{d:02}",
            f"{m}月{d}日",
            f"{hour:02}:{minute:02}",
            f"{y}年",
            f"{hour}:{minute:02}-{(hour + 8) % 24}:{minute:02}",
        )
        return forms[rng.integers(len(forms))]

    def _phone(self, rng: np.random.Generator, most: int) -> str:
        d = "".join(map(str, rng.integers(0, 10, 11)))
        forms = (
            f"1{d[:10]}",
            f"0{d[:2]}-{d[2:10]}",
            f"400-{d[:3]}-{d[3:7]}",
            f"电话:{d[:8]}",
            f"1{d[:2]} {d[2:6]} {d[6:10]}",
        )
        return forms[rng.integers(len(forms))]

    def _mixed(self, rng: np.random.Generator, most: int) -> str:
        word, other = self.chinese.draw(rng), self.chinese.draw(rng)
        number = str(rng.integers(1, 10 ** int(rng.integers(1, 5))))
        latin = _cased(self.english.draw(rng), rng)
        measure = MEASURES[rng.integers(len(MEASURES))]
        street, shop = STREETS[rng.integers(len(STREETS))], SHOPS[rng.integers(len(SHOPS))]
        forms = (
            f"{word}{number}{measure}",
            f"{latin}{word}",
            f"{word}{latin}",
            f"{word}{street}{number}号",
            f"{word}{shop}",
            f"{word}({other})",
            f"{number}{word}",
            f"{word}：{number}",
            f"《{word}》",
            f"{latin}-{number}",
            f"{word}{other}{shop}",
        )
        return forms[rng.integers(len(forms))]

    def _random(self, rng: np.random.Generator, most: int) -> str:
        count = self._length(rng, min(most, 12))
        roll = rng.random()
        if roll < 0.72:
            return "".join(self.han[i] for i in rng.integers(0, len(self.han), count))
        if roll < 0.90:
            return "".join(self.ascii[i] for i in rng.integers(0, len(self.ascii), count))
        pools = (self.han, self.ascii, self.other or self.ascii)
        return "".join(pool[rng.integers(len(pool))] for pool in (pools[i] for i in rng.integers(0, 3, count)))


def _cased(text: str, rng: np.random.Generator) -> str:
    """Lower case, capitalised or upper case."""
    return (text, text.title(), text.upper())[int(rng.choice(3, p=(0.35, 0.35, 0.3)))]


def default_symbols() -> frozenset[str]:
    """The characters that texts are made of: those of the package's alphabet."""
    return frozenset(Alphabet.load().symbols)
