"""The graphs as torch modules: the reference on a CPU; on CUDA in half precision too, a pass as one captured graph.

On a CPU a "captured" pass runs the same program step by step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from textsr.errors import EngineError, InputError
from textsr.loop import Executor, LoopKey
from textsr.networks.precision import lower
from textsr.networks.swin import kept_mask
from textsr.program import Program, Run
from textsr.replay import Looper

Precision = Literal["fp32", "tf32", "fp16", "bf16"]
_TYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_ALIGNMENT = 256
COMPILED_SIZES = 64
"""Of a graph's inputs, over all executors of a process, that can be compiled for."""


class TorchExecutor:
    """Runs ``textsr.graphs`` modules on a torch device; handles are tensors.

    ``name`` tells device and precision: ``torch:cpu`` is float32, the reference; ``torch:cuda:0:fp16`` has the networks
    in half precision and what lies between them in float32 (`textsr.networks.precision.lower`). ``fp32`` means TF32 is
    off in matrix products and convolutions while graphs run, ``tf32`` that it is on in both, whatever torch's own
    defaults are. ``:compiled`` behind it: torch.compile has fused what the networks do, and cuDNN's convolutions are
    those that were fastest when first met, so that two processes may differ within rounding.
    """

    def __init__(
        self,
        graphs: Mapping[str, nn.Module],
        device: str | torch.device = "cpu",
        *,
        precision: Precision = "fp32",
        capture: bool = False,
        compiled: bool = False,
    ) -> None:
        """An executor that moves ``graphs`` to the device and, for half precision, converts them in place.

        :param capture: whether passes of the loop are recorded and replayed as one graph (`textsr.replay`). The
            weights must then stay where they are.
        :param compiled: whether graphs go through torch.compile, each the first time that it meets inputs of some
            sizes, which takes up to some minutes. Needs a C++ compiler, on CUDA Triton as well.
        :raises InputError: unknown precision.
        """
        if precision not in _TYPES:
            raise InputError(f"precision {precision!r}: torch has {', '.join(_TYPES)}")
        self.device = torch.device(device)
        self.precision = precision
        plain = self.device.type == "cpu" and precision == "fp32"
        self.name = f"torch:{self.device}" if plain else f"torch:{self.device}:{precision}"
        self.graphs = {name: graph.to(self.device).eval() for name, graph in graphs.items()}
        if _TYPES[precision] != torch.float32:
            lower(self.graphs.values(), _TYPES[precision])
        self._modules: Mapping[str, Any] = self.graphs
        self._compiled = compiled
        if compiled:
            self.name += ":compiled"
            self._modules = {name: _through_compiler(graph, self.name) for name, graph in self.graphs.items()}
        self._looper = Looper(self, self._captured) if capture else None
        self._turn = threading.Lock()
        self._process = os.getpid() if self.device.type == "cuda" else None
        self._open = True

    def _check(self) -> None:
        """Raises EngineError after `close`, and where CUDA is used after a fork."""
        if not self._open:
            raise EngineError(f"{self.name}: the executor is closed")
        if self._process not in (None, os.getpid()):
            raise EngineError(f"{self.name} is used after a fork: open the executor in the process that uses it")

    def put(self, array: Any) -> Tensor:
        """A copy of a host array on the device; what is on a CUDA device already is taken as it is."""
        self._check()
        if isinstance(array, np.ndarray | np.generic) or self.device.type == "cpu":
            return torch.tensor(array, device=self.device)
        interface = {} if isinstance(array, Tensor) else getattr(array, "__cuda_array_interface__", {})
        if interface.get("stream"):  # torch itself does not wait for the producer
            torch.cuda.ExternalStream(interface["stream"], self.device).synchronize()
        return torch.as_tensor(array, device=self.device)

    @torch.inference_mode()
    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name. Raises EngineError for a graph that this model does not have."""
        self._check()
        if graph not in self.graphs:
            raise EngineError(f"this model has no graph {graph!r}; it has {', '.join(sorted(self.graphs))}")
        module: Any = self.graphs[graph]
        with self._arithmetic():
            outputs = self._modules[graph](*(inputs[name] for name in module.inputs))
        return dict(zip(module.outputs, outputs, strict=True))

    def get(self, handle: Tensor) -> NDArray[Any]:
        """The value as a NumPy array on the host; bfloat16, which NumPy lacks, as float32."""
        self._check()
        value = handle.detach().cpu()
        return np.asarray((value.float() if value.dtype == torch.bfloat16 else value).numpy())

    def get_device(self, handle: Tensor) -> Tensor:
        """The value without a copy: a tensor on CUDA offers ``__cuda_array_interface__`` itself."""
        self._check()
        return handle.detach()

    @contextmanager
    def loop(self, key: LoopKey) -> Iterator[Executor]:
        """The executor for one pass of the loop; captured passes take turns."""
        self._check()
        if self._looper is None:
            yield self
        else:
            with self._turn, self._looper.loop(key) as runner:
                yield runner

    def close(self) -> None:
        """Waits for a pass under way and frees captured ones; nothing can be run afterwards. Again does nothing."""
        if self._process not in (None, os.getpid()):
            return
        with self._turn:
            if self._looper is not None:
                self._looper.close()
            self._open = False

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """TF32 as ``precision`` says, torch's settings being the caller's again afterwards."""
        if self.device.type != "cuda":
            yield
            return
        matmul, cudnn, wanted = torch.backends.cuda.matmul, torch.backends.cudnn, self.precision == "tf32"
        before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
        matmul.allow_tf32 = cudnn.allow_tf32 = wanted
        cudnn.benchmark = self._compiled
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before

    def _captured(self, program: Program) -> _CapturedPass:
        try:
            return _CapturedPass(self, program)
        except RuntimeError as error:  # what torch raises for CUDA's errors, memory included
            raise EngineError(f"torch {torch.__version__}: {str(error).splitlines()[0]}") from error


def _through_compiler(graph: nn.Module, executor: str) -> Callable[..., Any]:
    """What torch.compile makes of a graph, of each size of its inputs anew. Convolutions are channels-last there, so
    their weights are laid out so once and not at every call. It raises EngineError where a graph cannot be compiled."""
    for part in graph.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.data = part.weight.data.contiguous(memory_format=torch.channels_last)
    torch.compiler.assume_constant_result(kept_mask)  # marks the function itself
    compiled = torch.compile(graph, dynamic=False, fullgraph=True)
    dynamo: Any = import_module("torch._dynamo")  # takes seconds, which only those wait for who compile

    def run(*inputs: Tensor) -> Any:
        try:
            with dynamo.config.patch(recompile_limit=COMPILED_SIZES):
                return compiled(*inputs)
        except dynamo.exc.TorchDynamoException as error:
            why = " ".join(str(error).splitlines()[:2])
            raise EngineError(f"{executor}: {type(graph).__name__} cannot be compiled: {why}") from error

    return run


class _CapturedPass:
    """A `textsr.replay.Captured`: arrays go over in one copy; on CUDA everything is one graph of two branches."""

    def __init__(self, executor: TorchExecutor, program: Program) -> None:
        self._executor, self._program = executor, program
        self._cuda = executor.device.type == "cuda"
        self._offsets, end = {}, 0
        for put in program.puts:
            self._offsets[put.value] = end, np.dtype(put.dtype), put.shape
            size = int(np.prod(put.shape, dtype=np.int64)) * np.dtype(put.dtype).itemsize
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        self._source = torch.zeros(max(end, 1), dtype=torch.uint8, pin_memory=self._cuda)
        self._arena = torch.zeros_like(self._source, device=executor.device)
        self._sink: dict[int, Tensor] = {}
        self._graph: Any = None
        self._streams: Any = None
        if self._cuda:
            with torch.cuda.device(executor.device):
                self._capture()

    def _capture(self) -> None:
        """Runs once on streams of its own, which also compiles kernels and makes constants, and captures."""
        main, side = torch.cuda.Stream(), torch.cuda.Stream()
        self._streams = {False: main, True: side}
        main.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(main):
            self._execute()
        main.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        # A capture begun in a caller's inference mode would spoil later ones outside of it: the generator's seed, which
        # torch makes with the first graph and keeps for all, would be an inference tensor (pytorch issue 166792).
        with (
            torch.inference_mode(mode=False),
            torch.cuda.graph(self._graph, stream=main, capture_error_mode="thread_local"),
        ):
            self._execute()

    def _on(self, side: bool) -> Any:
        return torch.cuda.stream(self._streams[side]) if self._cuda else nullcontext()

    def _view(self, block: Tensor, value: int) -> Tensor:
        offset, dtype, shape = self._offsets[value]
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return block[offset : offset + size].view(kind).view(shape)

    @torch.inference_mode()
    def _execute(self) -> None:
        """The program in its order. A value that both branches touch is kept to the end, so that its memory does not
        become the other branch's while that still reads it."""
        self._arena.copy_(self._source, non_blocking=True)
        values = {value: self._view(self._arena, value) for value in self._offsets}
        marks = {-1: self._mark(False)}
        waits = iter(self._program.waits)
        for place, call in enumerate(self._program.calls):
            if not isinstance(call, Run):
                continue
            wait = next(waits)
            with self._on(call.side):
                if wait is not None and self._cuda:
                    self._streams[call.side].wait_event(marks[wait])
                found = self._executor.run(call.graph, {name: values[value] for name, value in call.inputs})
            values |= {value: found[name] for name, value in call.outputs}
            del found
            marks[len(marks) - 1] = self._mark(call.side)
            for value in (value for _, value in (*call.inputs, *call.outputs)):
                private = self._program.branches[value] == {call.side}
                if private and self._program.last_use[value] == place:
                    values.pop(value, None)
        if self._cuda:
            self._streams[False].wait_stream(self._streams[True]) if any(r.side for r in self._program.runs) else None
        for value in self._program.gets:
            if value not in self._sink:
                self._sink[value] = torch.empty_like(values[value], device="cpu", pin_memory=self._cuda)
            self._sink[value].copy_(values[value], non_blocking=True)

    def _mark(self, side: bool) -> Any:
        return self._streams[side].record_event() if self._cuda else None

    def fill(self, value: int, array: NDArray[Any]) -> None:
        """Copies a host array into the pinned block."""
        self.filled(value)[...] = array

    def filled(self, value: int) -> NDArray[Any]:
        """The array's place in the pinned block."""
        return self._view(self._source, value).numpy()

    def launch(self) -> None:
        """Runs everything and waits."""
        if self._graph is None:
            self._execute()
        else:
            with torch.cuda.device(self._executor.device), torch.cuda.stream(self._streams[False]):
                self._graph.replay()
            self._streams[False].synchronize()

    def read(self, value: int) -> NDArray[Any]:
        """A copy of a value that the program brings to the host."""
        return self._sink[value].numpy().copy()

    def close(self) -> None:
        """Lets go of the graph and its memory."""
        self._graph = None
        self._sink.clear()
