"""The reference sampler: a checkpoint's networks as torch modules, for whoever has published or own weights."""

from __future__ import annotations

from textsr.reference.sampler import ONE, Reference, Restored, choose_device, choose_preset

__all__ = ["ONE", "Reference", "Restored", "choose_device", "choose_preset"]
