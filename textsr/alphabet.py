"""The alphabet of the text modules: symbols, token ids and per-character folding."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textsr.errors import InputError

MAX_CHARS = 24
"""Characters of a line that the text modules see."""

CHINESE = "chinese"
"""Name of the alphabet that the package ships: ASCII, common punctuation and units, GB 2312 by frequency."""


@dataclass(frozen=True)
class Alphabet:
    """Symbols in the order of their ids. The id after the last, `padding`, is padding and "unknown" at once.

    ``folding`` maps single characters outside the alphabet to single symbols inside: traditional to simplified,
    full width to half width. It never changes a text's length, so that confidences and centres stay aligned.
    """

    symbols: tuple[str, ...]
    folding: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols):
            raise InputError("an alphabet holds every symbol once; this one repeats some")
        wrong = [entry for entry in (*self.symbols, *self.folding) if len(entry) != 1]
        if wrong:
            raise InputError(f"symbols and folded characters must be single characters, not {wrong[0]!r}")
        outside = [symbol for symbol in self.folding.values() if symbol not in self._ids]
        if outside:
            raise InputError(f"folding leads to {outside[0]!r}, which is not in the alphabet")

    @classmethod
    def load(cls, source: str | Path = CHINESE) -> Alphabet:
        """The shipped alphabet by its name, or a file: ``.json`` (see `to_json`) or text with one symbol a line.

        Raises InputError when the name is unknown or the file cannot be read.
        """
        if source == CHINESE:
            assets = resources.files("textsr") / "assets"
            folding = json.loads((assets / "folding.json").read_text(encoding="utf-8"))
            return cls(_lines((assets / "alphabet.txt").read_text(encoding="utf-8")), folding)
        path = Path(source)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"no alphabet called {str(source)!r}, and as a file it cannot be read: {error}") from error
        return cls.from_json(text) if path.suffix == ".json" else cls(_lines(text))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    @property
    def padding(self) -> int:
        """The id of padding and of characters outside the alphabet."""
        return len(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._ids

    def fold(self, text: str) -> str:
        """``text`` with each character that is no symbol replaced by what it folds to; the length stays."""
        return "".join(self.folding.get(character, character) for character in text)

    def encode(self, text: str, max_chars: int = MAX_CHARS) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Token ids (max_chars,) int64 of the first ``max_chars`` characters, and which are known (max_chars,) bool.

        No folding happens here. ``known`` is False exactly where a character is outside the alphabet: padding
        counts as known, so ``known`` times a confidence, with 1 for padding, is the weight.
        """
        tokens = np.full(max_chars, self.padding, dtype=np.int64)
        known = np.ones(max_chars, dtype=np.bool_)
        for place, character in enumerate(text[:max_chars]):
            tokens[place] = self._ids.get(character, self.padding)
            known[place] = character in self._ids
        return tokens, known

    def decode(self, tokens: Iterable[int]) -> str:
        """The symbols of token ids; padding and unknown ids give nothing. Raises InputError on ids outside 0..K-1."""
        numbers = [int(token) for token in tokens]
        if any(not 0 <= number <= self.padding for number in numbers):
            raise InputError(f"token ids must be from 0 to {self.padding}")
        return "".join(self.symbols[number] for number in numbers if number != self.padding)

    def to_json(self) -> str:
        """JSON with ``symbols`` as one string in the order of ids, and ``folding``."""
        return json.dumps({"symbols": "".join(self.symbols), "folding": dict(self.folding)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Alphabet:
        """The inverse of `to_json`; ``symbols`` may also be a list. Raises InputError on anything else."""
        try:
            data = json.loads(text)
            return cls(tuple(data["symbols"]), dict(data.get("folding", {})))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not an alphabet in JSON with symbols and folding: {error}") from error


def _lines(text: str) -> tuple[str, ...]:
    """Only "\\n" ends a line: a symbol may be a space or any other blank."""
    return tuple(line for line in text.split("\n") if line)
