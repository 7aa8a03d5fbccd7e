"""TensorRT, or TensorRT for RTX: engines on a CUDA device, a pass of the loop as one graph. Not tried on a GPU yet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from runtime.bundle import Bundle, GraphSpec
from runtime.cuda import Cuda, DeviceArray
from runtime.engines import CachedEngines, Settings, Target, keep_kernels, prepare, read_kernels
from runtime.executors.captured import CapturedProgram
from runtime.executors.device import graph_precision, known_graph
from runtime.executors.engine import Engine, EngineSource
from runtime.executors.kernels import Kernels
from runtime.executors.lane import Lane
from textsr.device import Device
from textsr.errors import DeviceError, EngineError
from textsr.loop import Executor, LoopKey
from textsr.program import Program
from textsr.replay import Looper

logger = logging.getLogger(__name__)

LANES = 2
"""Passes of the loop that run at once; a further thread waits for its turn."""


def open_bundle(bundle: Bundle, device: str, threads: int | None, precision: str = "auto") -> TensorRTExecutor:
    """What `runtime.executors.open_executor` calls: engines come out of the cache, or are built now.

    :raises DeviceError: no CUDA device is there, or the CPU is asked for.
    :raises EngineError: TensorRT or cuda-bindings is not installed, or engines cannot be built or loaded here.
    """
    wanted = Device.parse(device)
    if wanted.kind == "cpu":
        raise DeviceError("TensorRT needs CUDA: use --device cuda, or another executor")
    chosen = graph_precision(bundle, precision, cuda=True)
    Cuda(wanted.index).close()  # says at once where there is no device, before anything is built
    source = CachedEngines(bundle, Settings(precision=chosen), Target.here(device=wanted.index))
    plan = source.plan()
    kernels = Kernels(lambda: read_kernels(plan), lambda data: keep_kernels(plan, data))
    executor = TensorRTExecutor(bundle.graphs, source, index=wanted.index, precision=chosen, kernels=kernels)
    try:
        executor.engine("text_condition")  # a small one says whether this GPU takes the library's engines at all
        prepare(source.plan())
    except BaseException:
        executor.close()
        raise
    logger.info("%s: engines of the bundle's %s graphs", executor.name, chosen)
    return executor


class _Lane(Lane):
    """A lane with its captured passes."""

    def __init__(self, owner: TensorRTExecutor) -> None:
        super().__init__(owner.name, owner.cuda, owner.engine, owner)
        self.looper = Looper(self, self._capture)

    def _capture(self, program: Program) -> CapturedProgram:
        engines = {run.graph: self._engine(run.graph) for run in program.runs}
        return CapturedProgram(self, program, engines)

    def close(self) -> None:
        """See `Lane.close`."""
        self.looper.close()
        super().close()


class TensorRTExecutor:
    """Runs engines. Handles are `runtime.cuda.DeviceArray`; every public method is safe from any thread.

    ``put``, ``run`` and ``get`` share one stream. Each pass of the loop gets one of `LANES` streams with contexts and
    memory of its own, and is captured when its `LoopKey` comes the second time. A batch above ``largest_batch`` is
    refused, never split. After `close`, and in a process forked from this one, everything raises EngineError.
    """

    def __init__(
        self,
        graphs: Mapping[str, GraphSpec],
        source: EngineSource,
        *,
        index: int = 0,
        precision: str = "fp32",
        lanes: int = LANES,
        kernels: Kernels | None = None,
        api: Any = None,
    ) -> None:
        """An executor of engines from ``source``, each loaded at its first use.

        :param index: of the CUDA device.
        :param precision: of the engines, for the name alone.
        :param kernels: what TensorRT-RTX compiles, taken from and kept in.
        :param api: stands in for ``cuda.bindings.runtime``.
        :raises DeviceError: there is no such device.
        :raises EngineError: cuda-bindings is not installed.
        """
        self._graphs, self._source, self._most = dict(graphs), source, lanes
        self.cuda = Cuda(index, api)
        self.name = f"{source.library.name}:cuda:{index}:{precision}"
        self._kernels = kernels or Kernels()
        self._engines: dict[str, Engine] = {}
        self._loading = threading.Lock()
        self._turn = threading.Condition()
        self._idle: list[_Lane] = []
        self._busy: dict[_Lane, int] = {}  # lane: thread that has it
        self._closing = False
        try:
            with self.cuda.current():
                self._shared = _Lane(self)
        except BaseException:
            self.cuda.close()
            raise

    @property
    def largest_batch(self) -> int:
        """Lines that may be restored at once."""
        return self.engine("unet_step").largest_batch

    def engine(self, graph: str) -> Engine:
        """A graph's engine, loaded now where it was not. Raises EngineError where there is none."""
        spec = known_graph(self._graphs, graph)
        with self._loading:
            self.cuda.check()
            if graph not in self._engines:
                with self.cuda.current():
                    self._engines[graph] = Engine(spec, self._source, self._kernels)
            return self._engines[graph]

    def put(self, array: Any) -> DeviceArray:
        """A host array on the device. An object with ``__cuda_array_interface__`` is taken without a copy."""
        return self._shared.put(array)

    def get(self, handle: DeviceArray) -> NDArray[Any]:
        """The values on the host."""
        return self._shared.get(handle)

    def get_device(self, handle: DeviceArray) -> DeviceArray:
        """The values without a copy, for whoever takes ``__cuda_array_interface__``; valid until `close`."""
        return self._shared.put(handle)

    def run(self, graph: str, inputs: Mapping[str, DeviceArray]) -> dict[str, DeviceArray]:
        """Outputs of a graph by name. Raises EngineError on wrong inputs, a batch too large or a failing run."""
        return self._shared.run(graph, inputs)

    @contextmanager
    def loop(self, key: LoopKey) -> Iterator[Executor]:
        """The executor for one pass of the loop; see `textsr.replay.Looper`."""
        lane = self._lease()
        try:
            with lane.looper.loop(key) as runner:
                yield runner
        finally:
            with self._turn:
                del self._busy[lane]
                self._idle.append(lane)
                self._turn.notify_all()

    def _lease(self) -> _Lane:
        """An idle lane, the one used last, or a new one; waits where all are busy."""
        self.cuda.check()
        with self._turn:
            while not self._idle and len(self._busy) >= self._most and not self._closing:
                self._turn.wait()
            if self._closing:
                raise EngineError(f"{self.name}: the executor is closed")
            if self._idle:
                lane = self._idle.pop()
            else:
                with self.cuda.current():
                    lane = _Lane(self)
            self._busy[lane] = threading.get_ident()
            return lane

    def close(self) -> None:
        """Waits for passes under way and frees everything; again does nothing, as in a forked process.

        :raises EngineError: called within a pass of the loop.
        """
        try:
            self.cuda.check()
        except EngineError:
            return
        with self._turn:
            if threading.get_ident() in self._busy.values():
                raise EngineError(f"{self.name}: close() within a pass of the loop")
            if self._closing:
                return
            self._closing = True
            self._turn.notify_all()
            while self._busy:
                self._turn.wait()
            lanes, self._idle = [*self._idle, self._shared], []
        with self._loading, self.cuda.current(closing=True):
            self._kernels.store()
            for lane in lanes:
                with lane.lock:
                    lane.close()
            self._engines.clear()
            self.cuda.close()

    def __enter__(self) -> TensorRTExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
