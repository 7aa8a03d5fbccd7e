"""The paper's system in torch: checkpoint and lines in, restored lines out, by the one loop of `textsr.loop`."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from textsr.alphabet import Alphabet
from textsr.batch import GIVEN, line_batch, remark
from textsr.checkpoint import load_model, read_metadata, stated_alphabet, stated_preset, stated_symbols
from textsr.config import SCHEDULES, Preset, preset
from textsr.device import Device
from textsr.errors import BundleError, DeviceError, InputError
from textsr.fit import FittedLine, fit_line, unfit_line
from textsr.graphs import graphs
from textsr.linetext import LineText, line_text
from textsr.loop import Executor, LoopOutput, TextSampler, restore
from textsr.noise import image_key
from textsr.reading import LineReading
from textsr.recognition import TransOCRReader
from textsr.schedule import ResidualShiftSchedule
from textsr.torch_executor import TorchExecutor

logger = logging.getLogger(__name__)

Weights = Literal["ocr", "one"]
ONE = "one"
"""Every token counts in full, which is DiffTSR's form of MoM; "ocr": by its confidence."""


@dataclass(frozen=True)
class Restored:
    """A restored line.

    ``image``: RGB uint8, 4 times the input's size; ``raw`` (H, W, 3) float32 in [-1, 1], what the network gave before
    it was cut back to that. ``text``: what guided the restoration, or what the text diffusion made of it;
    ``confidences`` one a character of what was read; ``tokens`` the ids at the end. ``reason``: what the restoration
    lacked; empty where it lacked nothing. ``seconds``: a batch's divided evenly, reading included.
    """

    image: NDArray[np.uint8]
    raw: NDArray[np.float32]
    text: str
    confidences: tuple[float, ...]
    tokens: tuple[int, ...]
    reader: str
    reason: str
    seconds: float


@dataclass(frozen=True)
class _Line:
    image: NDArray[np.uint8]
    fitted: FittedLine
    reading: LineReading | None
    reader: str


class Reference:
    """The reference sampler. Open one with `Reference.open`, then call it; no call leaves a trace in it."""

    def __init__(self, executor: Executor, preset: Preset, alphabet: Alphabet, reader: TransOCRReader | None) -> None:
        """Raises BundleError when the alphabet is not of the preset's size."""
        if alphabet.padding != preset.padding:
            raise BundleError(
                f"an alphabet of {alphabet.padding} symbols, but preset {preset.name} needs {preset.padding}: "
                "import the checkpoint with the alphabet of its text modules"
            )
        self.executor, self.preset, self.alphabet, self.reader = executor, preset, alphabet, reader

    @classmethod
    def open(
        cls,
        checkpoint: str | Path | None,
        preset: str | Preset = "paper",
        device: str = "auto",
        schedule: int | None = None,
        *,
        random: bool = False,
    ) -> Reference:
        """Loads a checkpoint strictly, with all that it states beside its weights.

        :param checkpoint: a safetensors file of all the preset's networks; None only with ``random``.
        :param schedule: T of `textsr.config.SCHEDULES`; None takes what the checkpoint states, else the preset's.
        :param random: random weights of a fixed seed instead, to try out or to measure.
        :raises InputError: neither or both of checkpoint and ``random``, or an unknown preset, schedule or device.
        :raises BundleError: the checkpoint cannot be read, or is of another preset.
        :raises DeviceError: the device is not there.
        """
        if (checkpoint is None) != random:
            raise InputError(
                "no checkpoint: give --checkpoint FILE (python -m textsr.checkpoint import makes one of the published "
                "files), or --random for random weights"
                if checkpoint is None
                else "either --checkpoint or --random, not both"
            )
        path = None if checkpoint is None else Path(checkpoint)
        kind, metadata = choose_device(device), {} if path is None else read_metadata(path)
        chosen = choose_preset(preset, metadata, schedule)
        executor = TorchExecutor(graphs(load_model(path, chosen)), kind)  # type: ignore[arg-type]
        return cls(executor, chosen, stated_alphabet(metadata), _reader(executor, chosen, metadata))

    def check(self, steps: int | None, batch_size: int) -> None:
        """Raises InputError when an option of a call is out of range."""
        if steps is not None:
            ResidualShiftSchedule.from_config(self.preset.schedule).kept(steps)
        if batch_size < 1:
            raise InputError(f"batch size must be at least 1, not {batch_size}")

    def __call__(
        self,
        images: Sequence[NDArray[np.uint8]],
        texts: Sequence[str | LineText | None] | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
        text_sampler: TextSampler = "fixed",
        weights: Weights = "ocr",
        batch_size: int = 4,
    ) -> list[Restored]:
        """Restores lines, RGB arrays (h, w, 3) uint8 of any size; one result an image, in order.

        :param texts: what each line says; None has it read, an empty string restores from the picture alone.
        :param seed: same seed, same image, same noise, alone or in a batch.
        :param steps: how many of the T trained steps; None takes them all.
        :param text_sampler: "fixed" keeps the text, "categorical" draws it anew at each step with the text diffusion.
        :param weights: "ocr" weighs each token with its confidence, "one" gives every token the weight 1.
        :raises InputError: an image, a text or an option cannot be used.
        """
        self.check(steps, batch_size)
        if weights not in ("ocr", ONE):
            raise InputError(f"weights {weights!r}: choose ocr or {ONE}")
        if texts is not None and len(texts) != len(images):
            raise InputError(f"texts has {len(texts)} entries for {len(images)} images: it needs one for each")
        results: list[Restored] = []
        for start in range(0, len(images), batch_size):
            begin, chunk = time.perf_counter(), slice(start, start + batch_size)
            lines = self._lines(images[chunk], [None] * len(images[chunk]) if texts is None else texts[chunk])
            output = self._restore(lines, seed, steps, text_sampler, weights)
            seconds = (time.perf_counter() - begin) / len(lines)
            results += [self._result(line, output, place, text_sampler, seconds) for place, line in enumerate(lines)]
        return results

    def _lines(self, images: Sequence[NDArray[np.uint8]], texts: Sequence[str | LineText | None]) -> list[_Line]:
        fitted = [fit_line(image, self.preset) for image in images]
        given = [line_text(text, place) for place, text in enumerate(texts)]
        unread = [image for image, text in zip(images, given, strict=True) if text is None]
        found = iter(self.reader.read(unread) if self.reader and unread else [None] * len(unread))
        name = self.reader.name if self.reader else ""
        return [
            _Line(image, line, next(found), name) if text is None else _Line(image, line, text.reading(image), GIVEN)
            for image, line, text in zip(images, fitted, given, strict=True)
        ]

    def _restore(
        self, lines: Sequence[_Line], seed: int, steps: int | None, text_sampler: TextSampler, weights: Weights
    ) -> LoopOutput:
        keys = [image_key(line.image) for line in lines]
        readings = [line.reading for line in lines]
        arrays = line_batch([line.fitted for line in lines], keys, readings, self.alphabet, self.preset)
        if weights == ONE:
            arrays = replace(arrays, weights=np.ones_like(arrays.weights))
        return restore(self.executor, self.preset, arrays, seed=seed, steps=steps, text_sampler=text_sampler)

    def _result(
        self, line: _Line, output: LoopOutput, place: int, text_sampler: TextSampler, seconds: float
    ) -> Restored:
        raw, reading = np.ascontiguousarray(output.image[place].transpose(1, 2, 0)), line.reading
        text = reading.text if reading else ""
        return Restored(
            image=unfit_line(raw, line.fitted),
            raw=raw,
            text=self.alphabet.decode(output.tokens[place]) if text_sampler == "categorical" else text,
            confidences=reading.confidences if reading else (),
            tokens=tuple(int(token) for token in output.tokens[place]),
            reader=line.reader,
            reason=remark(reading, self.preset.max_chars),
            seconds=seconds,
        )


