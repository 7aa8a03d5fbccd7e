"""Every Python block of README.md and docs/ runs: with the tiny bundle in the place of compact, and drawn lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import runtime
from tests.docs.pages import Block, blocks
from tests.runtime.helpers import draw_line
from tests.runtime.plugins.stand_ins import page as drawn_page

BLOCKS = blocks("python")
TEXTS = ("Hello 42", "Exit 12", "Grand Hotel", "Room 7", "Tel 119")


def imported(code: str) -> Iterator[str]:
    """The packages that a block imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.fixture
def around(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What a block finds: a folder with the bundle and pictures, crops and a recogniser. What it opens is closed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compact").symlink_to(tiny_bundle)  # a folder of that name goes before the shipped bundle
    crops = [draw_line(text, 32, 120) for text in TEXTS]
    Image.fromarray(crops[0]).save("line.png")
    Image.fromarray(drawn_page()).save("page.png")
    opened: list[runtime.Restorer] = []
    real = runtime.Restorer.open

    def spy(*given: Any, **named: Any) -> runtime.Restorer:
        made = real(*given, **named)
        made.bundle = replace(made.bundle, preset=replace(made.preset, default_steps=1))  # soon done
        opened.append(made)
        return made

    monkeypatch.setattr(runtime.Restorer, "open", spy)
    given = {"crops": crops, "image": drawn_page(), "recognise": lambda image: f"{image.shape[1]} wide"}
    yield given | {"opened": opened}
    for restorer in opened:
        restorer.close()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_it_runs(block: Block, around: dict[str, Any]) -> None:
    lacking = sorted({name for name in imported(block.text) if find_spec(name) is None})
    if lacking:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
    exec(code, {"__name__": "snippet", **around})
    assert all(restorer.preset.name == "tiny" for restorer in around["opened"])


def test_there_are_blocks_on_the_pages_for_embedding() -> None:
    pages = {block.page.name for block in BLOCKS}
    assert {"README.md", "embedding.md"} <= pages


def test_crops_are_lines_that_are_restored(around: dict[str, Any]) -> None:
    """Else the blocks would show nothing."""
    with runtime.Restorer.open("compact") as restorer:
        assert all(result.applied for result in restorer(around["crops"], steps=1))
    assert all(crop.dtype == np.uint8 for crop in around["crops"])
