"""A frozen ONNX network as a torch module that passes gradients to its input.

Covers the operators of the recogniser that the recogniser loss uses. onnx2torch would do, but importing it imports
torchvision, whose wheel does not load beside a torch without CUDA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from textsr.errors import InputError

Attributes = dict[str, Any]


class OnnxModule(nn.Module):
    """Runs an ONNX graph with torch operators; weights are buffers, so nothing of it is trained but what
    `train_constants` names.

    Args:
        model: a loaded model (opset 11 to 13) with one input.
        output: name of the tensor to return; default the graph's first output.

    Raises InputError that names the operators it does not know.
    """

    def __init__(self, model: onnx.ModelProto, output: str | None = None) -> None:
        super().__init__()
        graph = model.graph
        self._input = graph.input[0].name
        self._output = output or graph.output[0].name
        nodes = _needed(list(graph.node), self._output)
        unknown = sorted({node.op_type for node in nodes} - set(OPERATORS))
        if unknown:
            raise InputError(f"operators not known to train.onnx_torch: {', '.join(unknown)}")
        used = {name for node in nodes for name in node.input}
        self._constants: dict[str, str] = {}  # ONNX name -> buffer name
        self._plain: dict[str, list[int]] = {}  # small integer constants (shapes, axes), kept on the host
        for tensor in graph.initializer:
            if tensor.name in used:
                self._add_constant(tensor)
        self._nodes = [(OPERATORS[node.op_type], list(node.input), node.output[0], _attributes(node)) for node in nodes]
        self._last_use = {name: place for place, node in enumerate(nodes) for name in node.input}

    def _add_constant(self, tensor: onnx.TensorProto) -> None:
        value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
        if not value.is_floating_point():
            self._plain[tensor.name] = value.reshape(-1).tolist()
            return
        name = f"constant_{len(self._constants)}"
        self.register_buffer(name, value, persistent=False)
        self._constants[tensor.name] = name

    def constants(self) -> dict[str, torch.Size]:
        """Shapes of the floating constants by their names in the ONNX file."""
        return {name: getattr(self, buffer).shape for name, buffer in self._constants.items()}

    def train_constants(self, names: Iterable[str]) -> None:
        """Turns constants, by their names in the ONNX file, into parameters."""
        for name in names:
            buffer = self._constants[name]
            value = self.get_buffer(buffer)
            delattr(self, buffer)
            self.register_parameter(buffer, nn.Parameter(value))

    def trained(self) -> dict[str, Tensor]:
        """The parameters by their names in the ONNX file."""
        own = dict(self.named_parameters())
        return {name: own[buffer] for name, buffer in self._constants.items() if buffer in own}

    def forward(self, x: Tensor) -> Tensor:
        """The chosen output for input ``x``, in the type and on the device of the buffers."""
        values: dict[str, Any] = {self._input: x, **self._plain}
        values |= {name: getattr(self, buffer) for name, buffer in self._constants.items()}
        for place, (operator, inputs, output, attributes) in enumerate(self._nodes):
            values[output] = operator(attributes, *[values[name] for name in inputs])
            for name in inputs:
                if self._last_use[name] == place and name != self._output:
                    values.pop(name, None)
        return values[self._output]


def load(path: str | Path, before_softmax: bool = False) -> OnnxModule:
    """The network of the ONNX file ``path``; with ``before_softmax`` without its last node, which must be a Softmax."""
    model = onnx.load(str(path))
    if not before_softmax:
        return OnnxModule(model)
    last = _needed(list(model.graph.node), model.graph.output[0].name)[-1]
    while last.op_type == "Identity":
        last = next(node for node in model.graph.node if node.output[0] == last.input[0])
    if last.op_type != "Softmax":
        raise InputError(f"{path} ends with {last.op_type}, not with Softmax")
    return OnnxModule(model, last.input[0])


def _needed(nodes: list[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """The nodes that ``output`` depends on, in order."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _attributes(node: onnx.NodeProto) -> Attributes:
    values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def _pad(attributes: Attributes, x: Tensor, value: float = 0.0) -> Tensor:
    """Explicit ONNX padding in front of a 2-D window operator (unit strides only for SAME_UPPER)."""
    kernel = attributes["kernel_shape"]
    if attributes.get("auto_pad") == "SAME_UPPER":
        if list(attributes.get("strides", [1, 1])) != [1, 1]:
            raise InputError("SAME_UPPER padding is known for unit strides only")
        top, left = (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
        pads = [top, left, kernel[0] - 1 - top, kernel[1] - 1 - left]
    else:
        pads = list(attributes.get("pads", [0, 0, 0, 0]))
    if not any(pads):
        return x
    return F.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=value)


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    strides = tuple(attributes.get("strides", [1, 1]))
    dilations = tuple(attributes.get("dilations", [1, 1]))
    return F.conv2d(_pad(attributes, x), weight, bias, strides, 0, dilations, attributes.get("group", 1))


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    strides = tuple(attributes.get("strides", [1, 1]))
    return F.max_pool2d(_pad(attributes, x, float("-inf")), tuple(attributes["kernel_shape"]), strides)


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    if any(attributes.get("pads", [0])):
        raise InputError("AveragePool with padding is not known")
    return F.avg_pool2d(x, tuple(attributes["kernel_shape"]), tuple(attributes.get("strides", [1, 1])))


