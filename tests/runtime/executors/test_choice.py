"""Which executor ``auto`` takes and what it says of the others; precision; where ONNX Runtime runs nodes."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from runtime import Restorer
from runtime.bundle import Bundle
from runtime.executors import ON_CUDA, Attempt, choice, choose_executor, open_executor
from runtime.executors import onnxruntime as ours
from runtime.executors.device import Lifetime, graph_precision, no_gpu
from runtime.executors.onnxruntime import OrtExecutor, open_session
from runtime.executors.placement import check_placement, nodes_by_provider
from tests.runtime.executors.helpers import Toy, lines, open_fake
from textsr.device import Device
from textsr.errors import BundleError, DeviceError, EngineError, InputError
from textsr.loop import restore

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


class Working(Toy):
    """An executor that runs graphs."""

    def __init__(self, graphs: Any, name: str) -> None:
        super().__init__(graphs)
        self.name, self.closed = name, False

    def close(self) -> None:
        self.closed = True


def machine(monkeypatch: pytest.MonkeyPatch, gpu: str, **opened: Any) -> list[Working]:
    """A machine whose executors' modules open what ``opened`` says: an error, or an executor."""
    made: list[Working] = []

    def load(module: str) -> Any:
        name = module.rsplit(".", 1)[1]
        outcome = opened.get(name, ImportError(f"No module named {name!r}"))

        def open_bundle(bundle: Bundle, device: str, threads: Any, precision: str) -> Any:
            if isinstance(outcome, Exception) and device != "cpu":
                raise outcome
            made.append(Working(bundle.graphs, f"{name}:{device}"))
            if callable(outcome) and device != "cpu":
                made[-1].run = outcome  # type: ignore[method-assign]
            return made[-1]

        return SimpleNamespace(open_bundle=open_bundle)

    monkeypatch.setattr(choice, "no_gpu", lambda: gpu)
    monkeypatch.setattr(choice, "import_module", load)
    return made


