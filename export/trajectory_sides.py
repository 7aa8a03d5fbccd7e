"""The two sides of a comparison, as the command line names them: ``MODEL[@EXECUTOR[:WORD...]]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors import safe_open

from export.emulate import PlainExecutor, emulated
from export.recording import WeightsFile
from export.source import open_source
from export.trace import TracedGraph
from export.trajectory import Codebook
from export.weights import WEIGHTS
from runtime.bundle import MANIFEST, Bundle, shipped
from runtime.executors import open_executor
from textsr.alphabet import Alphabet
from textsr.checkpoint import read_metadata
from textsr.config import PRESETS, Preset
from textsr.config import preset as named_preset
from textsr.device import Device
from textsr.errors import BundleError, DeviceError, InputError
from textsr.graphs import Model, graphs
from textsr.loop import Executor
from textsr.torch_executor import TorchExecutor

EMULATED = "emulated-half"
EXECUTORS = ("torch", "torch-compile", "onnxruntime", "openvino", "tensorrt", EMULATED)
PRECISIONS = ("fp32", "fp16", "bf16")
SYNTAX = """\
A and B are MODEL[@EXECUTOR[:WORD...]].
  MODEL     a bundle's folder, the name of a shipped bundle, or a checkpoint (.safetensors; runs on torch)
  EXECUTOR  torch, torch-compile, onnxruntime, openvino, tensorrt, or emulated-half: the bundle's half graphs on the
            CPU with the output of every node rounded to half precision; default: onnxruntime for bundles, torch for
            checkpoints
  WORD      in any order: fp32, fp16 or, for openvino, bf16 (default: fp32); cpu, cuda or cuda:N (default: cpu, for
            tensorrt cuda); a checkpoint's preset where it states none: paper, compact, tiny
Examples: compact@torch compact@onnxruntime; build/mine@torch build/mine@emulated-half;
          paper.safetensors@torch:paper build/paper@tensorrt:fp16:cuda:1"""
"""Of a side, for --help."""
_EMBEDDING = "vqgan.quantize.embedding.weight"


@dataclass(frozen=True)
class Spec:
    """A side as it was asked for; ``preset`` is empty where none is named."""

    model: str
    executor: str
    precision: str = "fp32"
    device: str = "cpu"
    preset: str = ""

    @classmethod
    def parse(cls, text: str) -> Spec:
        """See `SYNTAX`. Raises InputError that says what is wrong with it."""
        model, at, rest = text.rpartition("@")
        if not at or Path(text).exists():
            model, rest = text, ""
        executor, *words = rest.split(":")
        executor = executor or ("torch" if _is_checkpoint(model) else "onnxruntime")
        if not model or executor not in EXECUTORS:
            raise InputError(f"{text!r}: no executor {executor!r}: choose one of {', '.join(EXECUTORS)}\n{SYNTAX}")
        found = cls(model, executor, device="cuda" if executor == "tensorrt" else "cpu")
        if executor == EMULATED:
            found = replace(found, precision="fp16")
        for word, previous in zip(words, ["", *words], strict=False):
            found = found._with(word, previous, text)
        return found._checked(text)

    def _with(self, word: str, previous: str, text: str) -> Spec:
        if word in PRECISIONS:
            return replace(self, precision=word)
        if word in PRESETS:
            return replace(self, preset=word)
        if word in ("cpu", "cuda"):
            return replace(self, device=word)
        if word.isdecimal() and previous == "cuda":
            return replace(self, device=f"cuda:{word}")
        raise InputError(f"{text!r}: {word!r} is no precision, device or preset\n{SYNTAX}")

    def _checked(self, text: str) -> Spec:
        if _is_checkpoint(self.model) and self.executor != "torch":
            raise InputError(f"{text!r}: a checkpoint runs on torch; build a bundle of it for {self.executor}")
        if self.preset and not _is_checkpoint(self.model):
            raise InputError(f"{text!r}: a bundle has its preset, {self.preset} cannot be chosen")
        if self.precision == "bf16" and self.executor != "openvino":
            raise InputError(f"{text!r}: bf16 is for openvino")
        if self.executor == EMULATED and (self.device, self.precision) != ("cpu", "fp16"):
            raise InputError(f"{text!r}: {EMULATED} is fp16 on the CPU")
        Device.parse(self.device)
        return self

    def __str__(self) -> str:
        words = [self.executor, self.precision, self.device, *([self.preset] if self.preset else [])]
        return f"{self.model}@{':'.join(words)}"


@dataclass(frozen=True)
class Side:
    """A side that is ready to run. ``stored``: the precision of its weights; ``symbols``: TransOCR's, if it has one."""

    spec: Spec
    executor: Executor
    preset: Preset
    alphabet: Alphabet
    symbols: Sequence[str]
    codebook: Codebook
    graphs: frozenset[str]
    stored: str

    def close(self) -> None:
        """Frees what the executor holds."""
        close: Callable[[], None] | None = getattr(self.executor, "close", None)
        if close is not None:
            close()


