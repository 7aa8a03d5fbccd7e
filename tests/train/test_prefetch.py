"""Batches made ahead on a thread: errors come through, and the thread is gone when nobody wants them any more."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from train.lines import Prefetch

ROOT = Path(__file__).resolve().parents[2]


def test_items_are_handed_over_then_the_error() -> None:
    def make() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("the disk is gone")

    ahead = Prefetch(make, ahead=1)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="the disk is gone"):
        next(ahead)
    assert list(Prefetch(lambda: iter([1, 2, 3]), ahead=2)) == [1, 2, 3]


def test_the_thread_ends_with_its_iterator() -> None:
    second, ended = threading.Event(), threading.Event()

    def make() -> Iterator[int]:
        try:
            for number in count():
                if number == 2:
                    second.set()  # and waits then, since one more is all there is room for
                yield number
        finally:
            ended.set()

    ahead = Prefetch(make, ahead=1)
    assert next(ahead) == 0
    assert second.wait(10)
    assert not ended.is_set()
    del ahead
    assert ended.wait(10)


def test_a_program_may_end_while_the_thread_is_at_work() -> None:
    """Cut off inside torch, it aborted the program, which had done its work by then."""
    program = (
        "import torch\n"
        "from itertools import count\n"
        "from train.lines import Prefetch\n"
        "ahead = Prefetch(lambda: ([torch.tensor([float(one)]) for one in range(5000)] for _ in count()), ahead=1000)\n"
        "next(ahead)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
