"""Reading a line with PP-OCRv6, which comes in the wheel of ``rapidocr`` (extra [ocr]).

Only the recognition model's file is used: one crop in, text with a confidence and a centre for each character out.
A reading depends on the crop alone, never on the other crops of its batch. `open_reader` gives it the weights that
textsr ships, which read degraded lines better (`train.reader`).
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from textsr.errors import BundleError, EngineError, InputError
from textsr.reading import LineReading
from textsr.resize import bilinear_resize

logger = logging.getLogger(__name__)

MODEL = "PP-OCRv6_rec_small.onnx"
BASE = "base_sha256"
"""Metadata of weights: the hash of the ONNX file that they belong to."""
SCALE = ".scale"
"""Ending of the names of factors in a file of weights; see `reweighted`."""
WEIGHTS = Path(__file__).resolve().parent / "assets" / "degraded.safetensors"
"""Weights for `MODEL` that were trained on degraded lines; their metadata names the file that they belong to."""
HEIGHT = 48
"""Pixels: the model's input height."""
NARROWEST, WIDEST, STRIDE = 320, 3200, 32
"""Pixels: inputs are padded to a multiple of STRIDE in this range, and squeezed beyond it."""


class LineReader(Protocol):
    """Reads line crops. One with ``widest`` is shown no crops of more width over height: they are read in parts."""

    @property
    def name(self) -> str:
        """What read the line, for reports."""

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        """One reading for each of ``images``, RGB (h, w, 3) uint8, in order; an empty text where nothing was found."""


def find_model() -> Path | None:
    """The recognition model in the installed rapidocr, or None. Nothing of rapidocr is imported."""
    spec = find_spec("rapidocr")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "models" / MODEL
        if path.is_file():
            return path
    return None


class PPOCRReader:
    """PP-OCRv6 small recogniser (Apache-2.0): CTC over 18,708 characters and the space."""

    name = "PP-OCRv6"
    widest = WIDEST / HEIGHT

    def __init__(
        self,
        model: Path | None = None,
        *,
        weights: Path | None = None,
        device: str = "cpu",
        threads: int | None = None,
        batch_size: int = 8,
    ) -> None:
        """Opens the model.

        :param model: its ONNX file; None finds it in the installed rapidocr.
        :param weights: safetensors file with weights to take instead of the model's own, as ``python -m train.run
            --stage reader`` leaves them; its name is then part of ``name``.
        :param device: auto, cpu, cuda or cuda:N.
        :param threads: CPU threads; None leaves it to ONNX Runtime.
        :param batch_size: crops of like width that are read in one run.
        :raises InputError: rapidocr is not installed.
        :raises BundleError: the model has no list of characters, or ``weights`` do not belong to it.
        :raises DeviceError: the device is not there.
        :raises EngineError: the model cannot be loaded.
        """
        from runtime.executors.onnxruntime import choose_device, open_session  # so that runtime.doctor can do without

        path = model or find_model()
        if path is None:
            raise InputError(f"{MODEL} was not found: install the recogniser with the extra [ocr] (rapidocr 3.10)")
        content = None
        if weights is not None:
            self.name, content = f"{self.name}+{weights.stem}", reweighted(path, weights)
        self._session = open_session(path, choose_device(device), threads, content=content)
        self._batch_size = batch_size
        self._input = self._session.get_inputs()[0].name
        listed = self._session.get_modelmeta().custom_metadata_map.get("character", "")
        if not listed:
            raise BundleError(f"{path}: holds no list of characters in its metadata")
        self.classes = ("", *listed.split("\n"), " ")  # class 0 is CTC's blank

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        """As `LineReader` says; of ``images``, those of like width share a run of the model.

        :raises EngineError: the model failed.
        """
        groups: dict[int, list[int]] = {}
        for place, image in enumerate(images):
            groups.setdefault(padded_width(*image.shape[:2]), []).append(place)
        readings: dict[int, LineReading] = {}
        for width, places in sorted(groups.items()):
            for start in range(0, len(places), self._batch_size):
                chunk = places[start : start + self._batch_size]
                prepared = [prepare(images[place], width) for place in chunk]
                probabilities = self._run(np.stack([array for array, _ in prepared]))
                for place, (_, used), steps in zip(chunk, prepared, probabilities, strict=True):
                    readings[place] = self.decode(steps, used / width)
        return [readings[place] for place in range(len(images))]

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return np.asarray(self._session.run(None, {self._input: batch})[0])
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise EngineError(f"the recogniser failed on a batch of {batch.shape}: {error}") from error

    def decode(self, probabilities: NDArray[np.float32], share: float = 1.0) -> LineReading:
        """Greedy CTC of ``probabilities`` (steps, classes), the crop filling the first ``share`` of the steps.

        A character is a run of steps with the same class; its confidence is the largest probability of the run,
        its centre the middle of the run as a share of the crop's width.
        """
        best = probabilities.argmax(axis=1)
        starts = np.flatnonzero(np.diff(best, prepend=-1))
        ends = np.append(starts[1:], len(best))
        text, confidences, centres = [], [], []
        for start, end in zip(starts, ends, strict=True):
            if best[start] == 0:
                continue
            text.append(self.classes[best[start]])
            confidences.append(float(np.clip(probabilities[start:end, best[start]].max(), 0, 1)))
            centres.append(min(1.0, float((start + end) / 2 / len(best) / share)))
        return LineReading("".join(text), tuple(confidences), tuple(centres))


