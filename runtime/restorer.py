"""The public door: pictures of text lines in, the same lines restored at four times their size out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from runtime import recognizer
from runtime.bundle import Bundle
from runtime.call import Call
from runtime.deadline import Cancelled, Deadline
from runtime.events import Event, EventKind, OnEvent, tell
from runtime.executors import open_executor
from runtime.finish import Tools
from runtime.judging import Guard
from runtime.options import Gate, Options, Split
from runtime.recognizer import LineReader, find_model
from runtime.result import Result
from runtime.transocr import open_transocr
from runtime.turns import Turns
from textsr.config import SCALE, Preset
from textsr.errors import BusyError, InputError
from textsr.linetext import LineText
from textsr.loop import Executor, TextSampler

logger = logging.getLogger(__name__)

SPLIT, GATE = Split(), Gate()
"""How lines are split and let in unless a call says otherwise."""


class Restorer:
    """Restores text lines with a bundle. Open one with `Restorer.open`, then call it, from any thread; no call leaves
    a trace in it. A context manager; after `close`, and in a process forked from this one, it raises EngineError.
    """

    def __init__(
        self,
        bundle: Bundle,
        executor: Executor,
        reader: LineReader | None,
        *,
        proofreader: LineReader | None = None,
        guard: Guard | None = None,
        on_event: OnEvent | None = None,
        running: int | None = None,
        waiting: int | None = None,
    ) -> None:
        """Takes its parts as they are: a ``bundle``, an open ``executor`` for its graphs, which `close` closes, a
        ``reader`` and a ``proofreader`` (`runtime.proofreading`), or None; ``guard``, ``on_event``, ``running`` and
        ``waiting`` as in `open`.

        :raises InputError: a bound is too small.
        """
        self.bundle = bundle
        self.executor = executor
        self.reader = reader
        self.proofreader = proofreader
        self.guard = guard
        self.on_event = on_event
        self._turns = Turns(running, waiting)

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
        guard: Guard | None = None,
        on_event: OnEvent | None = None,
        running: int | None = None,
        waiting: int | None = None,
    ) -> Restorer:
        """Opens and verifies a bundle, chooses the device and finds the recogniser.

        :param bundle: a bundle's folder or the name of one that the package ships.
        :param device: auto, cpu, cuda or cuda:N.
        :param executor: auto (the fastest that works: on a CPU onnxruntime), tensorrt, onnxruntime, or torch (extra
            [export]).
        :param threads: CPU threads; None leaves it to the executor.
        :param precision: fp32, fp16, or auto: fp16 on CUDA where it can be had, else fp32.
        :param read_text: False opens no recogniser; lines without a text are then restored from the picture alone, and
            none is proofread.
        :param guard: judges what is restored, see `runtime.judging`.
        :param on_event: is told counts and timings, see `runtime.events`; what it raises is logged.
        :param running: calls that run at once, at least 1; None for any number.
        :param waiting: further calls that wait for their turn, None for any number; needs ``running``. One more is
            refused with BusyError.
        :raises InputError: a bound, the device's name, the executor or the precision is none that there is.
        :raises BundleError: the bundle is missing, damaged or of another format.
        :raises DeviceError: the device is not there.
        :raises EngineError: the executor cannot be loaded.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        runner = open_executor(opened, device, executor=executor, threads=threads, precision=precision)
        reader = open_reader(opened, runner, threads) if read_text else None
        proofreader = open_proofreader(opened, threads) if reader is not None else None
        return cls(
            opened, runner, reader, proofreader=proofreader, guard=guard, on_event=on_event, running=running,
            waiting=waiting,
        )  # fmt: skip

    @property
    def preset(self) -> Preset:
        """The bundle's preset."""
        return self.bundle.preset

    def check(self, options: Options) -> None:
        """Whether a call with these ``options`` can be done.

        :raises InputError: one is out of range for this bundle or its executor.
        """
        options.check(self.preset, samples_text=self.bundle.samples_text)
        largest = getattr(self.executor, "largest_batch", None)
        if largest is not None and options.batch_size > largest:
            raise InputError(f"batch size {options.batch_size}: {self.executor.name} takes at most {largest}")

    def close(self) -> None:
        """Waits for calls under way, then frees what the executor holds; nothing can be restored afterwards. Again
        does nothing.

        :raises EngineError: called within a call.
        """
        if not self._turns.close():
            return
        close = getattr(self.executor, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Restorer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        split: Split = SPLIT,
        gate: Gate = GATE,
        deadline_ms: float | None = None,
        guarded: bool = True,
        strength: float | None = None,
        paint: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Result]:
        """Restores lines; one result an image, in order. The images are never changed.

        :param images: RGB arrays (h, w, 3) uint8 of any size, each one line of text.
        :param texts: what each line says, where the caller knows: None (the recogniser reads it), a string, or
            `LineText` with confidences and places. An empty string restores from the picture alone.
        :param seed: same seed, same image, same result, alone or in a batch.
        :param steps: residual-shift steps, from 1 to the number trained (18); None takes the bundle's default: the
            fewest that were measured to be as good (`Preset.default_steps`).
        :param text_sampler: "fixed" keeps the text as read, "categorical" lets the text diffusion correct it.
        :param batch_size: lines, or pieces of long lines, restored at once.
        :param scale: size of the results relative to the input, above 0 and at most 16.
        :param split: how long lines are taken apart and tall crops laid down.
        :param gate: which lines are left alone because restoring cannot help, or need not.
        :param deadline_ms: milliseconds from now, waiting for a turn included; what is not done by then is returned
            as it came, enlarged, and says so. Seen between batches and between steps, so a step, the decoding of a
            batch or the reading of one may go beyond it.
        :param strength: share of the network's line in the result, from 0 to 1; the rest is the enlarged input. Less
            is more faithful and less sharp. None takes what the bundle states (`Preset.default_strength`).
        :param paint: how strongly the strokes of what was read, or given, are added to the result, from 0 (not at all)
            over 1 (in the contrast that the picture shows) to 2, each character by the square root of its confidence
            (`textsr.painting.strokes`). Other recognisers read more of it, and what was misread is painted as well.
            None takes what the bundle states (`Preset.default_paint`). Where neither ``strength`` nor ``paint`` is
            given, the bundle's are those that are tried first: `runtime.proofreading` chooses both line by line, where
            the restorer has a proofreader.
        :param guarded: False does without the guard that the restorer was opened with.
        :param cancelled: asked where the deadline is, in the thread of the call; once it says True the call ends.
        :raises InputError: an option is out of range. A bad image raises nothing: its result says why.
        :raises EngineError: a graph failed; the restorer is closed, or used in a forked process.
        :raises BusyError: as many calls are running and waiting as were allowed.
        :raises Cancelled: ``cancelled`` said so.
        """
        _check_lists(images, texts)
        deadline = Deadline(deadline_ms, cancelled=cancelled)
        steps = self.preset.default_steps if steps is None else steps
        proofread = strength is None and paint is None and self.preset.default_paint > 0
        strength = self.preset.default_strength if strength is None else strength
        paint = self.preset.default_paint if paint is None else paint
        options = Options(
            seed, steps, text_sampler, batch_size, scale, split, gate, deadline_ms, guarded, strength, paint, proofread
        )
        number = self._turns.number()
        self.check(options)
        tools = Tools(self.executor, self.preset, self.bundle.alphabet, self.reader, self.guard, self.proofreader)
        call = Call(tools, options, deadline, self._tell, number)
        try:
            with self._turns.turn(deadline) as in_time:
                self._tell(Event("start", number, lines=len(images), seconds=deadline.passed()))
                results = call.run(images, texts, in_time=in_time)
        except BaseException as error:
            self._tell(Event(_kind(error), number, lines=len(images), seconds=deadline.passed()))
            raise
        applied = sum(result.applied for result in results)
        self._tell(
            Event(
                "call", number, lines=len(results), pieces=call.pieces, seconds=deadline.passed(), applied=applied,
                causes=call.causes(), executor=self.executor.name,
            )
        )  # fmt: skip
        return results

    def _tell(self, event: Event) -> None:
        tell(self.on_event, replace(event, running=self._turns.running, waiting=self._turns.waiting))


