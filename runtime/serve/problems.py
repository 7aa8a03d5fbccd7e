"""Errors as callers see them: problem details of RFC 9457, without anything of the program's inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


@dataclass(eq=False)
class Problem(Exception):
    """Why a request, or one picture of it, is not served. ``detail`` says what to do; ``kind`` is for programs."""

    status: int
    kind: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The JSON of it."""
        return {
            "type": f"urn:textsr:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }

    def response(self) -> JSONResponse:
        """The answer that tells it."""
        return JSONResponse(self.body(), self.status, self.headers, MEDIA_TYPE)


def failed() -> Problem:
    """What a caller is told of a failure that is not his: nothing but that. The log has the rest."""
    return Problem(500, "failed", "The service failed on this. Its log says more.")


def stopping(retry_after: int) -> Problem:
    """The service is about to end."""
    return Problem(503, "stopping", "The service is stopping: try again.", {"Retry-After": str(retry_after)})