def test_without_a_gpu_the_cpu_is_taken_and_no_package_is_tried(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(monkeypatch, "no driver here", torch=RuntimeError("must not be opened"))
    with caplog.at_level(logging.INFO):
        executor, found = choose_executor(bundle)
    assert found.name == executor.name == "onnxruntime:cpu"
    assert found.attempts == (
        *(Attempt(name, "cuda:0", "no driver here") for name in ON_CUDA),
        Attempt("onnxruntime", "cpu"),
    )
    assert "no driver here" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_the_first_that_works_is_taken(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    working = {"tensorrt": None, "onnxruntime": None, "torch": None}
    for first in ON_CUDA:
        machine(monkeypatch, "", **working)
        executor, found = choose_executor(bundle, "cuda:1")
        assert executor.name == found.name == f"{first}:cuda:1"
        assert [at.executor for at in found.attempts if not at.reason] == [first]
        working[first] = DeviceError("not on this GPU")  # type: ignore[assignment]
    machine(monkeypatch, "", **working)
    with pytest.raises(DeviceError, match="tensorrt: not on this GPU; onnxruntime: not"):
        choose_executor(bundle, "cuda:1")


def test_a_gpu_that_goes_unused_is_a_warning(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(monkeypatch, "", onnxruntime=DeviceError("no CUDA in it"))
    executor, found = choose_executor(bundle)
    assert executor.name == "onnxruntime:cpu"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "no CUDA in it" in record.message
    assert "tensorrt" in str(found)


def test_one_that_opens_and_does_not_run_is_closed_and_passed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: str, inputs: Mapping[str, Any]) -> Any:
        raise EngineError("kernel image is not for this device")

    def wrong(graph: str, inputs: Mapping[str, Any]) -> Any:
        return {"c_cond": np.full(3, np.nan)}

    made = machine(monkeypatch, "", tensorrt=broken, onnxruntime=wrong, torch=None)
    executor, found = choose_executor(bundle)
    assert executor.name == "torch:cuda:0"
    assert [one.closed for one in made] == [True, True, False]
    assert [at.reason[:11] for at in found.attempts] == ["kernel imag", "onnxruntime", ""]
    assert "not finite" in found.attempts[1].reason


def test_a_machine_without_a_driver_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        def __init__(self, count: int, status: int = 0) -> None:
            self.count, self.status = count, status

        def cuInit(self, flags: int) -> int:
            return self.status

        def cuDeviceGetCount(self, count: Any) -> int:
            count._obj.value = self.count
            return 0

    def missing(name: str) -> Any:
        raise OSError("not found")

    for driver, words in ((Driver(2), ""), (Driver(0), "no GPU"), (Driver(1, 100), "error 100")):
        monkeypatch.setattr("runtime.executors.device.ctypes.CDLL", lambda name, driver=driver: driver)
        assert words in no_gpu()
        assert bool(words) == bool(no_gpu())
    monkeypatch.setattr("runtime.executors.device.ctypes.CDLL", missing)
    assert "no NVIDIA driver" in no_gpu()


def test_options_are_checked_first(bundle: Bundle) -> None:
    for options in ({"executor": "abacus"}, {"precision": "int4"}, {"device": "gpu"}, {"threads": 0}):
        with pytest.raises(InputError):
            open_executor(bundle, **options)
    with pytest.raises(InputError):
        open_executor(bundle, "cpu", executor="onnxruntime", precision="half")
    with pytest.raises(DeviceError, match="TensorRT needs CUDA"):
        open_executor(bundle, "cpu", executor="tensorrt")


def test_the_default_on_a_cpu_is_what_it_was(tiny_bundle: Path) -> None:
    restorer = Restorer.open(str(tiny_bundle), device="cpu", threads=1, read_text=False)
    assert restorer.executor.name == "onnxruntime:cpu"
    restorer.close()
    restorer.close()
    with pytest.raises(EngineError, match="closed"):
        restorer.executor.put(np.zeros(3))


def test_a_batch_size_above_the_engines_is_refused_before_any_work(bundle: Bundle) -> None:
    executor, _ = open_fake(bundle)
    with pytest.raises(InputError, match="takes at most 4"):
        Restorer(bundle, executor, None)([], batch_size=8)
    executor.close()


def with_half(bundle: Bundle) -> Bundle:
    """The bundle with half graphs that are its own graphs."""
    return replace(bundle, graphs={name: replace(spec, half=spec.path) for name, spec in bundle.graphs.items()})


def test_half_graphs_are_chosen_on_cuda(bundle: Bundle) -> None:
    plain, half = (
        replace(bundle, graphs={n: replace(s, half=None) for n, s in bundle.graphs.items()}),
        with_half(bundle),
    )
    assert graph_precision(plain, "auto", cuda=True) == "fp32"
    assert graph_precision(half, "auto", cuda=True) == "fp16"
    assert graph_precision(half, "auto", cuda=False) == graph_precision(half, "fp32", cuda=True) == "fp32"
    assert OrtExecutor(half, "cpu", 1, "fp16").name == "onnxruntime:cpu:fp16"
    with pytest.raises(BundleError, match="half-precision"):
        OrtExecutor(plain, "cpu", 1, "fp16")


def test_nodes_are_counted_by_what_ran_them(bundle: Bundle, tmp_path: Path) -> None:
    spec = bundle.graphs["text_condition"]
    session = open_session(spec.path, Device("cpu"), 1, profile=tmp_path / "text")
    session.run(None, {"tokens": np.zeros((1, 24), np.int64), "weights": np.zeros((1, 24), np.float32)})
    found = nodes_by_provider(Path(session.end_profiling()))
    assert {at for at, _ in found} == {"CPUExecutionProvider"}
    assert sum(found.values()) > 10
    assert check_placement("text_condition", found, "CPUExecutionProvider") == ""
    with pytest.raises(DeviceError, match="text_condition: asked for CUDA"):
        check_placement("text_condition", found, "CUDAExecutionProvider")


def test_small_nodes_may_be_elsewhere_and_heavy_ones_may_not(tmp_path: Path) -> None:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    assert check_placement("g", Counter({(cuda, "Conv"): 9, (cpu, "Shape"): 2}), cuda) == f"2 Shape on {cpu}"
    with pytest.raises(DeviceError, match="1 MatMul"):
        check_placement("g", Counter({(cuda, "Conv"): 9, (cpu, "MatMul"): 1}), cuda)
    for text in ("{", json.dumps([{"cat": "Session", "name": "x"}])):
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(EngineError, match="profile"):
            nodes_by_provider(tmp_path / "p.json")


def test_a_graph_that_is_partly_on_the_cpu_is_looked_into(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """CUDA played by the CPU: a strict session is refused, so a profile decides, and what it finds is refused too."""
    opened: list[bool] = []

    def session(path: Path, device: Device, threads: Any, *, strict: bool = False, profile: Path | None = None) -> Any:
        opened.append(strict)
        if strict:
            raise EngineError("This session contains graph nodes that are assigned to the default CPU EP")
        return open_session(path, Device("cpu"), 1, profile=profile)

    executor = OrtExecutor(bundle, "cpu", 1)
    executor.device = Device("cuda")
    monkeypatch.setattr(ours, "open_session", session)
    monkeypatch.setattr(executor, "_run_cuda", lambda session, names, inputs: session.run(names, dict(inputs)))
    inputs = {"tokens": np.zeros((1, 24), np.int64), "weights": np.zeros((1, 24), np.float32)}
    with pytest.raises(DeviceError, match="MatMul"):
        executor.run("text_condition", inputs)
    monkeypatch.setattr(ours, "check_placement", lambda graph, found, provider: "2 Shape on CPU")
    assert executor.run("text_condition", inputs)["c_cond"].shape[0] == 1
    assert "2 Shape on CPU" in caplog.text
    assert opened == [True, False, True, False, False]


def test_a_lifetime_ends_with_close_and_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    life, host = Lifetime("x", bound=True), Lifetime("y", bound=False)
    monkeypatch.setattr("runtime.executors.device.os.getpid", lambda: -1)
    host.check()
    with pytest.raises(EngineError, match="fork"):
        life.check()
    host.end()
    with pytest.raises(EngineError, match="closed"):
        host.check()


def test_importing_the_executors_loads_neither_torch_nor_tensorrt() -> None:
    import subprocess

    code = (
        "import sys; from runtime import Restorer; Restorer.open('compact', read_text=False);"
        "print([name for name in ('torch', 'tensorrt', 'tensorrt_rtx', 'cuda.bindings') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    if no_gpu():
        assert done.stdout.strip() == "[]"


@pytest.mark.skipif("CUDAExecutionProvider" not in ort.get_available_providers(), reason="ONNX Runtime has no CUDA")
def test_onnx_runtime_on_cuda_equals_the_cpu(bundle: Bundle) -> None:
    given = lines(bundle.preset, 2)
    one = restore(OrtExecutor(bundle, "cpu", 1), bundle.preset, given, steps=2)
    other = restore(OrtExecutor(bundle, "cuda"), bundle.preset, given, steps=2)
    assert np.abs(one.image - other.image).max() < 0.05


def test_a_session_leaves_the_callers_arithmetic_alone() -> None:
    """ONNX Runtime can flush denormals, but does so in the thread of whoever opens a session first."""
    code = (
        "import numpy as np\n"
        "from runtime import Restorer\n"
        "restorer = Restorer.open('compact', 'cpu', read_text=False)\n"
        "restorer([np.zeros((32, 128, 3), np.uint8)], steps=1)\n"
        "print(np.float32(1e-40) * np.float32(0.5) > 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
