"""The baseline that the paper is measured against: DiffTSR (Zhang et al., CVPR 2024), written from its equations.

It takes the published weights under their published names, or random ones to measure what it costs.
"""

from __future__ import annotations

from benchmarks.difftsr.model import DiffTSR
from benchmarks.difftsr.networks import FULL, SIZES, SMALL, KLAutoencoder, Sizes, image_denoiser
from benchmarks.difftsr.published import from_published
from benchmarks.difftsr.sampler import Options, Restored, restore

__all__ = [
    "FULL",
    "SIZES",
    "SMALL",
    "DiffTSR",
    "KLAutoencoder",
    "Options",
    "Restored",
    "Sizes",
    "from_published",
    "image_denoiser",
    "restore",
]
