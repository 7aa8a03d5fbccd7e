"""Losses on decoded images: perceptual distance and a frozen recogniser's reading.

Both are frozen, take images in [-1, 1] in any floating type, work under autocast and give one value a line.
"""

from __future__ import annotations

import importlib.util
import logging
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.recognizer import MODEL
from textsr.errors import InputError
from train.onnx_torch import load

log = logging.getLogger(__name__)

RECOGNIZER_WIDTH = 256
"""Pixels that the full width of a line (512) is scaled to at a height of 48: 32 CTC steps, room for 24 characters.

Clean lines of a pool cost 0.040 nats a character at 256, 0.051 at 192 (their own aspect), 0.072 at 320."""

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""Normalisation of images in [-1, 1] for the networks of LPIPS and ST-LPIPS."""


def package_file(package: str, path: str) -> Path:
    """A data file of an installed package, found without importing it. Raises InputError when it is not there."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / path).is_file():
            return Path(folder) / path
    raise InputError(f"the package {package} with its file {path} is not installed: pip install '.[train]'")


class _BlurPool(nn.Module):
    """Binomial 3x3 blur with reflection padding of 2, then every second pixel."""

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.get_buffer("kernel").to(x.dtype)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def _conv(state: Mapping[str, Tensor], name: str, stride: int = 1, padding: int = 1) -> nn.Conv2d:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _shift_tolerant() -> tuple[list[nn.Module], list[Tensor]]:
    """Five stages of the shift-tolerant AlexNet of ST-LPIPS (Ghildyal and Liu 2022) and the weights of their heads."""
    path = package_file("stlpips_pytorch", "weights/vST0.0/alex_shift_tolerant.pth")
    state = torch.load(path, map_location="cpu", weights_only=True)

    def blur(name: str) -> _BlurPool:
        return _BlurPool(state[f"net.{name}.filt"])

    stages: list[nn.Module] = [
        nn.Sequential(_conv(state, "net.slice1.0", padding=2), blur("slice1.1"), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(3, 1), blur("slice2.4"), _conv(state, "net.slice2.5", padding=2), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(3, 1), blur("slice3.8"), _conv(state, "net.slice3.9"), nn.ReLU()),
        nn.Sequential(_conv(state, "net.slice4.11"), nn.ReLU()),
        nn.Sequential(_conv(state, "net.slice5.13"), nn.ReLU()),
    ]
    return stages, [state[f"lin{i}.model.1.weight"] for i in range(5)]


def _alexnet_file() -> Path | None:
    """torchvision's AlexNet weights where torch keeps downloads; nothing is downloaded here."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth"
    return path if path.is_file() else None


def _alexnet(path: Path) -> tuple[list[nn.Module], list[Tensor]]:
    """Five stages of the AlexNet that LPIPS stands on (Zhang et al. 2018) and the weights of its heads."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    heads = torch.load(package_file("lpips", "weights/v0.1/alex.pth"), map_location="cpu", weights_only=True)
    stages: list[nn.Module] = [
        nn.Sequential(_conv(state, "features.0", 4, 2), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(3, 2), _conv(state, "features.3", 1, 2), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(3, 2), _conv(state, "features.6"), nn.ReLU()),
        nn.Sequential(_conv(state, "features.8"), nn.ReLU()),
        nn.Sequential(_conv(state, "features.10"), nn.ReLU()),
    ]
    return stages, [heads[f"lin{i}.model.1.weight"] for i in range(5)]


