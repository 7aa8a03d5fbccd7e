"""DiffTSR's five networks together: with random weights, or from its published files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from benchmarks.difftsr.networks import FULL, KLAutoencoder, Sizes, image_denoiser
from benchmarks.difftsr.published import from_published
from textsr.checkpoint import read_published
from textsr.config import Preset
from textsr.errors import DeviceError
from textsr.graphs import new_mom, new_tdm
from textsr.networks.ldm import LDMUNet
from textsr.networks.mom import MoM
from textsr.networks.tdm import TDM
from textsr.networks.transocr import TransOCR

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class DiffTSR:
    """The networks; ``transocr`` is None where texts come from elsewhere.

    ``idm``, ``vae`` and ``mom`` compute in `dtype`. ``tdm`` and ``transocr`` choose symbols and stay in float32.
    """

    sizes: Sizes
    idm: LDMUNet
    vae: KLAutoencoder
    mom: MoM
    tdm: TDM
    transocr: TransOCR | None = None

    @classmethod
    def random(
        cls,
        seed: int = 0,
        sizes: Sizes = FULL,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        transocr: bool = True,
    ) -> DiffTSR:
        """Networks with random weights of ``seed``: their pictures mean nothing, their cost is the published one.

        :param transocr: False leaves the recogniser out.
        :raises DeviceError: the device is not there.
        """
        preset, place = sizes.preset, _device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tdm = new_tdm(preset)
            nn.init.ones_(tdm.rezero.alpha)  # training starts it at 0, where the image says nothing about the text
            reader = TransOCR(preset.transocr) if transocr and preset.transocr is not None else None
            return cls(
                sizes,
                _ready(image_denoiser(sizes), place, dtype),
                _ready(KLAutoencoder(preset.vqgan), place, dtype),
                _ready(new_mom(preset), place, dtype),
                _ready(tdm, place, torch.float32),
                None if reader is None else _ready(reader, place, torch.float32),
            )

    @classmethod
    def open(
        cls,
        checkpoint: Path,
        transocr: Path | None = None,
        sizes: Sizes = FULL,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> DiffTSR:
        """The published networks from ``DiffTSR.ckpt`` and ``transocr.pth``, strictly.

        The file is memory-mapped anew for each network, so that never more than one lies in memory twice.

        :raises BundleError: a file is missing, damaged, wants to run code, or holds other networks.
        :raises DeviceError: the device is not there.
        """
        place = _device(device)

        def network(kind: str, path: Path, kept: torch.dtype) -> Any:
            return _ready(from_published(kind, read_published(path), sizes, device=place, dtype=kept), place, kept)

        return cls(
            sizes,
            network("difftsr-idm", checkpoint, dtype),
            network("difftsr-vae", checkpoint, dtype),
            network("difftsr-mom", checkpoint, dtype),
            network("difftsr-tdm", checkpoint, torch.float32),
            None if transocr is None else network("transocr", transocr, torch.float32),
        )

    @property
    def preset(self) -> Preset:
        """Sizes of the autoencoder, the text modules and the recogniser."""
        return self.sizes.preset

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.idm.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the image networks compute in."""
        return next(self.idm.parameters()).dtype


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise DeviceError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def _ready(net: Net, device: torch.device, dtype: torch.dtype) -> Net:
    return net.to(device=device, dtype=dtype).eval().requires_grad_(False)
