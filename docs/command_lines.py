"""The parsers of the project's commands, and their options as Markdown."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

COMMANDS = ("runtime.infer", "runtime.doctor.__main__", "runtime.serve.__main__", "export.engines")
"""Those of the API reference."""


def cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    plain = text if "`" in text else text.replace("<", "&lt;")
    return " ".join(plain.split()).replace("|", "\\|")


class _Caught(Exception):
    """The parser that a command was about to use."""


def parser_of(module: str) -> argparse.ArgumentParser:
    """The parser of the command ``python -m module``, caught as its main() comes to use it."""

    def catch(self: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise _Caught(self)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", catch):
        try:
            import_module(module).main([])
        except _Caught as caught:
            found = caught.args[0]
            assert isinstance(found, argparse.ArgumentParser)
            return found
    raise ValueError(f"{module}: main() parses no arguments")


def command(module: str) -> str:
    """A command's options as a table, and its manual. Markdown."""
    name = f"python -m {module.removesuffix('.__main__')}"
    made = parser_of(module)
    rows = ["| option | default | |", "|---|---|---|"]
    for action in made._actions:
        if action.dest == "help":
            continue
        value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
        takes = "" if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction) else f" {value}"
        words = ", ".join(f"`{option}{takes}`".replace("|", "\\|") for option in action.option_strings) or f"`{value}`"
        told = action.default is not None and action.default is not False and action.nargs != 0
        default = f"`{_portable(action.default)}`" if told else ""
        said = (action.help or "").replace("%(default)s", str(action.default))
        rows.append(f"| {words} | {default} | {cell(_portable(said))} |")
    manual = (made.description or "").strip()
    return f"### {name}\n\n" + "\n".join(rows) + f"\n\n```text\n{manual}\n```\n"


def _portable(value: object) -> str:
    return str(value).replace(str(Path.home()), "~")
