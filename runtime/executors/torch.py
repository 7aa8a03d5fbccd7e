"""The torch modules themselves, rebuilt from a bundle's weights; only for those who have torch."""

from __future__ import annotations

import logging
from importlib import import_module

from runtime.bundle import Bundle
from runtime.executors.device import check_precision
from textsr.device import Device
from textsr.errors import BundleError, DeviceError
from textsr.loop import Executor

logger = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"


def open_bundle(
    bundle: Bundle, device: str, threads: int | None, precision: str = "auto", *, compiled: bool = False
) -> Executor:
    """What `runtime.executors.open_executor` calls. ``auto`` is fp16 on CUDA, where passes are captured, else fp32.

    :raises BundleError: the bundle holds no weights under torch's names, or they have changed since it was opened.
    :raises DeviceError: CUDA is asked for and this torch has none, or too few devices.
    """
    check_precision(precision)
    if WEIGHTS not in bundle.files:
        raise BundleError(f"{bundle.path}: has no {WEIGHTS}, so the torch executor cannot be built from it")
    torch = import_module("torch")
    checkpoint = import_module("textsr.checkpoint")
    graphs = import_module("textsr.graphs")
    executor = import_module("textsr.torch_executor")
    if threads is not None:
        torch.set_num_threads(threads)
    wanted = Device.parse(device)
    if wanted.kind == "cuda" and wanted.index >= torch.cuda.device_count():
        raise DeviceError(
            f"device {device}: torch {torch.__version__} finds {torch.cuda.device_count()} CUDA device(s): "
            "install a torch with CUDA, or use --device cpu"
        )
    cuda = wanted.kind == "cuda" or (wanted.kind == "auto" and torch.cuda.is_available())
    chosen = ("fp16" if cuda else "fp32") if precision == "auto" else precision
    with bundle.unchanged():
        model = checkpoint.load_model(bundle.path / WEIGHTS, bundle.preset)
    kind = f"cuda:{wanted.index}" if cuda else "cpu"
    opened: Executor = executor.TorchExecutor(
        graphs.graphs(model), kind, precision=chosen, capture=cuda, compiled=compiled
    )
    logger.info("%s: networks in %s", opened.name, chosen)
    return opened
