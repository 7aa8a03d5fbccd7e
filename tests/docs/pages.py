"""The pages that people read, and what is in them: fenced blocks, code spans, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MADE = {ROOT / "docs" / "api.md"}
"""Whose blocks are signatures and manuals, not code to run."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^()\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is its first line's number in ``page``."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(language: str) -> list[Block]:
    """The blocks of one language on all pages that are written by hand."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for fence in FENCE.finditer(text) if page not in MADE else ():
            if fence[1] == language:
                found.append(Block(page, text[: fence.start()].count("\n") + 2, language, fence[2]))
    return found


def without_blocks(page: Path) -> str:
    """A page's prose."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> Iterator[str]:
    """Code spans of a page's prose, line breaks as spaces."""
    for found in re.finditer(r"`([^`]+)`", without_blocks(page)):
        yield " ".join(found[1].split())


def anchors(page: Path) -> set[str]:
    """What links to a page's headings end in, as GitHub makes it."""
    found: dict[str, int] = {}
    made = set()
    for heading in re.findall(r"^#{1,6} (.+)$", without_blocks(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower().replace(" ", "-")
        name = "".join(c for c in plain if c.isalnum() or c in "-_")
        made.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return made
