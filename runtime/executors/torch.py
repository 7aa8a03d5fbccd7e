"""The torch modules themselves, rebuilt from a bundle's weights; only for those who have torch."""

from __future__ import annotations

from importlib import import_module

from runtime.bundle import Bundle
from runtime.executors.device import Device
from textsr.errors import BundleError
from textsr.loop import Executor

WEIGHTS = "weights.safetensors"


def open_bundle(bundle: Bundle, device: str, threads: int | None) -> Executor:
    """What `runtime.executors.open_executor` calls.

    :raises BundleError: the bundle holds no weights under torch's names.
    """
    if WEIGHTS not in bundle.files:
        raise BundleError(f"{bundle.path}: has no {WEIGHTS}, so the torch executor cannot be built from it")
    torch = import_module("torch")
    checkpoint = import_module("textsr.checkpoint")
    graphs = import_module("textsr.graphs")
    executor = import_module("textsr.torch_executor")
    if threads is not None:
        torch.set_num_threads(threads)
    wanted = Device.parse(device)
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if wanted.kind == "auto" else str(wanted)
    model = checkpoint.load_model(bundle.path / WEIGHTS, bundle.preset)
    opened: Executor = executor.TorchExecutor(graphs.graphs(model), kind)
    return opened