def _batch_norm(attributes: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, training=False, eps=attributes.get("epsilon", 1e-5))


def _mean(attributes: Attributes, x: Tensor) -> Tensor:
    return x.mean(tuple(attributes["axes"]), keepdim=bool(attributes.get("keepdims", 1)))


def _slice(
    attributes: Attributes, x: Any, starts: list[int], ends: list[int], axes: list[int], steps: list[int] | None = None
) -> Any:
    if steps is not None and set(steps) != {1}:
        raise InputError("Slice with a step is not known")
    for start, end, axis in zip(starts, ends, axes, strict=True):
        if isinstance(x, list):
            x = x[start:end]
        else:
            end = min(end, x.shape[axis])
            x = x.narrow(axis, start, end - start)
    return x


def _concat(attributes: Attributes, *parts: Any) -> Any:
    if isinstance(parts[0], list):
        return [value for part in parts for value in part]
    return torch.cat(parts, attributes["axis"])


def _reshape(attributes: Attributes, x: Any, shape: list[int]) -> Any:
    if isinstance(x, list):
        return x  # host-side shapes are flat already
    return x.reshape([x.shape[place] if size == 0 else size for place, size in enumerate(shape)])


def _squeeze(attributes: Attributes, x: Any) -> Any:
    return x if isinstance(x, list) else x.squeeze(tuple(attributes["axes"]))


def _unsqueeze(attributes: Attributes, x: Any) -> Any:
    if isinstance(x, list):
        return x
    for axis in sorted(attributes["axes"]):
        x = x.unsqueeze(axis)
    return x


def _binary(function: Callable[[Any, Any], Tensor]) -> Callable[..., Tensor]:
    return lambda attributes, a, b: function(a, b)


def _unary(function: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda attributes, x: function(x)


def _hard_sigmoid(attributes: Attributes, x: Tensor) -> Tensor:
    return (x * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5)).clamp(0, 1)


def _shape(x: Tensor) -> Sequence[int]:
    return list(x.shape)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": _binary(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _binary(torch.div),
    "Erf": _unary(torch.erf),
    "HardSigmoid": _hard_sigmoid,
    "Identity": _unary(lambda x: x),
    "MatMul": _binary(torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _binary(torch.mul),
    "Pow": _binary(torch.pow),
    "ReduceMean": _mean,
    "Relu": _unary(torch.relu),
    "Reshape": _reshape,
    "Shape": _unary(_shape),
    "Sigmoid": _unary(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda attributes, x: torch.softmax(x, attributes["axis"]),
    "Sqrt": _unary(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _binary(torch.sub),
    "Transpose": lambda attributes, x: x.permute(attributes["perm"]),
    "Unsqueeze": _unsqueeze,
}
