"""What every request passes: who may ask, headers that keep browsers safe, counts, errors in words."""

from __future__ import annotations

import hmac
import logging
import time
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.serve.problems import Problem, failed
from runtime.serve.service import Service
from runtime.serve.web import files

logger = logging.getLogger(__name__)

OPEN = frozenset({*files(), "/healthz", "/readyz"})
"""Paths that need no token: the page holds no secret and asks for the token itself."""
ROUTES = frozenset({*OPEN, "/v1/restore", "/v1/page", "/metrics", "/openapi.json"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}


class Guarding:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = self._headers(message.get("headers", []))
            await send(message)

        try:
            refusal = self._refuse(Request(scope))
            await (refusal.response() if refusal else self._app)(scope, receive, told)
        except Exception:  # the last one to see it: logged, and answered with 500 where nothing was sent yet
            logger.exception("a request failed")
            if not status:
                await failed().response()(scope, receive, told)
        finally:
            path = scope["path"] if scope["path"] in ROUTES else "other"
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._service.metrics.requests.labels(path, method, str(status or 499)).inc()
            self._service.metrics.request_seconds.labels(path).observe(time.perf_counter() - begin)

    def _refuse(self, request: Request) -> Problem | None:
        """Why the caller may not ask; compared in constant time."""
        token = self._service.settings.token
        if token is None or request.url.path in OPEN:
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
            return None
        detail = "This service asks for a token: send the header Authorization: Bearer TOKEN."
        return Problem(401, "token", detail, {"WWW-Authenticate": 'Bearer realm="textsr"'})

    def _headers(self, given: Any) -> list[tuple[bytes, bytes]]:
        """The answer's own headers and those of `HEADERS` that it does not set itself."""
        own = {name.lower() for name, _ in given}
        added = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in own]
        if self._service.stopping:
            added.append((b"connection", b"close"))
        return [*given, *added]
