"""Generated parts of Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import blocks
from textsr.errors import InputError

PAGE = "a\n<!-- x -->\nold\n<!-- /x -->\nb <!-- y --><!-- /y -->\n"


def test_a_part_is_put_between_its_marks() -> None:
    made = blocks.put(PAGE, "x", "new\n")
    assert made == PAGE.replace("old", "new")
    assert blocks.put(made, "x", "new") == made
    assert blocks.put(PAGE, "y", "z").endswith("b <!-- y -->\nz\n<!-- /y -->\n")


@pytest.mark.parametrize("page", ["nothing", "<!-- x -->", "<!-- /x --> <!-- x -->"])
def test_a_page_without_marks_is_an_error(page: str) -> None:
    with pytest.raises(InputError, match="no <!-- x --> and <!-- /x -->"):
        blocks.put(page, "x", "new")


def test_all_files_or_none_are_written(tmp_path: Path) -> None:
    one, other = tmp_path / "one.md", tmp_path / "other.md"
    one.write_text(PAGE, encoding="utf-8")
    with pytest.raises(InputError, match="other"):
        blocks.write("x", {one: "new", other: "new"})
    assert one.read_text(encoding="utf-8") == PAGE
    other.write_text(PAGE, encoding="utf-8")
    assert blocks.stale("x", {one: "old", other: "new"}) == [other]
    blocks.write("x", {one: "new", other: "new"})
    assert not blocks.stale("x", {one: "new", other: "new"})