class PerceptualLoss(nn.Module):
    """Learned perceptual distance of two images.

    ``variant``: "st-lpips" (the figure to report under that name, never as LPIPS), "lpips" (needs torchvision's
    AlexNet weights in torch's download folder), or "auto": LPIPS where its weights are on this machine, else ST-LPIPS.
    ``name`` tells which one it is. Raises InputError where the weights are missing.
    """

    def __init__(self, variant: Literal["auto", "lpips", "st-lpips"] = "auto") -> None:
        super().__init__()
        alexnet = None if variant == "st-lpips" else _alexnet_file()
        if variant == "lpips" and alexnet is None:
            raise InputError("LPIPS needs torchvision's AlexNet weights (alexnet-owt-7be5be79.pth) in torch's folder")
        self.name = "st-lpips" if alexnet is None else "lpips"
        stages, heads = _shift_tolerant() if alexnet is None else _alexnet(alexnet)
        log.info("perceptual loss: %s", self.name)
        self.stages = nn.ModuleList(stages)
        for place, head in enumerate(heads):
            self.register_buffer(f"head{place}", head, persistent=False)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (B,) of ``a`` and ``b`` (B,3,H,W) in [-1,1]; at least 32 x 32 pixels."""
        pairs = zip(self._features(a), self._features(b), strict=True)
        distances = []
        for place, (one, other) in enumerate(pairs):
            difference = (one - other).square()
            distances.append(F.conv2d(difference, self.get_buffer(f"head{place}").to(difference.dtype)).float())
        return torch.stack([distance.mean((1, 2, 3)) for distance in distances]).sum(0)

    def _features(self, image: Tensor) -> Iterator[Tensor]:
        x = (image - self.get_buffer("shift")) / self.get_buffer("scale")
        for stage in self.stages:
            x = stage(x)
            wide = x.float()
            # 1e-16 under the root: a place without any feature must not give an infinite gradient.
            yield wide * (wide.square().sum(1, keepdim=True) + 1e-16).rsqrt()


class RecognizerLoss(nn.Module):
    """CTC loss of PP-OCRv6 (rapidocr's small recogniser), frozen, on restored lines.

    The recogniser runs in float32 whatever the autocast state. The judge of the benchmarks (PP-OCRv4) is another one.
    """

    def __init__(self, width: int = RECOGNIZER_WIDTH) -> None:
        super().__init__()
        path = package_file("rapidocr", f"models/{MODEL}")
        self.network = load(path, before_softmax=True)
        self.symbols = recognizer_symbols(path)
        self._ids = class_ids(self.symbols)
        self.width = width
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> RecognizerLoss:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)

    def forward(self, image: Tensor, texts: Sequence[str], widths: Tensor | None = None) -> Tensor:
        """Loss (B,) in nats a character.

        Args:
            image: (B,3,H,W) RGB in [-1,1].
            texts: what each line says. A line without text, or with a symbol that the recogniser does not know, gets 0.
            widths: (B,) share of the image's width that the line fills, 0..1; what is right of it is not shown.
        """
        with torch.autocast(image.device.type, enabled=False):
            logits = self.network(self.prepare(image.float(), widths))
        return ctc(logits, [self.encode(text) for text in texts])

    def encode(self, text: str) -> list[int]:
        """`encode` with this recogniser's ids."""
        return encode(text, self._ids)

    def prepare(self, image: Tensor, widths: Tensor | None) -> Tensor:
        """The recogniser's input (B,3,48,width), BGR in [-1,1]; 0 (its padding) right of the line."""
        x = F.interpolate(image, (48, self.width), mode="bilinear", align_corners=False, antialias=True).flip(1)
        if widths is None:
            return x
        columns = torch.arange(self.width, device=x.device)
        inside = columns[None] < (widths.to(x.device) * self.width).round()[:, None]
        return x * inside[:, None, None, :].to(x.dtype)


def ctc(logits: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """CTC loss (B,) in nats a character of logits (B,T,classes); 0 for a line whose target is empty."""
    lengths = torch.tensor([len(target) for target in targets])
    flat = torch.tensor([symbol for target in targets for symbol in target], dtype=torch.long)
    steps = torch.full((len(targets),), logits.shape[1], dtype=torch.long)
    log_probabilities = logits.float().log_softmax(-1).transpose(0, 1)
    loss = F.ctc_loss(
        log_probabilities, flat.to(logits.device), steps, lengths, reduction="none", zero_infinity=True
    )  # fmt: skip
    counts = lengths.to(loss.device)
    return torch.where(counts > 0, loss / counts.clamp(min=1), torch.zeros_like(loss))


def class_ids(symbols: Sequence[str]) -> dict[str, int]:
    """The class of each of a recogniser's symbols; the blank has none."""
    return {symbol: place for place, symbol in enumerate(symbols) if place}


def encode(text: str, ids: Mapping[str, int]) -> list[int]:
    """A recogniser's ids of ``text`` (compatibility forms where it lacks a symbol); empty if it lacks one."""
    found = [ids.get(symbol, ids.get(unicodedata.normalize("NFKC", symbol))) for symbol in text]
    return [] if None in found else [one for one in found if one is not None]


def recognizer_symbols(path: Path) -> list[str]:
    """The CTC classes of a PP-OCR recogniser: blank (""), the symbols in its metadata, a space."""
    model = onnx.load(str(path), load_external_data=False)
    metadata = {item.key: item.value for item in model.metadata_props}
    if "character" not in metadata:
        raise InputError(f"{path} does not list its symbols")
    return ["", *metadata["character"].splitlines(), " "]