def choose_preset(name: str | Preset, metadata: Mapping[str, str], schedule: int | None = None) -> Preset:
    """The preset as the checkpoint states it, with another schedule where one is asked for.

    :raises BundleError: the checkpoint was made for another preset.
    :raises InputError: an unknown preset or schedule, or one that the preset was not published with.
    """
    chosen = preset(name) if isinstance(name, str) else name
    made_for = metadata.get("preset", chosen.name)
    if made_for != chosen.name:
        raise BundleError(f"the checkpoint is of preset {made_for}, not {chosen.name}: give --preset {made_for}")
    stated = stated_preset(chosen, metadata)
    if schedule is None:
        return stated
    if schedule not in SCHEDULES:
        raise InputError(f"schedule {schedule}: choose one of {', '.join(map(str, SCHEDULES))}")
    if stated.schedule not in SCHEDULES.values():
        raise InputError(f"preset {chosen.name} was trained with a schedule of its own: leave out --schedule")
    if "schedule" in metadata and SCHEDULES[schedule] != stated.schedule:
        logger.warning("the checkpoint is for T = %d, but T = %d is used as asked", stated.schedule.steps, schedule)
    return replace(stated, schedule=SCHEDULES[schedule])


def choose_device(name: str) -> torch.device:
    """auto (CUDA where there is one), cpu, cuda or cuda:N. Raises InputError on other names, DeviceError if absent."""
    wanted = Device.parse(name)
    if wanted.kind == "auto":
        wanted = Device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.kind == "cuda" and wanted.index >= torch.cuda.device_count():
        raise DeviceError(f"device {name}: torch {torch.__version__} finds no such CUDA device; use --device cpu")
    return torch.device(str(wanted))


def _reader(executor: Executor, chosen: Preset, metadata: Mapping[str, str]) -> TransOCRReader | None:
    """The checkpoint's TransOCR, where it is trained and its symbols are stated; else None."""
    random = json.loads(metadata.get("initialised", "[]"))
    if random:
        logger.warning("the checkpoint has random weights in %s", ", ".join(random))
    symbols = stated_symbols(metadata)
    if chosen.transocr is None or not symbols or "transocr" in random:
        logger.info("no TransOCR with symbols: lines without a text are restored from the picture alone")
        return None
    return TransOCRReader(executor, chosen.transocr, symbols)
