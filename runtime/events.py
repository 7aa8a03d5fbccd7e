"""What a `Restorer` tells of its work through one callback: counts and timings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

logger = logging.getLogger(__name__)

EventKind = Literal["start", "read", "restore", "proofread", "guard", "call", "refused", "cancelled", "failed"]


@dataclass(frozen=True)
class Event:
    """Something that a `Restorer` did, told by ``kind``. ``call`` numbers its calls from 1; ``seconds`` is what the
    thing took.

    - "start": a call of ``lines`` was let in, after ``seconds`` of waiting; "refused": it was not, see `BusyError`.
    - "read": the recogniser read ``lines``.
    - "restore": the network restored ``pieces`` of ``lines`` in one batch on ``executor``.
    - "proofread": it was found out how ``lines`` are best shown, see `runtime.proofreading`.
    - "guard": the guard judged ``lines`` and let ``applied`` through.
    - "call": the call is done: of ``lines``, ``applied`` were restored, in ``pieces``; ``causes`` counts the others by
      `Result.cause`. "failed": it raised; "cancelled": it was told to end.

    ``running`` and ``waiting`` are the calls of the restorer at that time.
    """

    kind: EventKind
    call: int
    lines: int = 0
    pieces: int = 0
    seconds: float = 0.0
    applied: int = 0
    causes: Mapping[str, int] = field(default_factory=dict)
    executor: str = ""
    running: int = 0
    waiting: int = 0


OnEvent = Callable[[Event], None]
"""Called in the thread of the call, so it should be quick and safe from any thread."""


def tell(on_event: OnEvent | None, event: Event) -> None:
    """Calls ``on_event`` with ``event``; what it raises is logged and costs no result."""
    if on_event is None:
        return
    try:
        on_event(event)
    except Exception:  # a caller's code may raise anything
        logger.exception("the callback on_event failed on %s", event)
