"""The processes of one run: torch's DistributedDataParallel where torchrun started several, nothing where there is one.

``torchrun --nproc-per-node N -m train.run ...`` gives each process its place in the environment. Gradients are averaged
over the processes, each of which has an equal share of every step's samples; the process of rank 0 writes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from textsr.errors import InputError

log = logging.getLogger(__name__)

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: rank 0 saves and validates alone."""
RANK_SEEDS = 1_000_003
"""Between the seeds of two processes; a resumed run adds its steps to a seed."""


def pick_device(name: str) -> torch.device:
    """``auto``: CUDA where there is one. Raises InputError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {name}: this torch sees no CUDA device; use --device cpu or auto")
    return torch.device(name)


class Group:
    """This process among the run's; by default the only one."""

    def __init__(self, device: torch.device, rank: int = 0, world: int = 1) -> None:
        self.device, self.rank, self.world = device, rank, world
        self._wrapped: DistributedDataParallel | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """The run's seed as this process uses it, so that no two draw the same."""
        return seed + self.rank * RANK_SEEDS

    def wrap(self, module: nn.Module) -> nn.Module:
        """``module`` with its gradients averaged over the processes; itself where there is one process.

        Every parameter of ``module`` that requires a gradient must get one at every step.
        """
        if self.world == 1:
            return module
        devices = None if self.device.type == "cpu" else [self.device]
        self._wrapped = DistributedDataParallel(
            module, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
        )
        return self._wrapped

    def accumulating(self) -> AbstractContextManager[None]:
        """Within it gradients are added up in this process alone."""
        return nullcontext() if self._wrapped is None else cast(AbstractContextManager[None], self._wrapped.no_sync())

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gives every process the mean of all gradients, where no module is wrapped; one that has none counts as 0."""
        if self.world == 1 or self._wrapped is not None:
            return
        trained = [one for one in parameters if one.requires_grad]
        for one in trained:
            if one.grad is None:
                one.grad = torch.zeros_like(one)
        grads = [one.grad for one in trained if one.grad is not None]
        mean = self._sum(torch.cat([grad.flatten() for grad in grads])) / self.world
        for grad, part in zip(grads, mean.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))  # in place: a fused optimiser wants the memory format of the parameter

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return flag if self.world == 1 else bool(self._sum(torch.tensor([float(flag)])).item())

    def means(self, figures: dict[str, float]) -> dict[str, float]:
        """Means over the processes, which all have the same names."""
        if self.world == 1:
            return figures
        total = self._sum(torch.tensor([figures[name] for name in sorted(figures)], dtype=torch.float64))
        return dict(zip(sorted(figures), (total / self.world).tolist(), strict=True))

    def first(self, value: float) -> float:
        """The value that rank 0 has."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared.item())

    def wait(self) -> None:
        """Returns when all processes have come here."""
        self.first(0.0)

    def close(self) -> None:
        """Leaves the other processes."""
        if self.world > 1:
            dist.destroy_process_group()

    def _sum(self, values: Tensor) -> Tensor:
        values = values.to(self.device)
        dist.all_reduce(values)
        return values


def open_group(device: str = "auto") -> Group:
    """The group that torchrun's environment tells of. With CUDA each process takes the GPU of its local rank.

    Raises InputError for a device that is not there, and for a numbered one with several processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Group(pick_device(device))
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    found = pick_device(device)
    if found.type == "cuda":
        if found.index is not None:
            raise InputError(
                f"--device {device}: with {world} processes give cuda or auto, each takes a GPU of its own"
            )
        if local >= torch.cuda.device_count():
            raise InputError(
                f"process {local} finds {torch.cuda.device_count()} GPUs on this machine: give torchrun as many "
                "--nproc-per-node as there are"
            )
        found = torch.device("cuda", local)
        torch.cuda.set_device(found)
    dist.init_process_group("nccl" if found.type == "cuda" else "gloo", timeout=PATIENCE)
    log.info("process %d of %d on %s", rank, world, found)
    return Group(found, rank, world)