def open_side(spec: Spec) -> Side:
    """Opens model and executor.

    :raises TextSRError: the model cannot be read, the executor is not installed, or does not work here.
    """
    return _open_checkpoint(spec) if _is_checkpoint(spec.model) else _open_bundle(spec, Bundle.open(spec.model))


def check_alike(a: Side, b: Side) -> None:
    """Raises BundleError where the sides are models of different kinds, whose loops cannot be compared."""
    mine, other = (replace(side.preset, transocr=None) for side in (a, b))
    if mine != other:
        what = [name for name in vars(mine) if getattr(mine, name) != getattr(other, name)]
        raise BundleError(f"{a.spec} and {b.spec} differ in preset ({', '.join(what)}): nothing can be compared")
    if a.alphabet.symbols != b.alphabet.symbols:
        raise BundleError(f"{a.spec} and {b.spec} have different alphabets: tokens do not mean the same")


def _is_checkpoint(model: str) -> bool:
    return model.endswith(".safetensors") and model not in shipped() and not (Path(model) / MANIFEST).is_file()


def _open_bundle(spec: Spec, bundle: Bundle) -> Side:
    if spec.executor == EMULATED:
        executor: Executor = emulated_half(bundle)
    else:
        executor = open_executor(bundle, spec.device, executor=spec.executor, precision=spec.precision)
    symbols = tuple(bundle.manifest.get("recognizer_symbols") or ())
    codebook = _stored_codebook(bundle.path / WEIGHTS, bundle.preset)
    names = frozenset(bundle.graphs)
    return Side(spec, executor, bundle.preset, bundle.alphabet, symbols, codebook, names, bundle.precision)


def _open_checkpoint(spec: Spec) -> Side:
    path = Path(spec.model)
    name = spec.preset or read_metadata(path).get("preset", "")
    if not name:
        raise InputError(f"{path}: states no preset: name one, as in {path}@torch:paper")
    device = Device.parse(spec.device)
    if device.kind == "cuda" and device.index >= torch.cuda.device_count():
        raise DeviceError(f"{spec}: torch {torch.__version__} finds {torch.cuda.device_count()} CUDA device(s)")
    source = open_source(named_preset(name), path)
    codebook, modules = codebook_of(source.model), graphs(source.model)
    executor = TorchExecutor(modules, spec.device, precision="fp16" if spec.precision == "fp16" else "fp32")
    preset = source.model.preset
    return Side(spec, executor, preset, source.alphabet, source.symbols, codebook, frozenset(modules), "fp32")


def codebook_of(model: Model) -> Codebook:
    """The code vectors of a model."""
    quantizer = model.vqgan.quantize
    return Codebook(quantizer.embedding.weight.detach().numpy().copy(), quantizer.groups)


def _stored_codebook(path: Path, preset: Preset) -> Codebook:
    if not path.is_file():
        raise BundleError(f"{path}: is not there; its code vectors are needed")
    with safe_open(path, framework="numpy") as file:
        return Codebook(file.get_tensor(_EMBEDDING).astype(np.float32), preset.vqgan.codebook_groups)


def emulated_half(bundle: Bundle) -> PlainExecutor:
    """The bundle's half graphs with every node's output rounded to half precision, on the CPU (`export.emulate`).

    :raises BundleError: it has none.
    """
    half = {name: _detached(name, spec.path) for name, spec in bundle.in_half().graphs.items()}
    weights = WeightsFile(bundle.path / WEIGHTS, half)
    models: Mapping[str, onnx.ModelProto] = {name: emulated(graph.model) for name, graph in half.items()}
    return PlainExecutor(EMULATED, models, weights)


def _detached(name: str, path: Path) -> TracedGraph:
    """A graph of a bundle with its weights as inputs again, the inverse of `export.weights.attach`."""
    model = onnx.load(str(path), load_external_data=False)
    external = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in external:
        model.graph.initializer.remove(tensor)
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return TracedGraph(name, model, tuple(tensor.name for tensor in external))
