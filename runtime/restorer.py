"""The public door: pictures of text lines in, the same lines restored at four times their size out."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Bundle
from runtime.executors import open_executor
from runtime.lines import Line, Options, fit, line_batch, read
from runtime.recognizer import LineReader, PPOCRReader, find_model
from runtime.result import Result, enlarged
from runtime.transocr import open_transocr
from textsr.config import SCALE, Preset
from textsr.errors import InputError
from textsr.fit import unfit_line
from textsr.linetext import LineText
from textsr.loop import Executor, LoopOutput, TextSampler, restore

logger = logging.getLogger(__name__)


class Restorer:
    """Restores text lines with a bundle. Open one with `Restorer.open`, then call it; no call leaves a trace in it."""

    def __init__(self, bundle: Bundle, executor: Executor, reader: LineReader | None) -> None:
        self.bundle = bundle
        self.executor = executor
        self.reader = reader

    @classmethod
    def open(
        cls,
        bundle: str | Path | Bundle = "compact",
        device: str = "auto",
        *,
        executor: str = "auto",
        threads: int | None = None,
        precision: str = "auto",
        read_text: bool = True,
    ) -> Restorer:
        """Opens and verifies a bundle, chooses the device and finds the recogniser.

        :param bundle: a bundle's folder or the name of one that the package ships.
        :param device: auto, cpu, cuda or cuda:N.
        :param executor: auto (the fastest that works: on a CPU onnxruntime), tensorrt, onnxruntime, or torch (extra
            [export]).
        :param threads: CPU threads; None leaves it to the executor.
        :param precision: fp32, fp16, or auto: fp16 on CUDA where it can be had, else fp32.
        :param read_text: False opens no recogniser; lines without a text are then restored from the picture alone.
        :raises BundleError: the bundle is missing, damaged or of another format.
        :raises DeviceError: the device is not there.
        :raises EngineError: the executor cannot be loaded.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        runner = open_executor(opened, device, executor=executor, threads=threads, precision=precision)
        return cls(opened, runner, open_reader(opened, runner, threads) if read_text else None)

    @property
    def preset(self) -> Preset:
        """The bundle's preset."""
        return self.bundle.preset

    def check(self, options: Options) -> None:
        """Raises InputError when an option of a call is out of range for this bundle or its executor."""
        options.check(self.preset, samples_text=self.bundle.samples_text)
        largest = getattr(self.executor, "largest_batch", None)
        if largest is not None and options.batch_size > largest:
            raise InputError(f"batch size {options.batch_size}: {self.executor.name} takes at most {largest}")

    def close(self) -> None:
        """Frees what the executor holds on a device; nothing can be restored afterwards. Again does nothing."""
        close = getattr(self.executor, "close", None)
        if close is not None:
            close()

    def __call__(
        self,
        images: Sequence[NDArray[np.uint8]],
        texts: Sequence[str | LineText | None] | None = None,
        *,
        seed: int = 0,
        steps: int | None = None,
        text_sampler: TextSampler = "fixed",
        batch_size: int = 8,
        scale: float = SCALE,
    ) -> list[Result]:
        """Restores lines; one result an image, in order. The images are never changed.

        :param images: RGB arrays (h, w, 3) uint8 of any size, each one line of text.
        :param texts: what each line says, where the caller knows: None (the recogniser reads it), a string, or
            `LineText` with confidences and places. An empty string restores from the picture alone.
        :param seed: same seed, same image, same result, alone or in a batch.
        :param steps: residual-shift steps, from 1 to the number trained (18); None takes them all.
        :param text_sampler: "fixed" keeps the text as read, "categorical" lets the text diffusion correct it.
        :param scale: size of the results relative to the input, above 0 and at most 16.
        :raises InputError: an option is out of range. A bad image raises nothing: its result says why.
        :raises EngineError: a graph failed.
        """
        if isinstance(images, np.ndarray) and images.ndim != 4:
            raise InputError("images is one array: give a list of pictures")
        options = Options(seed, steps, text_sampler, batch_size, scale)
        self.check(options)
        if texts is not None and len(texts) != len(images):
            raise InputError(f"texts has {len(texts)} entries for {len(images)} images: it needs one for each")
        results: dict[int, Result] = {}
        lines: list[Line] = []
        for place, image in enumerate(images):
            try:
                lines.append(fit(place, image, None if texts is None else texts[place], self.preset))
            except InputError as error:
                results[place] = Result(enlarged(image, scale), reason=str(error), seed=seed)
        lines = self._read(lines)
        for start in range(0, len(lines), batch_size):
            batch = lines[start : start + batch_size]
            for line, result in zip(batch, self._restore(batch, options), strict=True):
                results[line.place] = result
        return [results[place] for place in range(len(images))]

    def _read(self, lines: list[Line]) -> list[Line]:
        begin = time.perf_counter()
        found = read(lines, self.reader)
        seconds = (time.perf_counter() - begin) / max(1, len(lines))
        return [replace(line, seconds=seconds) for line in found]

    def _restore(self, batch: list[Line], options: Options) -> list[Result]:
        begin = time.perf_counter()
        arrays = line_batch(batch, self.bundle.alphabet, self.preset)
        output = restore(
            self.executor, self.preset, arrays,
            seed=options.seed, steps=options.steps, text_sampler=options.text_sampler,
        )  # fmt: skip
        seconds = (time.perf_counter() - begin) / len(batch)
        return [self._result(line, output, place, seconds, options) for place, line in enumerate(batch)]

    def _result(self, line: Line, output: LoopOutput, place: int, seconds: float, options: Options) -> Result:
        begin = time.perf_counter()
        restored = np.ascontiguousarray(output.image[place].transpose(1, 2, 0))
        usable = bool(np.isfinite(restored).all())
        if usable:
            picture = unfit_line(restored, line.fitted, options.scale)
            reason = line.remark(self.preset)
        else:
            picture = enlarged(line.image, options.scale)
            reason = f"the network's output on {self.executor.name} is not finite"
        confidences = line.reading.confidences if line.reading else ()
        return Result(
            image=picture,
            text=self._text(line, output, place, options),
            confidence=float(np.mean(confidences)) if confidences else 0.0,
            confidences=confidences,
            applied=usable,
            reason=reason,
            timings={"read": line.seconds, "restore": seconds, "finish": time.perf_counter() - begin},
            executor=output.executor or self.executor.name,
            reader=line.reader,
            tokens=tuple(int(token) for token in output.tokens[place]),
            seed=options.seed,
            steps=options.steps or self.preset.schedule.steps,
        )

    def _text(self, line: Line, output: LoopOutput, place: int, options: Options) -> str:
        """As read or given; what the text diffusion made of it where that ran."""
        if options.text_sampler == "categorical":
            return self.bundle.alphabet.decode(output.tokens[place])
        return line.reading.text if line.reading else ""


def open_reader(bundle: Bundle, executor: Executor, threads: int | None = None) -> LineReader | None:
    """The recogniser that the bundle names; None, and a warning in the log, where its package is not installed.

    :raises BundleError: the bundle names a recogniser of its own but lacks parts of it.
    """
    if bundle.recognizer == "transocr":
        return open_transocr(bundle, executor)
    if bundle.recognizer == "rapidocr":
        model = find_model()
        if model is not None:
            return PPOCRReader(model, threads=threads)
        logger.warning("the recogniser is not installed (extra [ocr]): lines are restored from the picture alone")
    return None
