"""The degradation that lines are tested with: the three sources of training, at severities of the test's own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textsr.config import SCALE
from textsr.fit import resample_uint8, to_uint8
from textsr.resize import bicubic_resize

SEVERITIES = {"mild": 0.6, "medium": 0.85, "strong": 1.0}
"""What train.degrade and train.camera take; calibrated on the test split, see benchmarks.testset."""
SOURCES = ("degraded", "camera", "camera degraded")


def turn(index: int, severities: dict[str, float] | None = None) -> tuple[str, str]:
    """Severity and source of line ``index``: in turns, so that any beginning of a set holds them in equal parts."""
    names = list(severities or SEVERITIES)
    return names[index % len(names)], SOURCES[index // len(names) % len(SOURCES)]


def line_seed(seed: int, index: int) -> int:
    """The seed of line ``index``'s degradation, for torch."""
    return int(np.random.SeedSequence((seed, index, 0)).generate_state(1, np.uint64)[0] >> 1)


def degrade_line(
    hr: NDArray[np.uint8], source: str, severity: float, seed: int, scale: int = SCALE
) -> NDArray[np.uint8]:
    """The low-resolution line (128/scale, w/scale, 3) of ``hr`` (128, w, 3), w <= 512 and a multiple of ``scale``.

    It is degraded alone, from a generator of its own. Training's degradations reduce by 4: with a ``scale`` of 2
    they are given the line enlarged twice, so that blur and noise are as strong in pixels of the low resolution.
    """
    import torch
    from torch.nn.functional import interpolate

    from train.camera import camera
    from train.degrade import degrade, degrade_again

    padded = np.pad(hr, ((0, 0), (0, 512 - hr.shape[1]), (0, 0)), mode="edge")
    image = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
    if scale != SCALE:
        image = interpolate(image, scale_factor=SCALE / scale, mode="bicubic").clamp(0, 1)
    generator = torch.Generator().manual_seed(seed)
    force = torch.tensor([severity])
    with torch.inference_mode():
        if source == "degraded":
            lq = degrade(image, generator, force)
        else:
            lq = camera(image, generator, force)
            if source == "camera degraded":
                lq = degrade_again(lq, generator, force)
    pixels = lq[0].permute(1, 2, 0).mul(255).round().clamp(0, 255).byte().numpy()
    return np.ascontiguousarray(pixels[:, : hr.shape[1] // scale])


def enlarge(lr: NDArray[np.uint8], scale: int = SCALE) -> NDArray[np.uint8]:
    """The bicubic peer: ``scale`` times the size, as the network's input sees it."""
    size = lr.shape[0] * scale, lr.shape[1] * scale
    return to_uint8(bicubic_resize(lr.astype(np.float32) / np.float32(127.5) - 1, *size))


def down_up(hr: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """``hr`` (h, w, 3) reduced ``factor`` times (bicubic with a filter) and enlarged to its own size again."""
    height, width = hr.shape[:2]
    small = resample_uint8(hr, max(1, round(height / factor)), max(1, round(width / factor)), _rounded)
    return resample_uint8(small, height, width, _rounded)


def _rounded(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
