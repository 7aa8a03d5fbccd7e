"""A tiny bundle's graphs taken back to what tracing gave, so that tests need not trace again."""

from __future__ import annotations

from pathlib import Path

import onnx

from export.trace import TracedGraph


def detach(path: Path) -> TracedGraph:
    """The inverse of `export.weights.attach` for weights in float32: external initializers become inputs."""
    model = onnx.load(path, load_external_data=False)
    external = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in external:
        model.graph.initializer.remove(tensor)
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return TracedGraph(path.stem, model, tuple(tensor.name for tensor in external))


def traced_graphs(bundle: Path) -> dict[str, TracedGraph]:
    """The traced graphs of a bundle whose weights are in float32, in the bundle's order."""
    names = [path.stem for path in sorted(bundle.glob("*.onnx"))]
    return {name: detach(bundle / f"{name}.onnx") for name in names}
