"""docs/api.md is what its generator makes of the docstrings, and these say what a caller has to know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("griffe", reason="griffelib (extra [dev]) parses the docstrings")

from docs import make_api


@pytest.fixture(scope="module")
def modules() -> dict[str, Any]:
    return dict(make_api.load())


def everything(modules: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Every public object and method: what it is called, itself, and the class around it."""
    for name, module in modules.items():
        yield name, module, None
        for each, made in make_api.public(module).items():
            yield f"{name}.{each}", made, None
            if made.is_class:
                for inner, method in make_api.methods(made).items():
                    yield f"{name}.{each}.{inner}", method, made


def parameters(made: Any) -> list[str]:
    """Those of a function, and the fields of a dataclass."""
    plain = made.is_function or (made.is_class and "dataclass" in made.labels)
    return [given.name for given in made.parameters if given.name not in ("self", "cls")] if plain else []


def test_the_reference_is_what_the_docstrings_say(modules: dict[str, Any]) -> None:
    text = make_api.API.read_text(encoding="utf-8")
    assert make_api.reference(modules) == text, "run python -m docs.make_api"


def test_every_public_name_has_a_docstring(modules: dict[str, Any]) -> None:
    lacking = [
        name
        for name, made, around in everything(modules)
        if not made.docstring and not (made.name == "__init__" and around is not None and around.docstring)
    ]
    assert not lacking


def test_every_parameter_is_explained(modules: dict[str, Any]) -> None:
    """By ``:param`` or in the text, of the function or of the class around it."""
    lacking = []
    for name, made, around in everything(modules):
        said = " ".join(one.docstring.value for one in (made, around) if one is not None and one.docstring)
        lacking += [f"{name}({given})" for given in parameters(made) if not re.search(rf"\b{given}\b", said)]
    assert not lacking


def test_all_that_is_named_is_there(modules: dict[str, Any]) -> None:
    gone = [name for name in make_api.MODULES if name not in modules and name != "runtime.pages"]
    assert not gone
    shown = {f"runtime.{name}" for name in __import__("runtime").__all__}
    assert shown == {f"runtime.{name}" for name in make_api.public(modules["runtime"])}


def test_signatures_lists_and_tables_are_made() -> None:
    text = make_api.API.read_text(encoding="utf-8")
    assert "scale: float = 4" in text
    assert "\n* ``max_confidence``: a line each of whose characters" in text
    assert "| `threads` | CPU threads; None leaves it to the executor. |" in text
    assert "* raises `BusyError`: as many calls are running" in text
