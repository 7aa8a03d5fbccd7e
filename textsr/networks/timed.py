"""What UNets of both kinds share: residual blocks that are told the time, by rows that can be made beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from textsr.networks.layers import timestep_embedding


class TimedBlock(nn.Module, ABC):
    """A residual block that takes a row (B or 1, ``modulation_size``) of what the time does to it."""

    modulation_size: int

    @abstractmethod
    def modulation(self, embedding: Tensor) -> Tensor:
        """The rows (T, ``modulation_size``) of times with ``embedding`` (T,E)."""


class TimedUNet(nn.Module):
    """A UNet of `TimedBlock`; ``time_channels`` is the width of the sinusoidal embedding."""

    time_channels: int
    time_embed: nn.Sequential
    input_blocks: nn.ModuleList
    middle_block: nn.ModuleList
    output_blocks: nn.ModuleList

    def modulations(self, t: Tensor) -> Tensor:
        """What times t (T,) do to every residual block, side by side: (T,S). It depends on nothing else."""
        embedding = timestep_embedding(t, self.time_channels)
        embedding = self.time_embed(embedding.to(next(self.time_embed.parameters()).dtype))
        return torch.cat([block.modulation(embedding) for block in self._timed()], dim=1)

    @property
    def modulation_size(self) -> int:
        """S."""
        return sum(block.modulation_size for block in self._timed())

    def _timed(self) -> list[TimedBlock]:
        """In the order in which they run."""
        stages = (self.input_blocks, self.middle_block, self.output_blocks)
        return [part for stage in stages for part in stage.modules() if isinstance(part, TimedBlock)]

    def _rows(self, t: Tensor, modulations: Tensor | None, dtype: torch.dtype) -> Iterator[Tensor]:
        """Each block's row for t (B,) or (1,): made here, or taken from ``modulations`` (T,S), where t is a row."""
        rows = self.modulations(t) if modulations is None else modulations[t.long()]
        return iter(rows.to(dtype).split([block.modulation_size for block in self._timed()], dim=1))
