"""Graphs to ONNX, weights stored once, parity with torch, and the bundle that a deployment ships."""