def open_reader(*, device: str = "cpu", threads: int | None = None, batch_size: int = 8) -> PPOCRReader:
    """The product's reader: PP-OCRv6 with textsr's weights. Where they cannot be used (another version of the model,
    a package missing) it has its own, which the log says, and its name.

    :raises InputError, BundleError, DeviceError, EngineError: as `PPOCRReader`.
    """
    how: dict[str, Any] = {"device": device, "threads": threads, "batch_size": batch_size}
    if find_model() is not None:
        try:
            return PPOCRReader(weights=WEIGHTS, **how)
        except (BundleError, InputError) as error:
            logger.warning("%s: reading with PP-OCRv6's own weights, which read fewer degraded lines", error)
    return PPOCRReader(**how)


def reweighted(model: Path, weights: Path) -> bytes:
    """The ONNX file ``model`` with other values for some of its tensors, from a safetensors file by their names.

    Floating values replace the model's own. Those of type int8 are added to them, each row (first axis) times its
    factor, float32 under the tensor's name and `SCALE`.

    :raises InputError: onnx or safetensors is not installed.
    :raises BundleError: a file cannot be read, or the weights belong to another model: by their metadata's
        ``base_sha256``, where they have it, or by their names and shapes.
    """
    try:
        onnx, safetensors = import_module("onnx"), import_module("safetensors")
    except ImportError as error:
        raise InputError(f"other weights for the recogniser need {error.name}: install the extra [ocr]") from error
    try:
        content = model.read_bytes()
        loaded = onnx.load_model_from_string(content)
        with safetensors.safe_open(weights, "numpy") as file:
            told = file.metadata() or {}
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # theirs share no base class
        raise BundleError(f"{weights}: cannot be read as weights for {model.name} ({error})") from error
    if told.get(BASE) not in (None, hashlib.sha256(content).hexdigest()):
        raise BundleError(f"{weights}: belongs to another {model.name} than the one installed, {model}")
    own = {tensor.name: tensor for tensor in loaded.graph.initializer}
    for name in sorted(name for name in values if not name.endswith(SCALE)):
        value = values[name]
        if name not in own or tuple(own[name].dims) != value.shape:
            raise BundleError(f"{weights}: {name} {value.shape} is no weight of {model}: they belong to another model")
        if value.dtype == np.int8:
            factors = values.get(name + SCALE, np.zeros(0))
            if factors.shape != value.shape[:1]:
                raise BundleError(f"{weights}: {name} lacks the factors of its {value.shape[0]} rows")
            value = onnx.numpy_helper.to_array(own[name]) + (value.T * factors).T
        own[name].CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    return bytes(loaded.SerializeToString())


def padded_width(height: int, width: int) -> int:
    """The model's input width for a crop: its width at 48 pixels of height, rounded up to a multiple of STRIDE."""
    natural = math.ceil(HEIGHT * width / height / STRIDE) * STRIDE
    return min(max(natural, NARROWEST), WIDEST)


def prepare(image: NDArray[np.uint8], width: int) -> tuple[NDArray[np.float32], int]:
    """PP-OCR's input: BGR (3, 48, width) in [-1, 1], zeros beside the crop; and the columns that the crop fills."""
    used = min(width, math.ceil(HEIGHT * image.shape[1] / image.shape[0]))
    small = bilinear_resize(image[:, :, ::-1], HEIGHT, used) / np.float32(127.5) - np.float32(1)
    padded = np.zeros((3, HEIGHT, width), dtype=np.float32)
    padded[:, :, :used] = small.transpose(2, 0, 1)
    return padded, used
