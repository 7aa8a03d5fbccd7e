"""A stand-in for TensorRT whose classes, members and parameters are checked against the real bindings' names.

An engine is a description in JSON; running one calls ``compute`` on host copies of what lies at the addresses.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import GraphSpec
from runtime.engines.library import Library
from runtime.engines.profiles import profiles
from tests.runtime.executors.fake_cuda import FakeCuda

NAMES = json.loads((Path(__file__).resolve().parents[2] / "data" / "tensorrt_11_names.json").read_text("utf-8"))
Arrays = dict[str, NDArray[Any]]
Compute = Callable[[str, Arrays], Mapping[str, NDArray[Any]]]
TYPES = {"float32": "FLOAT", "float16": "HALF", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}
LARGEST_SCRATCH = 1 << 14


def enum(name: str) -> Any:
    """An enumeration with the real one's members."""
    return IntEnum(name, NAMES["classes"][name]["values"])


DataType, TensorIOMode, TensorLocation = enum("DataType"), enum("TensorIOMode"), enum("TensorLocation")
Strategy = enum("ExecutionContextAllocationStrategy")


class Base:
    """Refuses attributes that the real class does not have, as pybind11 does."""

    def __setattr__(self, name: str, value: object) -> None:
        known = NAMES["classes"][type(self).__name__]["properties"]
        if not name.startswith("_") and name not in known:
            raise AttributeError(f"TensorRT's {type(self).__name__} has no property {name}")
        object.__setattr__(self, name, value)


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self) -> None:
        pass

    def log(self, severity: int, msg: str) -> None:
        raise AssertionError("to be overridden")


class IRuntimeConfig(Base):
    def __init__(self) -> None:
        self._strategy = Strategy.STATIC

    def set_execution_context_allocation_strategy(self, strategy: Any = Strategy.STATIC) -> None:
        self._strategy = strategy


class IExecutionContext(Base):
    def __init__(self, engine: ICudaEngine, strategy: Any) -> None:
        assert strategy == Strategy.USER_MANAGED
        self._engine, self._profile = engine, -1
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._memory: tuple[int, int] | None = None
        self._warm: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._engine._cuda.order(stream_handle)
        assert 0 <= profile_index < self._engine.num_optimization_profiles
        self._profile = profile_index
        return self._engine._step("set_optimization_profile_async")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        fixed = self._engine.get_tensor_shape(name)
        free = -1 in fixed
        least, _, most = self._engine.get_tensor_profile_shape(name, self._profile) if free else [fixed] * 3
        assert len(shape) == len(least)
        self._shapes[name] = shape
        inside = all(low <= side <= high for low, side, high in zip(least, shape, most, strict=True))
        return inside and self._engine._step("set_input_shape")

    def infer_shapes(self) -> list[str]:
        if not self._engine._step("infer_shapes"):
            raise RuntimeError("made to fail")
        return [name for name in self._engine._inputs if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sizes: dict[str, int] = {}
        for tensor in self._engine._about["inputs"]:
            sizes |= {
                axis: side
                for axis, side in zip(tensor["shape"], self._shapes[tensor["name"]], strict=True)
                if isinstance(axis, str)
            }
        return tuple(sizes.get(axis, axis) for axis in self._engine._tensor(name)["shape"])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory % 256 == 0
        self._addresses[name] = memory
        return self._engine._step("set_tensor_address")

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        assert size >= self._engine.get_device_memory_size_for_profile_v2(self._profile)
        self._memory = memory, size

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine, cuda = self._engine, self._engine._cuda
        if not engine._step("execute_async_v3"):
            return False
        shapes = tuple(self._shapes.items())
        assert cuda.order(stream_handle).capture is None or self._warm == shapes, "captured before it ran once"
        self._warm = shapes
        assert self._memory is not None
        spans = {name: (self._addresses[name], self._size(name)) for name in (*engine._inputs, *engine._outputs)}
        reads = [spans[name] for name in engine._inputs]
        writes = [*(spans[name] for name in engine._outputs), self._memory]
        every = sorted([*reads, *writes])
        assert all(low + size <= high for (low, size), (high, _) in pairwise(every) if low != high), "memory overlaps"
        assert not set(reads) & set(writes), "an output lies on an input"
        sizes = {name: (self.get_tensor_shape(name), engine._tensor(name)["dtype"]) for name in spans}

        def run() -> None:
            given = {
                name: cuda.view(*spans[name]).view(sizes[name][1]).reshape(sizes[name][0]).copy()
                for name in engine._inputs
            }
            found = engine._compute(engine._about["graph"], given)
            for name in engine._outputs:
                value = np.ascontiguousarray(found[name])
                assert (value.shape, value.dtype.name) == sizes[name], f"{name}: {value.shape} {value.dtype}"
                cuda.view(*spans[name])[:] = value.reshape(-1).view(np.uint8)

        with cuda.lock:
            cuda.enqueue(stream_handle, reads, writes, run)
        return True

    def _size(self, name: str) -> int:
        return int(np.prod(self.get_tensor_shape(name))) * np.dtype(self._engine._tensor(name)["dtype"]).itemsize


class ICudaEngine(Base):
    def __init__(self, about: dict[str, Any], cuda: FakeCuda, compute: Compute) -> None:
        self._about, self._cuda, self._compute = about, cuda, compute
        self._inputs = [tensor["name"] for tensor in about["inputs"]]
        self._outputs = [tensor["name"] for tensor in about["outputs"]]
        self.num_io_tensors = len(self._inputs) + len(self._outputs)
        self.num_optimization_profiles = len(about["profiles"])

    def _step(self, name: str) -> bool:
        return not self._cuda.count(name)

    def _tensor(self, name: str) -> dict[str, Any]:
        return next(t for t in (*self._about["inputs"], *self._about["outputs"]) if t["name"] == name)

    def get_tensor_name(self, index: int) -> str:
        return [*self._inputs, *self._outputs][index]

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return DataType[TYPES[self._tensor(name)["dtype"]]]

    def get_tensor_location(self, name: str) -> Any:
        return TensorLocation.DEVICE

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(axis if isinstance(axis, int) else -1 for axis in self._tensor(name)["shape"])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert -1 in self.get_tensor_shape(name), "asked of an input without a free axis"
        return [tuple(limit) for limit in self._about["profiles"][profile_index][name]]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        return LARGEST_SCRATCH >> (self.num_optimization_profiles - 1 - profile_index)

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, runtime_config: IRuntimeConfig) -> IExecutionContext | None:
        return IExecutionContext(self, runtime_config._strategy) if self._step("create_execution_context") else None