def _check_lists(images: object, texts: object) -> None:
    """Raises InputError where ``images`` or ``texts`` is no list, or they differ in length."""
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise InputError("images is one array: give a list of pictures")
    lengths = []
    for name, given in (("images", images), ("texts", images if texts is None else texts)):
        is_list = hasattr(given, "__len__") and hasattr(given, "__getitem__")
        if not is_list or isinstance(given, str | bytes | Mapping):
            raise InputError(f"{name} must be a list with one entry for each picture, not {type(given).__name__}")
        lengths.append(len(given))  # type: ignore[arg-type]
    if lengths[0] != lengths[1]:
        raise InputError(f"texts has {lengths[1]} entries for {lengths[0]} images: it needs one for each")


def _kind(error: BaseException) -> EventKind:
    if isinstance(error, BusyError):
        return "refused"
    return "cancelled" if isinstance(error, Cancelled) else "failed"


def open_reader(bundle: Bundle, executor: Executor, threads: int | None = None) -> LineReader | None:
    """The recogniser that the bundle names; None, and a warning in the log, where its package is not installed.

    :raises BundleError: the bundle names a recogniser of its own but lacks parts of it.
    """
    if bundle.recognizer == "transocr":
        return open_transocr(bundle, executor)
    if bundle.recognizer == "rapidocr":
        if find_model() is not None:
            return recognizer.open_reader(threads=threads)
        logger.warning("the recogniser is not installed (extra [ocr]): lines are restored from the picture alone")
    return None


def open_proofreader(bundle: Bundle, threads: int | None = None) -> LineReader | None:
    """PP-OCRv6 with its own weights, for a bundle that paints what was read; None for others, and where it is not
    installed."""
    if bundle.recognizer == "rapidocr" and bundle.preset.default_paint > 0 and find_model() is not None:
        return recognizer.PPOCRReader(threads=threads)
    return None
