"""Links lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import LINK, PAGES, ROOT, anchors, without_blocks

LINKED = (*PAGES, ROOT / "THIRD_PARTY_NOTICES.md", ROOT / "train" / "LOG.md", *ROOT.glob("benchmarks/results/*.md"))


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for target in LINK.findall(without_blocks(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if (
            not file.exists()
            or not file.is_relative_to(ROOT)
            or (anchor and file.suffix == ".md" and anchor not in anchors(file))
        ):
            wrong.append(target)
    assert not wrong


def test_the_index_names_every_page() -> None:
    for index in (ROOT / "docs" / "README.md", ROOT / "README.md"):
        linked = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(without_blocks(index))}
        assert not {page for page in PAGES if page not in linked} - {ROOT / "README.md", index}, index


def test_a_wrong_anchor_is_no_anchor(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One [link](x)\n\n```text\n# none\n```\n\n## `a.b`, c\n\n## One link\n", encoding="utf-8")
    assert anchors(page) == {"one-link", "ab-c", "one-link-1"}
