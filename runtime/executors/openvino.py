"""Graphs on OpenVINO: about twice as fast as ONNX Runtime on CPUs that multiply in bfloat16 (measured with AMX).

An executor of its own, taken only when it is asked for: needs the extra [openvino].
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Bundle, GraphSpec
from runtime.executors.device import Lifetime, check_names, check_precision, known_graph
from textsr.device import Device
from textsr.errors import DeviceError, EngineError, InputError

logger = logging.getLogger(__name__)

IN_BF16 = frozenset({"vqgan_encoder", "unet_step", "vqgan_decoder"})
"""Graphs that bf16 is for: nearly all of the work under fixed text. The others compute coordinates, as painted_encoder
does too, times and the chances that text is drawn from: they stay in fp32."""
_PRECISIONS = ("auto", "fp32", "bf16")
_HINTS = {"fp32": "f32", "bf16": "bf16"}


def open_bundle(bundle: Bundle, device: str, threads: int | None, precision: str = "auto") -> OpenVinoExecutor:
    """What `runtime.executors.open_executor` calls."""
    return OpenVinoExecutor(bundle, device, threads, precision)


def import_quietly() -> Any:
    """The module ``openvino``, imported without openvino-telemetry.

    Its import would start that: it writes an identifier into the home folder, and reports to its maker. A program that
    has imported ``openvino`` before us is left as it is.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    missing = object()
    known: Any = sys.modules.get("openvino_telemetry", missing)
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # "not installed": openvino has a stub for that
    try:
        return import_module("openvino")
    finally:
        if known is missing:
            del sys.modules["openvino_telemetry"]
        else:
            sys.modules["openvino_telemetry"] = known


def multiplies_in(core: Any) -> tuple[str, ...]:
    """The precisions that the processor multiplies in, as an ``openvino.Core`` tells: fp32, and bf16 where it does."""
    return ("fp32", "bf16") if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else ("fp32",)


class OpenVinoExecutor:
    """Runs a bundle's graphs on the CPU; a graph is compiled at its first use. Safe from any thread.

    Handles are NumPy arrays. ``name`` tells the precision of the graphs in `IN_BF16`.
    """

    def __init__(
        self, bundle: Bundle, device: str = "auto", threads: int | None = None, precision: str = "auto"
    ) -> None:
        """
        :param precision: fp32, bf16, or auto: bf16 where the processor multiplies in it, else fp32.
        :raises DeviceError: another device than the CPU is asked for.
        :raises InputError: fp16, or bf16 on a processor without it.
        """
        if Device.parse(device).kind == "cuda":
            raise DeviceError(f"device {device}: OpenVINO runs on the CPU here; use --device cpu or another executor")
        openvino = import_quietly()
        self._core = openvino.Core()
        self._bundle, self._threads = bundle, threads
        self._requests: dict[str, _Requests] = {}
        self._opening = threading.Lock()
        self.precision = self._choose(precision)
        self.name = f"openvino:cpu:{self.precision}"
        self._life = Lifetime(self.name, bound=True)  # its threads do not live on in a forked process
        logger.info("%s: OpenVINO %s", self.name, openvino.get_version())

    def _choose(self, precision: str) -> str:
        check_precision(precision)
        if precision not in _PRECISIONS:
            raise InputError(f"precision {precision!r}: OpenVINO takes {', '.join(_PRECISIONS)}")
        able = multiplies_in(self._core)
        if precision == "bf16" and "bf16" not in able:
            raise InputError("precision 'bf16': this processor does not multiply in bfloat16; use fp32")
        return able[-1] if precision == "auto" else precision

    def close(self) -> None:
        """Lets go of the graphs; again does nothing, and nothing can be run afterwards."""
        self._life.end()
        self._requests.clear()

    def put(self, array: Any) -> NDArray[Any]:
        """The array, laid out in a row."""
        self._life.check()
        return np.ascontiguousarray(array)

    def get(self, handle: NDArray[Any]) -> NDArray[Any]:
        """The handle itself."""
        self._life.check()
        return handle

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs of ``graph`` by name.

        :raises EngineError: the graph is not known, cannot be loaded, fails, or is given wrong inputs.
        :raises BundleError: at a graph's first use, a file of the bundle has changed since it was hashed.
        """
        self._life.check()
        spec = known_graph(self._bundle.graphs, graph)
        check_names(graph, (tensor.name for tensor in spec.inputs), inputs)
        requests = self._opened(spec)
        try:
            return requests.infer(inputs)
        except RuntimeError as error:
            raise EngineError(f"graph {graph} failed on {self.name}: {_reason(error)}") from error

    def _opened(self, spec: GraphSpec) -> _Requests:
        with self._opening:
            if spec.name not in self._requests:
                with self._bundle.unchanged():
                    self._requests[spec.name] = self._compiled(spec)
            return self._requests[spec.name]

    def _compiled(self, spec: GraphSpec) -> _Requests:
        precision = self.precision if spec.name in IN_BF16 else "fp32"
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
        if self._threads is not None:
            options["INFERENCE_NUM_THREADS"] = self._threads
        try:
            compiled = self._core.compile_model(self._core.read_model(str(spec.path)), "CPU", options)
        except RuntimeError as error:
            raise EngineError(f"{spec.path}: OpenVINO cannot load this graph: {_reason(error)}") from error
        return _Requests(compiled, [tensor.name for tensor in spec.outputs])


class _Requests:
    """Requests of one compiled graph: each serves one thread at a time, so there are as many as threads that met."""

    def __init__(self, compiled: Any, outputs: list[str]) -> None:
        self._compiled, self._outputs = compiled, outputs
        self._free: list[Any] = []  # append and pop are atomic

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The outputs, in memory of their own."""
        try:
            request = self._free.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        values = request.infer(dict(inputs), share_inputs=True, share_outputs=False)
        self._free.append(request)
        return {name: values[name] for name in self._outputs}


def _reason(error: RuntimeError) -> str:
    """The last line of an error's message that says something: OpenVINO's begin with places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
