"""What both of atheris' harnesses need."""

from __future__ import annotations

import inspect
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import atheris


def instrument(*modules: ModuleType) -> None:
    """Has libFuzzer see the branches of the modules' own functions. Instrumenting imports would take in all that they
    import, which takes a minute."""
    for module in modules:
        for entry in list(vars(module).values()):
            members = list(vars(entry).values()) if inspect.isclass(entry) else [entry]
            for member in members:
                function = getattr(member, "__func__", member)
                if inspect.isfunction(function) and function.__module__ == module.__name__:
                    atheris.instrument_func(function)


def fuzz(one: Callable[[bytes], Any], seeds: Mapping[str, bytes], longest: int) -> None:
    """Calls ``one`` with bytes until libFuzzer, whose options the command line has, is done; it does not return.

    :param seeds: what to begin with, by name.
    """
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds.values()):
            (Path(folder) / str(number)).write_bytes(data[:longest])
        atheris.Setup([*sys.argv, f"-max_len={longest}", folder], one)
        atheris.Fuzz()
