"""Every command that is written down has the options it is given: its own parser takes them."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec

import pytest

from docs.command_lines import parser_of
from tests.docs.pages import PAGES, ROOT, blocks, spans

OURS = ("textsr", "runtime", "export", "train", "benchmarks", "docs")
ENDS = {"&&", "||", ";", "|", ">", "2>", "&"}
MODULE = re.compile(rf"(?:python3?|torchrun\b.*) -m ((?:{'|'.join(OURS)})[\w.]*)(.*)")


@cache
def parser(module: str) -> argparse.ArgumentParser:
    """The parser of ``python -m module``."""
    package = (ROOT / module.replace(".", "/")).is_dir()
    try:
        return parser_of(f"{module}.__main__" if package else module)
    except ModuleNotFoundError as error:
        pytest.skip(f"python -m {module} needs {error.name}, which is not installed")


def lines(text: str) -> Iterator[str]:
    """The commands of a shell block, continued lines joined and comments left out."""
    for line in text.replace("\\\n", " ").splitlines():
        yield from (part.strip() for part in re.split(r"&&|;", line.partition(" #")[0]) if part.strip())


def exec_form(text: str) -> Iterator[str]:
    """The commands of a Dockerfile's instructions in JSON."""
    for found in re.finditer(r"(?:CMD|ENTRYPOINT) (\[.*\])$", text, re.MULTILINE):
        yield shlex.join(json.loads(found[1]))


def words(command: str) -> tuple[str, list[str]] | None:
    """A command of ours as its module and arguments; None for anything else."""
    plain = command if not command.startswith("textsr ") else f"python -m runtime.infer {command[7:]}"
    found = MODULE.search(plain)
    if not found:
        return None
    given: list[str] = []
    for word in shlex.split(found[2]):
        if word in ENDS:
            break
        given.append(word)
    return found[1], given


COMMANDS = [
    pytest.param(*found, id=f"{block} {found[0]}")
    for language in ("bash", "ini", "dockerfile")
    for block in blocks(language)
    for line in (exec_form(block.text) if language == "dockerfile" else lines(block.text))
    if (found := words(line)) is not None
]
INLINE = sorted(
    {(found[0], tuple(found[1])) for page in PAGES for span in spans(page) if (found := words(span)) is not None}
)


@pytest.mark.parametrize(("module", "given"), COMMANDS)
def test_a_command_in_a_block_is_taken_whole(module: str, given: list[str]) -> None:
    """Names, choices, types and what is required."""
    made = parser(module)
    if "--help" not in given:
        made.parse_args(given)


@pytest.mark.parametrize(("module", "given"), INLINE, ids=lambda value: value if isinstance(value, str) else None)
def test_options_of_a_command_in_the_text_exist(module: str, given: tuple[str, ...]) -> None:
    known = {option for action in parser(module)._actions for option in action.option_strings}
    asked = {word.split("=")[0] for word in given if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)}
    assert not asked - known


def test_options_named_alone_exist() -> None:
    """``--never-change-text`` in the prose is an option of some command of ours."""
    known = {"--help"}
    for module in sorted({found for found, _ in INLINE} | {str(found.values[0]) for found in COMMANDS}):
        known |= {option for action in parser(module)._actions for option in action.option_strings}
    foreign = {"--no-deps", "--read-only", "--preload", "--tmpfs", "--workers", "--user"}
    said = {
        (page.name, option)
        for page in PAGES
        for span in spans(page)
        if (option := span.split("=")[0].split(" ")[0]).startswith("--")
    }
    assert not {(page, option) for page, option in said if option not in known | foreign}


def test_extras_that_are_named_are_in_pyproject() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
    said = "\n".join(block.text for language in ("bash", "dockerfile") for block in blocks(language))
    named = [found.split(",") for found in re.findall(r"(?:\.|textsr|/src)\[([\w,]+)\]", said)]
    assert named
    assert {name for names in named for name in names} <= extras
    prose = {name for page in PAGES for span in spans(page) for name in re.findall(r"^(?:\.|textsr)?\[(\w+)\]$", span)}
    assert {"ocr", "serve", "tensorrt"} <= prose <= extras


def test_a_wrong_option_is_found() -> None:
    with pytest.raises(SystemExit):
        parser("runtime.infer").parse_args(["x", "-o", "out", "--no-such-option"])
    assert words("CUDA_VISIBLE_DEVICES=1 python -m runtime.doctor --json > out") == ("runtime.doctor", ["--json"])
    assert words("pip install x") is None
    assert find_spec("runtime.doctor.__main__")
