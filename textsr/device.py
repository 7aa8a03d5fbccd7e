"""Names of devices: auto, cpu, cuda, cuda:N."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from textsr.errors import InputError

_PATTERN = re.compile(r"auto|cpu|cuda(?::(\d{1,3}))?")


@dataclass(frozen=True)
class Device:
    """A device as asked for; ``index`` counts CUDA devices."""

    kind: Literal["auto", "cpu", "cuda"]
    index: int = 0

    @classmethod
    def parse(cls, name: str) -> Device:
        """The device called ``name``. Raises InputError on any other name."""
        match = _PATTERN.fullmatch(name)
        if match is None:
            raise InputError(f"unknown device {name!r}: choose auto, cpu, cuda or cuda:N")
        if name.startswith("cuda"):
            return cls("cuda", int(match.group(1) or 0))
        return cls("cpu" if name == "cpu" else "auto")

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind
