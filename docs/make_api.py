"""The API reference: ``python -m docs.make_api`` writes docs/api.md from the docstrings (extra ``[dev]``).

Sources are parsed by griffe, the parser of mkdocstrings, and not imported; only the parsers of the command lines are.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import griffe

from docs.command_lines import COMMANDS, cell, command

ROOT = Path(__file__).resolve().parents[1]
API = ROOT / "docs" / "api.md"
MODULES: Mapping[str, Sequence[str] | None] = {
    "runtime": None,
    "runtime.options": ("Options",),
    "runtime.pages": None,
    "runtime.guard": None,
    "runtime.judging": None,
    "runtime.events": None,
    "runtime.recognizer": ("LineReader", "PPOCRReader", "find_model"),
    "runtime.plugins": None,
    "runtime.plugins.rapidocr": None,
    "runtime.plugins.doctr": None,
    "runtime.plugins.easyocr": None,
    "runtime.plugins.paddleocr": None,
    "runtime.serve": None,
    "runtime.serve.app": ("create_app",),
    "textsr.errors": None,
    "textsr.linetext": ("LineText",),
}
"""Public modules, and which of their names; None: ``__all__``, else every class, function and told constant that has
no underscore. A module that is not there is left out."""
HEAD = """# API reference

Made from the docstrings by `python -m docs.make_api`, which a test compares: change the docstring, not this file. Types
and defaults are those of the source. Names that are not shown here are not public and may change.
"""
CALLED = ("__init__", "__call__")
"""Methods with two underscores that are shown; a context manager says so in its docstring."""
WIDE = 110
FIELD = re.compile(r"\s*(?=``\w+``: )")


def load(root: Path = ROOT) -> dict[str, griffe.Module]:
    """The modules of `MODULES` that are there, by name."""
    loader = griffe.GriffeLoader(
        search_paths=[root], allow_inspection=False, docstring_parser=griffe.Parser.sphinx, force_inspection=False
    )
    for package in ("textsr", "runtime"):
        loader.load(package)
    loader.resolve_aliases()
    found: dict[str, griffe.Module] = {}
    for name in MODULES:
        package, *inside = name.split(".")
        module: Any = loader.modules_collection[package]
        for part in inside:
            module = module.members.get(part)
            if module is None:
                break
        else:
            found[name] = module
    return found


def public(module: griffe.Module) -> dict[str, Any]:
    """The public objects of a module by name, in the order of the source (of ``__all__``, where there is one)."""
    asked = MODULES[module.path] or module.exports
    if asked is not None:
        return {str(name): _target(module.members[str(name)], str(name)) for name in asked}
    own = {name: made for name, made in module.members.items() if not made.is_alias and not name.startswith("_")}
    return {name: made for name, made in own.items() if made.is_class or made.is_function or made.docstring}


def _target(made: Any, name: str) -> Any:
    """What an imported name stands for; where a module has the name of what is imported from it, that."""
    made = made.final_target if made.is_alias else made
    return made.members[name] if made.is_module else made


def methods(made: griffe.Class) -> dict[str, Any]:
    """The public methods and properties of a class, with those of `CALLED` that it writes itself."""
    plain = "dataclass" in made.labels
    return {
        name: member
        for name, member in made.members.items()
        if (name in CALLED and member.lineno and not plain) or (not name.startswith("_") and _is_method(member))
    }


def _is_method(member: Any) -> bool:
    return bool(member.is_function or "property" in member.labels)


def reference(modules: Mapping[str, griffe.Module]) -> str:
    """The whole page. Markdown."""
    shown: dict[str, str] = {}
    parts = [HEAD]
    index = [f"* [{name}](#{_anchor(f'module {name}')})" for name in modules] + ["* [Command lines](#command-lines)"]
    parts.append("\n".join(index) + "\n")
    for name, module in modules.items():
        parts.append(f"## Module {name}\n\n{_text(module)}\n")
        for each, made in public(module).items():
            title = f"{name}.{each}"
            if made.path in shown:
                parts.append(f"### {title}\n\nThe same as [{shown[made.path]}](#{_anchor(shown[made.path])}).\n")
                continue
            shown[made.path] = title
            parts += _object(title, each, made)
    parts.append("## Command lines\n\nEach tells the same with `--help`.\n")
    parts += [command(name) for name in COMMANDS]
    return "\n".join(parts)


def _anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _object(title: str, name: str, made: Any) -> Iterator[str]:
    where = made.relative_filepath.as_posix()
    yield f"### {title}\n\n*{_kind(made)}, [{where}](../{where})*\n"
    if made.is_attribute:
        yield f"```python\n{name} = {made.value}\n```\n\n{_text(made)}\n"
        return
    if made.is_function:
        yield _function(name, made)
        return
    if "dataclass" in made.labels:
        yield f"```python\n{_signature(name, made.parameters, '')}\n```\n"
    yield f"{_text(made)}\n"
    for each, member in methods(made).items():
        called = name if each == "__init__" else f"{name}.{each}"
        yield f"#### {called}\n"
        yield _function(called, member) if member.is_function else f"`{member.annotation}`: {_text(member)}\n"


def _kind(made: Any) -> str:
    if made.is_class:
        bases = ", ".join(str(base) for base in made.bases)
        return f"{'dataclass' if 'dataclass' in made.labels else 'class'}{f' ({bases})' if bases else ''}"
    return "function" if made.is_function else "constant"


def _function(name: str, made: griffe.Function) -> str:
    returns = "" if made.name == "__init__" or made.returns is None else f" -> {made.returns}"
    return f"```python\n{_signature(name, made.parameters, returns)}\n```\n\n{_text(made)}\n"


def _signature(name: str, parameters: Any, returns: str) -> str:
    words, bare = [], False
    for given in parameters:
        if given.name in ("self", "cls"):
            continue
        if given.kind is griffe.ParameterKind.keyword_only and not bare:
            bare = True
            words.append("*")
        star = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(given.kind, "")
        bare = bare or star == "*"
        word = f"{star}{given.name}" + (f": {given.annotation}" if given.annotation is not None else "")
        told = given.default is not None and not star
        words.append(f"{word} = {_value(given.default)}" if told else word)
    line = f"{name}({', '.join(words)}){returns}"
    if len(line) <= WIDE:
        return line
    return f"{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){returns}"


def _value(default: Any) -> str:
    """A default as the source has it, a constant's name replaced by what it is."""
    if isinstance(default, griffe.ExprName):
        try:
            around: Any = default.parent
            found = _target(around.modules_collection[default.canonical_path], "")
        except (KeyError, AttributeError):
            return str(default)
        return str(found.value) if found.is_attribute else str(default)
    return str(default)


