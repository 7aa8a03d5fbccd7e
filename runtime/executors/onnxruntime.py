"""ONNX Runtime on a CPU, or on CUDA with values that stay on the device."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.bundle import Bundle, GraphSpec
from runtime.executors.device import Device
from textsr.errors import DeviceError, EngineError

logger = logging.getLogger(__name__)

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


def open_bundle(bundle: Bundle, device: str, threads: int | None) -> OrtExecutor:
    """What `runtime.executors.open_executor` calls."""
    return OrtExecutor(bundle, device, threads)


def choose_device(name: str) -> Device:
    """The device to run on: ``auto`` is CUDA where this ONNX Runtime was built with it, else the CPU.

    :raises DeviceError: CUDA is asked for and this ONNX Runtime has none.
    """
    device = Device.parse(name)
    has_cuda = _CUDA in ort.get_available_providers()
    if device.kind == "cuda" and not has_cuda:
        raise DeviceError(
            f"device {name}: the installed onnxruntime {ort.__version__} has no CUDA. "
            "Uninstall onnxruntime and install onnxruntime-gpu (extra [gpu]), or use --device cpu"
        )
    if device.kind == "auto":
        return Device("cuda") if has_cuda else Device("cpu")
    return device


def open_session(path: Path, device: Device, threads: int | None = None) -> ort.InferenceSession:
    """A session that provably runs on ``device``: ONNX Runtime falls back to the CPU without a word.

    :raises EngineError: the graph cannot be loaded.
    :raises DeviceError: the session does not run where it was asked to.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    wanted = _CUDA if device.kind == "cuda" else _CPU
    providers: list[Any] = [_CPU]
    if device.kind == "cuda":
        providers.insert(0, (_CUDA, {"device_id": device.index}))
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its errors share no base class
        raise EngineError(f"{path}: ONNX Runtime {ort.__version__} cannot load this graph: {_first(error)}") from error
    running = session.get_providers()
    if running[0] != wanted:
        raise DeviceError(f"{path.name}: asked for {device}, but ONNX Runtime runs it on {', '.join(running)}")
    return session


class OrtExecutor:
    """Runs a bundle's graphs; a session is made at its first use.

    Handles are NumPy arrays on the CPU and ``OrtValue`` on CUDA; ``name`` ends in the device.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", threads: int | None = None) -> None:
        """Raises DeviceError when the device is not there; see `open_session` for what a first use raises."""
        self._graphs = bundle.graphs
        self._threads = threads
        self._sessions: dict[str, ort.InferenceSession] = {}
        self.device = choose_device(device)
        if device == "auto" and self.device.kind == "cuda":
            self._prefer_cuda()
        self.name = f"onnxruntime:{self.device}"

    def put(self, array: NDArray[Any]) -> Any:
        """The array as a handle on the executor's device."""
        array = np.ascontiguousarray(array)
        if self.device.kind == "cpu":
            return array
        return ort.OrtValue.ortvalue_from_numpy(array, "cuda", self.device.index)

    def get(self, handle: Any) -> NDArray[Any]:
        """The handle's values as an array."""
        return handle if isinstance(handle, np.ndarray) else handle.numpy()

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of ``graph`` by name. Raises EngineError on an unknown graph, wrong inputs, or a failing run."""
        spec = self._spec(graph)
        missing = {tensor.name for tensor in spec.inputs} ^ inputs.keys()
        if missing:
            raise EngineError(f"graph {graph}: inputs missing or not its own: {', '.join(sorted(missing))}")
        session = self._session(spec)
        names = [tensor.name for tensor in spec.outputs]
        try:
            values = (
                self._run_cuda(session, names, inputs)
                if self.device.kind == "cuda"
                else session.run(names, dict(inputs))
            )
        except Exception as error:  # its errors share no base class
            raise EngineError(f"graph {graph} failed on {self.name}: {_first(error)}") from error
        return dict(zip(names, values, strict=True))

    def _run_cuda(self, session: ort.InferenceSession, names: list[str], inputs: Mapping[str, Any]) -> list[Any]:
        binding = session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name in names:
            binding.bind_output(name, "cuda", self.device.index)
        session.run_with_iobinding(binding)
        return list(binding.get_outputs())

    def _spec(self, graph: str) -> GraphSpec:
        if graph not in self._graphs:
            raise EngineError(f"the bundle has no graph {graph!r}; it has {', '.join(sorted(self._graphs))}")
        return self._graphs[graph]

    def _session(self, spec: GraphSpec) -> ort.InferenceSession:
        if spec.name not in self._sessions:
            self._sessions[spec.name] = open_session(spec.path, self.device, self._threads)
        return self._sessions[spec.name]

    def _prefer_cuda(self) -> None:
        """With ``auto``, a first session tells whether CUDA works here; if not, the CPU is used, and that is said."""
        spec = self._spec("text_condition")
        try:
            self._session(spec)
        except (DeviceError, EngineError) as error:
            logger.warning("CUDA cannot be used (%s): running on the CPU", error)
            self._sessions.clear()
            self.device = Device("cpu")


def _first(error: Exception) -> str:
    """The first line of an error's message: ONNX Runtime's go on for pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