class Runtime(Base):
    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self._where: tuple[FakeCuda, Compute] = type(self)._given  # type: ignore[attr-defined]

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        cuda, compute = self._where
        failed = cuda.count("deserialize_cuda_engine")
        return None if failed else ICudaEngine(json.loads(serialized_engine), cuda, compute)


class Module:
    """``import tensorrt``."""

    def __init__(self, cuda: FakeCuda, compute: Compute) -> None:
        runtime = type("Runtime", (Runtime,), {"_given": (cuda, compute)})
        self._members = {
            **{"Runtime": runtime, "ILogger": ILogger, "ICudaEngine": ICudaEngine, "DataType": DataType},
            **{"IExecutionContext": IExecutionContext, "IRuntimeConfig": IRuntimeConfig},
            **{"TensorIOMode": TensorIOMode, "TensorLocation": TensorLocation},
            "ExecutionContextAllocationStrategy": Strategy,
        }

    def __getattr__(self, name: str) -> Any:
        if name not in NAMES["names"]:
            raise AttributeError(f"TensorRT {NAMES['version']} has no {name}")
        return self._members[name]


class FakeSource:
    """A `runtime.executors.engine.EngineSource`."""

    def __init__(self, cuda: FakeCuda, compute: Compute, batches: tuple[int, ...] = (1, 4)) -> None:
        self.library = Library("tensorrt", "11.fake", Module(cuda, compute))
        self._batches = batches

    def serialized(self, graph: GraphSpec) -> bytes:
        """A description of the engine."""
        sides = {
            side: [{"name": t.name, "shape": t.shape, "dtype": t.dtype} for t in getattr(graph, side)]
            for side in ("inputs", "outputs")
        }
        limits = [{s.name: [s.least, s.best, s.most] for s in p.inputs} for p in profiles(graph, self._batches)]
        return json.dumps({"graph": graph.name, **sides, "profiles": limits}).encode()


def check_names() -> None:
    """Every public member of the fake is the real bindings', with parameters that one of its overloads has."""
    for kind in (Runtime, ICudaEngine, IExecutionContext, IRuntimeConfig, ILogger):
        real = NAMES["classes"][kind.__name__]
        for name, member in vars(kind).items():
            if name.startswith("_"):
                continue
            assert name in real["methods"] or name in real["properties"], f"{kind.__name__} has no {name}"
            if inspect.isfunction(member):
                own = [parameter for parameter in inspect.signature(member).parameters if parameter != "self"]
                overloads = [[parameter.rstrip("=") for parameter in found] for found in real["methods"][name]]
                assert own in overloads, f"{kind.__name__}.{name} takes {overloads}, not {own}"