def _text(made: Any) -> str:
    """A docstring: its text, its parameters as a table, its errors as a list."""
    if made.docstring is None:
        return ""
    parts = []
    for section in made.docstring.parsed:
        if section.kind is griffe.DocstringSectionKind.text:
            parts += [_paragraph(text) for text in section.value.split("\n\n")]
        elif section.kind is griffe.DocstringSectionKind.parameters:
            rows = [f"| `{given.name}` | {cell(given.description)} |" for given in section.value]
            parts.append("\n".join(["| parameter | |", "|---|---|", *rows]))
        elif section.kind is griffe.DocstringSectionKind.raises:
            parts.append(
                "\n".join(f"* raises `{error.annotation}`: {cell(error.description)}" for error in section.value)
            )
        else:
            raise ValueError(f"{made.path}: a section {section.kind.value} of a docstring is not known here")
    return "\n\n".join(parts)


def _paragraph(text: str) -> str:
    """A paragraph; one that explains names one after the other, as those of dataclasses do, as a list."""
    if not FIELD.match(text):
        return text
    return "\n".join(f"* {' '.join(item.split()).rstrip(';')}" for item in FIELD.split(text) if item)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    made = argparse.ArgumentParser(prog="python -m docs.make_api", description=(__doc__ or "").split("\n")[0])
    made.add_argument("--check", action="store_true", help="write nothing; exit status 1 where docs/api.md is not so")
    options = made.parse_args(arguments)
    text = reference(load())
    if options.check:
        return int(not API.is_file() or API.read_text(encoding="utf-8") != text)
    API.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
