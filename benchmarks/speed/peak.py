"""The rate of matrix products that a machine really reaches, which a network's own rate is measured by."""

from __future__ import annotations

import time

import torch

from benchmarks.speed.clock import Clock

SIZES = {"cpu": 2048, "cuda": 8192}
"""Side of the square matrices: large enough that a larger one is not faster."""
SECONDS = 0.3
"""For each type at least; the median of its products counts."""
LARGE, SLOW = 1024, 0.005
"""On a CPU, of matrices from so many rows on a product of an eighth of the side is tried first, and kept to where it
takes more seconds than this: below 7 GFLOP/s."""
NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_CPU, _CUDA = (torch.float32, torch.bfloat16), (torch.float32, torch.bfloat16, torch.float16)


class Peak:
    """Measures GFLOP/s of products of square matrices; float32 as the TF32 flags stand."""

    def __init__(self, device: str = "cpu", size: int | None = None, clock: Clock = time.perf_counter) -> None:
        self._device, self._clock = torch.device(device), clock
        self._size = size or SIZES[self._device.type]

    def __call__(self) -> dict[str, float]:
        """GFLOP/s by name of the type."""
        types = _CUDA if self._device.type == "cuda" else _CPU
        return {NAMES[dtype]: self.rate(dtype) for dtype in types}

    @torch.inference_mode()
    def rate(self, dtype: torch.dtype) -> float:
        """GFLOP/s, 2 side^3 over the median seconds of a product."""
        side = self._size
        if side >= LARGE and self._device.type == "cpu" and self._trial(side // 8, dtype) > SLOW:
            side //= 8  # a type that this processor only emulates: one large product would take a minute
        left, right, out = self._matrices(side, dtype)
        found: list[float] = []
        self._product(left, right, out)  # warms up
        while len(found) < 3 or (sum(found) < SECONDS and len(found) < 100):
            found.append(self._product(left, right, out))
        median = sorted(found)[len(found) // 2]
        return 2 * side**3 / median / 1e9

    def _trial(self, side: int, dtype: torch.dtype) -> float:
        given = self._matrices(side, dtype)
        return min(self._product(*given) for _ in range(3))

    def _matrices(self, side: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        shape = (side, side)
        left, right = (torch.randn(shape, device=self._device).to(dtype) for _ in range(2))
        return left, right, torch.empty(shape, device=self._device, dtype=dtype)

    def _product(self, left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> float:
        begin = self._clock()
        torch.matmul(left, right, out=out)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._clock() - begin
