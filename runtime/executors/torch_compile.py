"""The torch modules as `runtime.executors.torch` runs them, through torch.compile: faster, once a size was compiled."""

from __future__ import annotations

from functools import partial

from runtime.executors.torch import open_bundle as _open_bundle

open_bundle = partial(_open_bundle, compiled=True)
"""What `runtime.executors.open_executor` calls."""
