"""A TensorRT engine as the executor sees it: its tensors, its profiles, contexts with shapes set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from runtime.bundle import GraphSpec
from runtime.cuda import Cuda, Stream
from runtime.engines.library import Library, log_of
from runtime.executors.device import check_names
from runtime.executors.kernels import Kernels
from textsr.errors import EngineError

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
BATCH = "B"
"""Name of the free axis of lines in a bundle's graphs."""
_TYPES = {
    **{"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "INT64": np.int64},
    **{"BOOL": np.bool_, "UINT8": np.uint8, "INT8": np.int8},
}


class EngineSource(Protocol):
    """Where serialised engines come from: built now, or out of the cache. What it gives has been verified."""

    @property
    def library(self) -> Library:
        """What built the engines and loads them."""

    def serialized(self, graph: GraphSpec) -> Any:
        """The bytes of a graph's engine. Raises EngineError where it cannot be built or is not trusted."""


@dataclass(frozen=True)
class Tensor:
    """Element type and number of axes of an engine's input or output."""

    dtype: np.dtype[Any]
    rank: int


class Engine:
    """A deserialised engine. Its contexts are made by `context`; it must outlive them."""

    def __init__(self, graph: GraphSpec, source: EngineSource, kernels: Kernels | None = None) -> None:
        """Raises EngineError where the library does not take the engine, or its tensors are not the graph's."""
        self.graph, self._library, trt = graph.name, source.library, source.library.module
        self._trt, self._log = trt, log_of(source.library)
        self._kernels = kernels or Kernels()
        data = source.serialized(graph)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise EngineError(f"graph {graph.name}: {self._why('its engine cannot be loaded on this machine')}")
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            mode = self._engine.get_tensor_mode(name)
            (self.inputs if mode == trt.TensorIOMode.INPUT else self.outputs)[name] = self._tensor(name)
        expected = {tensor.name for tensor in graph.inputs}, {tensor.name for tensor in graph.outputs}
        if expected != (set(self.inputs), set(self.outputs)):
            raise EngineError(f"graph {graph.name}: its engine has other inputs or outputs: build it again")
        self._batched = [tensor.name for tensor in graph.inputs if tensor.shape and tensor.shape[0] == BATCH]
        profiles = range(self._engine.num_optimization_profiles)
        self.profiles = tuple(self._limits(place) for place in profiles)
        self.scratch = tuple(self._engine.get_device_memory_size_for_profile_v2(place) for place in profiles)

    def _why(self, what: str) -> str:
        """``what`` with the last words of the library."""
        failures = getattr(self._log, "failures", ())
        return f"{what}: {self._library.name} says: {failures[-1]}" if failures else what

    def _tensor(self, name: str) -> Tensor:
        engine, trt = self._engine, self._trt
        kind = engine.get_tensor_dtype(name).name
        if kind not in _TYPES:
            raise EngineError(f"graph {self.graph}: tensor {name} is of type {kind}, which the executor does not know")
        if engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
            raise EngineError(f"graph {self.graph}: tensor {name} is to be in host memory: export the graph again")
        return Tensor(np.dtype(_TYPES[kind]), len(engine.get_tensor_shape(name)))

    def _limits(self, profile: int) -> dict[str, tuple[Shape, Shape]]:
        """Smallest and largest shape of every input in a profile."""
        found = {}
        for name in self.inputs:
            fixed = tuple(self._engine.get_tensor_shape(name))
            if -1 in fixed:
                least, _, most = self._engine.get_tensor_profile_shape(name, profile)
                found[name] = tuple(least), tuple(most)
            else:  # a profile need not tell of an input without a free axis
                found[name] = fixed, fixed
        return found

    @property
    def largest_batch(self) -> int:
        """Lines that the largest profile takes at once."""
        return max(min((limits[name][1][0] for name in self._batched), default=1) for limits in self.profiles)

    def profile(self, shapes: Shapes) -> int:
        """The profile for inputs of these shapes: of those that hold them, the one with the smallest limits.

        :raises EngineError: no profile holds them. The executor does not split: `largest_batch` tells the caller.
        """
        fits = [
            (sum(int(np.prod(most)) for _, most in limits.values()), place)
            for place, limits in enumerate(self.profiles)
            if all(_within(shapes[name], *limits[name]) for name in self.inputs)
        ]
        if not fits:
            shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise EngineError(
                f"graph {self.graph}: no profile of its engine takes {shown}; the largest batch is "
                f"{self.largest_batch}: use a smaller batch size, or build engines for a larger one"
            )
        return min(fits)[1]

    def context(self, profile: int, cuda: Cuda, stream: Stream) -> Any:
        """A context of its own for one stream, in a profile, whose scratch memory the caller supplies.

        TensorRT-RTX compiles kernels for the shapes before it goes on, not while a slower one stands in: what is
        captured is what stays.
        """
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self._trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        strategies = getattr(self._trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is not None:
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        self._kernels.attach(config)
        context = self._engine.create_execution_context(config)
        if context is None:
            raise EngineError(f"graph {self.graph}: {self._why('no execution context can be made')}")
        if not context.set_optimization_profile_async(profile, stream.handle):
            raise EngineError(f"graph {self.graph}: {self._why(f'profile {profile} cannot be set')}")
        cuda.synchronize(stream)
        return context

    def shape(self, context: Any, shapes: Shapes) -> dict[str, Shape]:
        """Sets the inputs' shapes; the outputs' shapes."""
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise EngineError(f"graph {self.graph}: {self._why(f'input {name} cannot be of shape {shape}')}")
        try:
            missing = context.infer_shapes()
        except RuntimeError as error:
            raise EngineError(f"graph {self.graph}: shapes cannot be inferred: {error}") from error
        if missing:
            raise EngineError(f"graph {self.graph}: shapes do not follow from the inputs: {', '.join(missing)}")
        return {name: tuple(context.get_tensor_shape(name)) for name in self.outputs}

    def enqueue(self, context: Any, addresses: Mapping[str, int], scratch: tuple[int, int], stream: Stream) -> None:
        """Puts a run on the stream: every input and output has its address, ``scratch`` is address and size."""
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise EngineError(f"graph {self.graph}: {self._why(f'the memory of {name} is not accepted')}")
        context.set_device_memory(*scratch)
        if not context.execute_async_v3(stream.handle):
            raise EngineError(f"graph {self.graph}: {self._why('it cannot be run')}")

    def check(self, shapes: Shapes, types: Mapping[str, np.dtype[Any]]) -> None:
        """Raises EngineError unless the inputs are this graph's, by name, element type and number of axes."""
        check_names(self.graph, self.inputs, shapes)
        for name, tensor in self.inputs.items():
            if types[name] != tensor.dtype or len(shapes[name]) != tensor.rank:
                raise EngineError(
                    f"graph {self.graph}: input {name} is {types[name]} {shapes[name]}, "
                    f"its engine takes {tensor.dtype} of {tensor.rank} axes"
                )


def _within(shape: Shape, least: Shape, most: Shape) -> bool:
    sides = zip(least, shape, most, strict=False)
    return len(shape) == len(least) and all(low <= side <= high for low, side, high in sides)
