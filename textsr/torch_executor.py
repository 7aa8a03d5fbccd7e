"""The reference executor: the graphs as torch modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from textsr.errors import EngineError


class TorchExecutor:
    """Runs ``textsr.graphs`` modules on a torch device; handles are tensors."""

    def __init__(self, graphs: Mapping[str, nn.Module], device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.name = f"torch:{self.device}"
        self.graphs = {name: graph.to(self.device).eval() for name, graph in graphs.items()}

    def put(self, array: NDArray[Any]) -> Tensor:
        """A copy of ``array`` on the device."""
        return torch.tensor(array, device=self.device)

    @torch.inference_mode()
    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name. Raises EngineError for a graph that this model does not have."""
        if graph not in self.graphs:
            raise EngineError(f"this model has no graph {graph!r}; it has {', '.join(sorted(self.graphs))}")
        module: Any = self.graphs[graph]
        outputs = module(*(inputs[name] for name in module.inputs))
        return dict(zip(module.outputs, outputs, strict=True))

    def get(self, handle: Tensor) -> NDArray[Any]:
        """The value as a NumPy array on the host; bfloat16, which NumPy lacks, as float32."""
        value = handle.detach().cpu()
        return np.asarray((value.float() if value.dtype == torch.bfloat16 else value).numpy())
