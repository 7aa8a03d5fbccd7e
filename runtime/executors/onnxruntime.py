"""ONNX Runtime on a CPU, or on CUDA with values that stay on the device."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.bundle import Bundle, GraphSpec
from runtime.cuda import Cuda, is_device_object
from runtime.executors.device import Lifetime, check_names, graph_precision, known_graph
from runtime.executors.ortvalues import Borrowed, Given, borrow_now
from runtime.executors.placement import check_placement, nodes_by_provider
from textsr.device import Device
from textsr.errors import DeviceError, EngineError

logger = logging.getLogger(__name__)

STOP_SPINNING = "session.force_spinning_stop"
"""Threads of one graph that go on spinning after its run hold up those of the next: on two cores a line of `compact`
takes 1.15 times as long, 2.1 times where text is sampled."""

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_NO_FALLBACK = "session.disable_cpu_ep_fallback"


if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":  # set by runtime; this helps where others imported it before us
    ort.disable_telemetry_events()


def open_bundle(bundle: Bundle, device: str, threads: int | None, precision: str = "auto") -> OrtExecutor:
    """What `runtime.executors.open_executor` calls."""
    return OrtExecutor(bundle, device, threads, precision)


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


@cache
def find_cuda_libraries() -> None:
    """Lets ONNX Runtime find CUDA and cuDNN where pip put them (``onnxruntime-gpu[cuda,cudnn]``), once a process.

    It prints what it does not find: that is logged, since it is the session that says whether CUDA runs.
    """
    preload = getattr(ort, "preload_dlls", None)  # ONNX Runtime 1.21
    if preload is None:
        return
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        preload()
    if said.getvalue():
        logger.info("ONNX Runtime: %s", said.getvalue().strip())


def open_session(
    path: Path,
    device: Device,
    threads: int | None = None,
    *,
    strict: bool = False,
    profile: Path | None = None,
    content: bytes | None = None,
) -> ort.InferenceSession:
    """A session on ``device``: ONNX Runtime falls back to the CPU without a word, which is found out here.

    :param strict: on CUDA, refuse a graph of which ONNX Runtime would put any node on the CPU.
    :param profile: where to write down what runs where, beginning of the file's name.
    :param content: what to load instead of what ``path`` holds.
    :raises EngineError: the graph cannot be loaded.
    :raises DeviceError: the session does not run where it was asked to.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(STOP_SPINNING, "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    wanted = _CUDA if device.kind == "cuda" else _CPU
    providers: list[Any] = [_CPU]
    if device.kind == "cuda":
        find_cuda_libraries()
        on_cuda = _CUDA, {"device_id": device.index}
        providers = [on_cuda] if strict else [on_cuda, _CPU]  # naming the CPU contradicts refusing it
        options.add_session_config_entry(_NO_FALLBACK, "1" if strict else "0")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        session = ort.InferenceSession(content or str(path), options, providers=providers)
    except Exception as error:  # its errors share no base class
        raise EngineError(f"{path}: ONNX Runtime {ort.__version__} cannot load this graph: {_first(error)}") from error
    running = session.get_providers()
    if running[0] != wanted:
        raise DeviceError(f"{path.name}: asked for {device}, but ONNX Runtime runs it on {', '.join(running)}")
    return session


class OrtExecutor:
    """Runs a bundle's graphs; a session is made at its first use. Safe from any thread.

    Handles are NumPy arrays on the CPU and ``OrtValue`` on CUDA. ``name`` tells device and precision, which on a CPU
    is fp32 where it does not; a CPU computes half graphs in float32. On CUDA every node is proven to run there, but
    for small ones that compute shapes: those are logged. The CUDA part has not run on a GPU yet.
    """

    def __init__(
        self, bundle: Bundle, device: str = "auto", threads: int | None = None, precision: str = "auto"
    ) -> None:
        """Raises DeviceError when the device is not there; see `open_session` for what a first use raises.

        :raises BundleError: fp16 is asked for, and the bundle has no half graphs.
        """
        self._bundle = bundle
        self._threads = threads
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._opening = threading.Lock()
        self._cuda: Cuda | None = None
        self.device = choose_device(device)
        self._choose_graphs(bundle, precision)
        if device == "auto" and self.device.kind == "cuda":
            self._prefer_cuda(bundle, precision)
        plain = self.device.kind == "cpu" and self.precision == "fp32"
        self.name = f"onnxruntime:{self.device}" if plain else f"onnxruntime:{self.device}:{self.precision}"
        self._life = Lifetime(self.name, bound=self.device.kind == "cuda")
        logger.info("%s: the bundle's %s graphs", self.name, self.precision)

    def _choose_graphs(self, bundle: Bundle, precision: str) -> None:
        self.precision = graph_precision(bundle, precision, cuda=self.device.kind == "cuda")
        self._graphs = (bundle.in_half() if self.precision == "fp16" else bundle).graphs

    def close(self) -> None:
        """Lets go of the sessions; again does nothing, and nothing can be run afterwards."""
        self._life.end()
        self._sessions.clear()

    def put(self, array: Any) -> Any:
        """The array as a handle on the executor's device.

        On CUDA an object with ``__cuda_array_interface__`` is taken without a copy, once its producer's work is done;
        it must not change until the runs that read it are over. Needs cuda-bindings.
        """
        self._life.check()
        if self.device.kind == "cuda" and is_device_object(array):
            return borrow_now(array, self._device())
        array = np.ascontiguousarray(array)
        if self.device.kind == "cpu":
            return array
        return ort.OrtValue.ortvalue_from_numpy(array, "cuda", self.device.index)

    def get(self, handle: Any) -> NDArray[Any]:
        """The handle's values as an array."""
        self._life.check()
        if isinstance(handle, Borrowed):
            return handle.copied(self._device())
        return handle if isinstance(handle, np.ndarray) else handle.numpy()

    def get_device(self, handle: Any) -> Any:
        """On CUDA the value without a copy, for whoever takes ``__cuda_array_interface__``; it is ready."""
        self._life.check()
        if self.device.kind == "cpu":
            raise DeviceError(f"{self.name}: values are in host memory: use get")
        return handle.owner if isinstance(handle, Borrowed) else Given(handle)

    def _device(self) -> Cuda:
        if self._cuda is None:
            self._cuda = Cuda(self.device.index)
        return self._cuda

    def run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of ``graph`` by name.

        :raises EngineError: the graph is not known, cannot be loaded, fails, or is given wrong inputs.
        :raises BundleError: at a graph's first use, a file of the bundle has changed since it was hashed.
        """
        self._life.check()
        spec = known_graph(self._graphs, graph)
        check_names(graph, (tensor.name for tensor in spec.inputs), inputs)
        session = self._session(spec, inputs)
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
            if isinstance(value, Borrowed):
                kind = value.dtype.type
                binding.bind_input(name, "cuda", self.device.index, kind, value.shape, value.address)
            else:
                binding.bind_ortvalue_input(name, value)
        for name in names:
            binding.bind_output(name, "cuda", self.device.index)
        session.run_with_iobinding(binding)
        return list(binding.get_outputs())

    def _session(self, spec: GraphSpec, inputs: Mapping[str, Any]) -> ort.InferenceSession:
        with self._opening:
            if spec.name not in self._sessions:
                cuda = self.device.kind == "cuda"
                with self._bundle.unchanged():
                    session = self._proven(spec, inputs) if cuda else self._open(spec)
                self._sessions[spec.name] = session
            return self._sessions[spec.name]

    def _open(self, spec: GraphSpec) -> ort.InferenceSession:
        return open_session(spec.path, self.device, self._threads, strict=True)

    def _proven(self, spec: GraphSpec, inputs: Mapping[str, Any]) -> ort.InferenceSession:
        """A session on CUDA with all nodes there; or, where ONNX Runtime says that some are not, one whose profile of
        a first run shows which they are."""
        try:
            return self._open(spec)
        except EngineError as error:
            logger.info("%s: %s; looking at what runs where", self.name, error)
        with tempfile.TemporaryDirectory(prefix="textsr-") as folder:
            profiled = open_session(spec.path, self.device, self._threads, profile=Path(folder) / spec.name)
            self._run_cuda(profiled, [tensor.name for tensor in spec.outputs], inputs)
            found = nodes_by_provider(Path(profiled.end_profiling()))
        elsewhere = check_placement(spec.name, found, _CUDA)
        logger.warning("%s: graph %s: %s", self.name, spec.name, elsewhere)
        return open_session(spec.path, self.device, self._threads)

    def _prefer_cuda(self, bundle: Bundle, precision: str) -> None:
        """With ``auto``, a first session tells whether CUDA works here; if not, the CPU is used, and that is said."""
        try:
            open_session(known_graph(self._graphs, "text_condition").path, self.device, self._threads)
        except (DeviceError, EngineError) as error:
            logger.warning("CUDA cannot be used (%s): running on the CPU", error)
            self.device = Device("cpu")
            self._choose_graphs(bundle, precision)


def _first(error: Exception) -> str:
    """The first line of an error's message: ONNX Runtime's go on for pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
