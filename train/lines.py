"""Lines of a pool as training batches, made ahead on a thread of their own; processes may draw them."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from textsr.alphabet import Alphabet
from textsr.errors import InputError
from textsr.reading import TextArrays, unseen
from train.pool import PoolLine
from train.readings import NoiseModel

Item = TypeVar("Item")


class Lines(Protocol):
    """Lines by place: a LinePool, or a list of its lines."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> PoolLine: ...


class Written(Protocol):
    """A line with its text and the places of its characters (n,), as shares of its width."""

    @property
    def text(self) -> str: ...

    @property
    def centres(self) -> NDArray[np.float32]: ...

    @property
    def widths(self) -> NDArray[np.float32]: ...


class WrittenLines(Protocol):
    """Such lines by place."""

    def __getitem__(self, index: int, /) -> Written: ...


@dataclass(frozen=True)
class LinesOfText:
    """B lines: images (B,128,512,3) uint8, texts, truth and a reading of it (arrays (B,24)), shares of width filled."""

    places: NDArray[np.int64]
    images: NDArray[np.uint8]
    texts: tuple[str, ...]
    truth: TextArrays
    reading: TextArrays
    severity: NDArray[np.float32]
    filled: NDArray[np.float32]


def true_arrays(pool: WrittenLines, places: NDArray[np.int64], alphabet: Alphabet) -> TextArrays:
    """The true text of lines with its places, padded to 24: weights are 1."""
    tokens = np.stack([alphabet.encode(alphabet.fold(pool[int(i)].text))[0] for i in places])
    centres, widths = np.zeros(tokens.shape, np.float32), np.zeros(tokens.shape, np.float32)
    for row, i in enumerate(places):
        line = pool[int(i)]
        count = min(len(line.centres), tokens.shape[1])
        centres[row, :count], widths[row, :count] = line.centres[:count], line.widths[:count]
    return TextArrays(tokens, np.ones(tokens.shape, np.float32), centres, widths, *unseen(tokens.shape))


def line_batches(
    pool: Lines, noise: NoiseModel, alphabet: Alphabet, batch_size: int, rng: np.random.Generator
) -> Iterator[LinesOfText]:
    """Endless batches: all lines in a random order, then again in another.

    Raises InputError (at the first batch) when the pool cannot fill one.
    """
    _require_lines(pool, batch_size)
    while True:
        order = rng.permutation(len(pool))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            places = order[start : start + batch_size]
            severity = rng.random(batch_size)
            truth = true_arrays(pool, places, alphabet)
            reading = noise.sample_batch(rng, truth.tokens, truth.centres, truth.widths, severity)
            lines = [pool[int(i)] for i in places]
            filled = np.array([line.width / line.image.shape[1] for line in lines], np.float32)
            images = np.stack([line.image for line in lines])
            texts = tuple(line.text for line in lines)
            yield LinesOfText(places, images, texts, truth, reading, severity.astype(np.float32), filled)


def _require_lines(pool: Lines, batch_size: int) -> None:
    if len(pool) < batch_size:
        raise InputError(
            f"a pool of {len(pool)} lines cannot fill a batch of {batch_size}: give a smaller --batch-size"
        )


class _Drawn(IterableDataset[Any]):
    """`line_batches` for a worker process; the pictures as a tensor, which goes through shared memory."""

    def __init__(self, pool: Lines, noise: NoiseModel, alphabet: Alphabet, batch_size: int, seed: int) -> None:
        self.parts, self.seed = (pool, noise, alphabet, batch_size), seed

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, 0 if worker is None else worker.id])
        for batch in line_batches(*self.parts, rng):
            yield replace(batch, images=torch.from_numpy(batch.images))  # type: ignore[arg-type]


def drawn_batches(
    pool: Lines, noise: NoiseModel, alphabet: Alphabet, batch_size: int, seed: int, workers: int
) -> Iterator[LinesOfText]:
    """`line_batches` of ``seed``, drawn in ``workers`` processes, each through the lines in an order of its own.

    0 draws in this thread. A thread draws about 1,700 lines a second, but it keeps the interpreter from the training.
    Raises InputError, before there are processes, when the pool cannot fill a batch: for the end of each process that
    raised torch waits five seconds.
    """
    _require_lines(pool, batch_size)
    if workers == 0:
        return line_batches(pool, noise, alphabet, batch_size, np.random.default_rng(seed))
    drawn = _Drawn(pool, noise, alphabet, batch_size, seed)
    loader = DataLoader(drawn, batch_size=None, num_workers=workers, prefetch_factor=4, collate_fn=_as_it_is)
    return (replace(batch, images=batch.images.numpy()) for batch in loader)


def _as_it_is(batch: Any) -> Any:
    return batch


def _tensors(item: Any) -> Iterator[Tensor]:
    """All tensors in a batch of dataclasses and tuples."""
    if isinstance(item, Tensor):
        yield item
    elif is_dataclass(item):
        for field in fields(item):
            yield from _tensors(getattr(item, field.name))
    elif isinstance(item, list | tuple):
        for part in item:
            yield from _tensors(part)


class Prefetch(Generic[Item]):
    """Iterates ``make()`` on a thread, at most ``ahead`` items early; its errors come through.

    When nobody has the iterator any more, or the program ends, so does the thread, with the item that it is making: cut
    off inside torch it would abort a program that has done its work. On a CUDA ``device`` it has a stream of its own:
    on the training's stream each of its waits for a result would last until the whole step queued before it is done.
    """

    def __init__(self, make: Callable[[], Iterator[Item]], ahead: int = 4, device: torch.device | None = None) -> None:
        self._queue: queue.Queue[Item | BaseException] = queue.Queue(ahead)
        self._stream = torch.cuda.Stream(device) if device is not None and device.type == "cuda" else None
        unwanted = threading.Event()
        thread = threading.Thread(target=_fill, args=(make, self._queue, self._stream, unwanted), daemon=True)
        weakref.finalize(self, _end, thread, self._queue, unwanted)  # so the thread must not know this object
        thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        item = self._queue.get()
        if isinstance(item, BaseException):
            self._queue.put(item)  # the thread has ended: whoever asks again gets the same answer
            raise item
        if self._stream is not None:
            for tensor in _tensors(item):
                if tensor.is_cuda:  # its memory must not go back to the thread before this stream is done with it
                    tensor.record_stream(torch.cuda.current_stream(tensor.device))
        return item


def _fill(make: Callable[[], Iterator[Any]], items: queue.Queue[Any], stream: Any, unwanted: threading.Event) -> None:
    """What `Prefetch`'s thread does."""
    try:
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            for item in make():
                if stream is not None:
                    stream.synchronize()
                if unwanted.is_set():
                    return
                items.put(item)
        items.put(StopIteration())
    except BaseException as error:  # handed to the consumer, which raises it
        items.put(error)


def _end(thread: threading.Thread, items: queue.Queue[Any], unwanted: threading.Event) -> None:
    """Waits for the end of `Prefetch`'s thread."""
    unwanted.set()
    while thread.is_alive() and thread is not threading.current_thread():
        with suppress(queue.Empty):
            items.get_nowait()  # it may wait for a place
        thread.join(0.01)
