"""What the service allows and how it batches."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from textsr.errors import InputError

TOKEN_VARIABLE = "TEXTSR_TOKEN"
MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds on what a request may ask for.

    ``body``: bytes of a request; ``item``: bytes of one picture's file; ``pixels``: of one picture, known before it is
    decoded (the answer has sixteen times as many); ``items``: pictures in one request; ``queue``: pictures accepted
    and not begun, of all requests together; ``text``: characters a caller may give for one picture.

    A page has its own: ``page`` bytes of its file, ``page_pixels`` of it, ``page_answer`` pixels of what comes back
    (which settles how much it is enlarged), ``pages`` accepted and not begun. They do not take the lines' places.
    """

    body: int = 24 * MIB
    item: int = 4 * MIB
    pixels: int = 1 << 20
    items: int = 32
    queue: int = 128
    text: int = 400
    page: int = 16 * MIB
    page_pixels: int = 1 << 24
    page_answer: int = 1 << 24
    pages: int = 8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise InputError(f"limit {name} must be at least 1, not {value}")
        if self.page_answer < self.page_pixels:
            raise InputError(
                f"limit page_answer must be at least page_pixels, not {self.page_answer} and {self.page_pixels}: "
                "a page comes back no smaller than it came"
            )

    def of_page(self) -> Limits:
        """The limits with those of a page in place of a line's."""
        return replace(self, item=self.page, pixels=self.page_pixels, items=1)


@dataclass(frozen=True)
class Settings:
    """How the service works.

    ``max_batch``: pictures restored at once; ``max_wait``: seconds that the first of them waits for others;
    ``workers``: batches under way at once, ``page_workers``: pages under way beside them; ``token``: what callers must
    send as ``Authorization: Bearer``, None for no such demand; ``retry_after``: seconds that a refused caller is told
    to wait; ``upload_seconds``: how long a request may take to arrive; ``limits``: on what a request may ask for.
    """

    max_batch: int = 8
    max_wait: float = 0.01
    workers: int = 1
    page_workers: int = 1
    token: str | None = field(default=None, repr=False)
    retry_after: int = 1
    upload_seconds: float = 60.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in ("max_batch", "workers", "page_workers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.max_wait <= 10:
            raise InputError(f"max_wait must be from 0 to 10 seconds, not {self.max_wait}")
        if not 0 < self.upload_seconds <= 3600:
            raise InputError(f"upload_seconds must be above 0 and at most 3600, not {self.upload_seconds}")
        if self.token is not None and (len(self.token) < 8 or not self.token.isascii() or not self.token.isprintable()):
            raise InputError("the token needs at least 8 printable ASCII characters")


def find_token(file: Path | None) -> str | None:
    """The token from a file, else from the environment variable TEXTSR_TOKEN, else None; white space around it is
    dropped.

    :raises InputError: the file cannot be read.
    """
    if file is None:
        found = os.environ.get(TOKEN_VARIABLE)
        return None if found is None else found.strip()
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise InputError(f"token file {file}: {reason}") from error
