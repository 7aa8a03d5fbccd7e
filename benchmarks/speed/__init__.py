"""Seconds a line of ours and of DiffTSR, in turn on one machine; `benchmarks.latency` is the command."""
