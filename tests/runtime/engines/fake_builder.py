"""The building half of TensorRT 11 as a stand-in that has exactly the real bindings' names (`NAMES`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

NAMES = json.loads((Path(__file__).resolve().parents[2] / "data" / "tensorrt_11_names.json").read_text("utf-8"))


class Instance:
    """An object of a real class: notes every call, takes only calls and properties that the real class has."""

    def __init__(self, fake: FakeModule, kind: str) -> None:
        self.__dict__.update(fake=fake, kind=kind, about=NAMES["classes"][kind])

    def __getattr__(self, name: str) -> Any:
        overloads = self.about["methods"].get(name)
        if overloads is None:
            assert name in self.about["properties"], f"TensorRT's {self.kind} has no {name}"
            return self.fake.answers.get(f"{self.kind}.{name}", 0)

        def call(*given: Any) -> Any:
            fits = [len([p for p in found if "=" not in p]) <= len(given) <= len(found) for found in overloads]
            assert any(fits), f"TensorRT's {self.kind}.{name} takes {overloads}, not {len(given)} arguments"
            self.fake.calls.append((f"{self.kind}.{name}", given))
            answer = self.fake.answers.get(f"{self.kind}.{name}")
            return answer(*given) if callable(answer) else answer

        return call

    def __setattr__(self, name: str, value: object) -> None:
        assert name in self.about["properties"], f"TensorRT's {self.kind} has no property {name}"
        self.fake.calls.append((f"{self.kind}.{name}=", (value,)))


class _Subclassed:
    """What our own classes derive from."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass


class FakeModule:
    """``import tensorrt``. ``calls`` are (class.method, arguments) in order; ``answers`` what they give."""

    __version__ = "11.4.0.106"

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.answers: dict[str, Any] = {
            "Builder.create_network": lambda flags: Instance(self, "INetworkDefinition"),
            "Builder.create_builder_config": lambda: Instance(self, "IBuilderConfig"),
            "Builder.create_optimization_profile": lambda: Instance(self, "IOptimizationProfile"),
            "Builder.build_serialized_network": lambda network, config: b"engine",
            "OnnxParser.parse_from_file": lambda path: True,
            "IBuilderConfig.create_timing_cache": lambda data: Instance(self, "ITimingCache"),
            "IBuilderConfig.set_timing_cache": lambda cache, ignore: True,
            "ITimingCache.serialize": lambda: b"times",
            "INetworkDefinition.num_layers": 12,
        }

    def __getattr__(self, name: str) -> Any:
        assert name in NAMES["names"], f"TensorRT {NAMES['version']} has no {name}"
        if name in ("ILogger", "IProgressMonitor"):
            return _Subclassed
        if "values" in NAMES["classes"][name]:
            return IntEnum(name, NAMES["classes"][name]["values"])
        return self._maker(name)

    def _maker(self, name: str) -> Callable[..., Instance]:
        def make(*given: Any) -> Instance:
            assert any(len(found) == len(given) for found in NAMES["classes"][name]["init"])
            return Instance(self, name)

        return make

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """Arguments of every call of ``name``."""
        return [given for call, given in self.calls if call == name]
