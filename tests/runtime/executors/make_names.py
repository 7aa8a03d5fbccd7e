"""Writes ``tests/data/tensorrt_11_names.json``: the names of the real TensorRT bindings that the fake may have.

``python -m tests.runtime.executors.make_names`` takes the installed ``tensorrt``. With ``--wheel FILE`` it takes the
bindings out of a ``tensorrt_cu13_bindings`` wheel: TensorRT's libraries, which that wheel lacks, are replaced by empty
ones made with the C compiler, enough to import the bindings and to look at them, not to run anything.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

NAMES = Path(__file__).resolve().parents[2] / "data" / "tensorrt_11_names.json"
CLASSES = [
    *("Builder", "BuilderFlag", "DataType", "Dims", "ExecutionContextAllocationStrategy"),
    *("IBuilderConfig", "ICudaEngine", "IExecutionContext", "IHostMemory", "ILogger"),
    *("INetworkDefinition", "IOptimizationProfile", "IProgressMonitor", "IRuntimeConfig", "ITensor"),
    *("ITimingCache", "Logger", "MemoryPoolType", "NetworkDefinitionCreationFlag", "OnnxParser"),
    *("OnnxParserFlag", "ParserError", "ProfilingVerbosity", "Runtime", "TensorIOMode"),
    "TensorLocation",
]
"""The classes that the project touches; of all others only the name is kept."""
_INHERITED = frozenset(dir(object)) | {"_pybind11_conduit_v1_"}


def split(text: str) -> list[str]:
    """A parameter list cut at its outer commas."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "[(<") - (character in "])>" and text[place - 1] != "-")
        if character == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()] if text.strip() else []


def parameters(signature: str) -> list[str]:
    """Names in pybind11's ``name(self: X, a: int, b: int = 0) -> X``: without self, ``b=`` where it has a default."""
    inner = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    found = [(part.split(":")[0].strip(), " = " in part) for part in split(inner)]
    return [name + "=" * default for name, default in found if name != "self"]


def overloads(name: str, doc: str | None) -> list[list[str]] | None:
    """Parameters of each way to call ``name``; None where the docstring does not tell."""
    lines = [re.sub(r"^\d+\. ", "", line) for line in (doc or "").splitlines()]
    found = [line for line in lines if line.startswith(f"{name}(") and ") ->" in line]
    return [parameters(line) for line in found] or None


def describe(kind: Any) -> dict[str, Any]:
    """Members of a class: ``values`` of an enumeration, ``methods`` with their parameters, ``properties``."""
    values = dict(getattr(kind, "__members__", {}))
    names = [name for name in dir(kind) if not name.startswith("_") and name not in _INHERITED and name not in values]
    methods = {name: overloads(name, getattr(kind, name).__doc__) for name in names if callable(getattr(kind, name))}
    made: dict[str, Any] = {"methods": methods, "properties": [name for name in names if name not in methods]}
    init = overloads("__init__", kind.__init__.__doc__)
    if init is not None and not values:
        made["init"] = init
    return {"values": {name: int(value) for name, value in values.items()}} if values else made


def names(module: ModuleType) -> dict[str, Any]:
    """What the bindings offer, as the file keeps it."""
    public = sorted(name for name in dir(module) if not name.startswith("_"))
    classes = {name: describe(getattr(module, name)) for name in CLASSES if hasattr(module, name)}
    return {"names": public, "classes": classes}


def import_wheel(wheel: Path, folder: Path) -> dict[str, Any]:
    """The names in a wheel of the bindings, found in a process of its own that sees empty TensorRT libraries."""
    zipfile.ZipFile(wheel).extractall(folder)
    library = next(folder.glob("tensorrt_bindings/tensorrt*.so"))
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    symbols = subprocess.run(["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True)
    wanted = re.findall(
        r"\b((?:create\w+_INTERNAL|get\w*PluginRegistry|getNvOnnxParserVersion|initLib\w+))", symbols.stdout
    )
    source = folder / "empty.c"
    source.write_text(
        "".join(f"void *{name}(void) {{ return 0; }}\n" for name in sorted(set(wanted))), encoding="utf-8"
    )
    for name in re.findall(r"\[(libnv\S+)\]", needed):
        subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / name, source, f"-Wl,-soname,{name}"], check=True)
    path = os.pathsep.join([str(library.parent), *sys.path])
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": path}
    code = (
        "from tests.runtime.executors.make_names import names; import json, tensorrt as t; print(json.dumps(names(t)))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return {"version": wheel.name.split("-")[1], **found}


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="a tensorrt_cu13_bindings wheel instead of the installed package")
    wheel = parser.parse_args().wheel
    if wheel is None:
        module = importlib.import_module("tensorrt")
        found = {"version": module.__version__, **names(module)}
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = import_wheel(wheel, Path(folder))
    NAMES.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"{NAMES}: TensorRT {found['version']}, {len(found['names'])} names\n")


if __name__ == "__main__":
    main()
