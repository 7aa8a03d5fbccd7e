"""Neural networks, written for the sizes of the published checkpoints."""
