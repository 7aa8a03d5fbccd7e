"""The names that the executors and their stand-ins use are those of the real bindings."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.executors import fake_cuda, fake_cuda_types, fake_tensorrt
from tests.runtime.executors.make_names import names, overloads, split

ROOT = Path(__file__).resolve().parents[3]


def test_a_name_that_is_removed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = fake_tensorrt.NAMES["classes"]["IExecutionContext"]["methods"]
    fake_tensorrt.check_names()
    monkeypatch.delitem(methods, "execute_async_v3")
    with pytest.raises(AssertionError, match="execute_async_v3"):
        fake_tensorrt.check_names()
    monkeypatch.setitem(methods, "execute_async_v3", [["stream_handle", "flags"]])
    with pytest.raises(AssertionError, match="flags"):
        fake_tensorrt.check_names()


def test_the_stand_in_refuses_names_that_are_not_real() -> None:
    module = fake_tensorrt.Module(fake_cuda.FakeCuda(), lambda graph, arrays: arrays)
    with pytest.raises(AttributeError, match="BuilderFlags"):
        _ = module.BuilderFlags
    config = fake_tensorrt.IRuntimeConfig()
    with pytest.raises(AttributeError, match="cuda_graph_strategy"):
        config.cuda_graph_strategy = 1


def test_tensorrt_11_has_no_precision_flags() -> None:
    """Half precision is in the graph or nowhere; the classes that we build and run with are there."""
    classes = fake_tensorrt.NAMES["classes"]
    assert fake_tensorrt.NAMES["version"].startswith("11.")
    assert not {"FP16", "BF16", "INT8"} & classes["BuilderFlag"]["values"].keys()
    assert classes["TensorIOMode"]["values"] == {"NONE": 0, "INPUT": 1, "OUTPUT": 2}


def compared(module: Any) -> list[str]:
    """Members of the fake's classes that a real module lacks, or that take other parameters there."""
    wrong = []
    for kind in ("Runtime", "ICudaEngine", "IExecutionContext", "IRuntimeConfig", "ILogger"):
        real, fake = getattr(module, kind), getattr(fake_tensorrt, kind)
        for name in vars(fake):
            if not name.startswith("_") and not hasattr(real, name):
                wrong.append(f"{kind}.{name}")
            elif not name.startswith("_") and callable(getattr(real, name)):
                told = fake_tensorrt.NAMES["classes"][kind]["methods"][name]
                if not [found for found in overloads(name, getattr(real, name).__doc__) or [] if found in told]:
                    wrong.append(f"{kind}.{name} has other parameters")
    for kind in ("DataType", "TensorIOMode", "TensorLocation", "ExecutionContextAllocationStrategy"):
        real_values = {name: int(value) for name, value in getattr(module, kind).__members__.items()}
        wrong += [
            name for name, value in fake_tensorrt.NAMES["classes"][kind]["values"].items() if real_values[name] != value
        ]
    return wrong


def test_tensorrt_rtx_has_the_same_names() -> None:
    module = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    assert not compared(module)
    assert module.DynamicShapesKernelSpecializationStrategy.EAGER
    assert hasattr(module.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")


def test_an_installed_tensorrt_has_the_names_of_the_file() -> None:
    module = pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    if not module.__version__.startswith("11."):
        pytest.skip(f"TensorRT {module.__version__} is installed, the file is of 11")
    found = names(module)
    told = {kind: fake_tensorrt.NAMES["classes"][kind] for kind in found["classes"]}
    assert json.loads(json.dumps(found["classes"])) == told
    assert not compared(module)


def test_the_cuda_stand_in_has_real_names_parameters_and_values() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    for kind in fake_cuda_types.ENUMS:
        real = {member.name: int(member) for member in getattr(runtime, kind.__name__)}
        assert {member.name: int(member) for member in kind}.items() <= real.items()
    for name, member in vars(fake_cuda.FakeCuda).items():
        if name.startswith("do_"):
            signature = (getattr(runtime, name[3:]).__doc__ or "").strip().splitlines()[0]
            inner = signature[signature.index("(") + 1 : signature.rindex(")")]
            own = member.__code__.co_argcount - 1
            assert len(split(inner)) == own, signature
    assert {"type", "device"} <= set(dir(runtime.cudaPointerAttributes))
    assert (int(runtime.cudaStreamNonBlocking), int(runtime.cudaEventDisableTiming)) == (1, 2)


def test_every_cuda_call_of_the_runtime_has_a_stand_in() -> None:
    """Each call is made by a name in a string: none may be one that the stand-in, and so CUDA, does not have."""
    used = {
        node.value
        for path in [*(ROOT / "runtime" / "cuda").glob("*.py"), *(ROOT / "runtime" / "executors").glob("*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("cuda")
    }
    calls = {name for name in used if name.isidentifier() and name != "cuda"}
    has = {name[3:] for name in vars(fake_cuda.FakeCuda) if name.startswith("do_")}
    assert {"cudaMalloc", "cudaGraphLaunch"} <= calls
    assert calls - {"cudaDeviceGetAttribute", "cudaMemGetInfo"} <= has


def test_parameters_of_docstrings() -> None:
    doc = "f(*args, **kwargs)\n\n1. f(self: a.B, x: list[tuple[int, str]], y: a.E = <E.Z: 0>) -> None"
    assert overloads("f", doc) == [["x", "y="]]
    assert overloads("g", None) is None
    assert split("a: Callable[[int, str], None], b") == ["a: Callable[[int, str], None]", "b"]
