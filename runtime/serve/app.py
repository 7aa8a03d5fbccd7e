"""The routes: restoring, health, figures, the web page."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from runtime.serve.accept import choose
from runtime.serve.guarding import Guarding
from runtime.serve.openapi import RESTORE, components
from runtime.serve.parse import parse
from runtime.serve.problems import Problem
from runtime.serve.service import OpenRestorer, Service, record
from runtime.serve.settings import Settings
from runtime.serve.work import Outcome

JSON, PNG = "application/json", "image/png"
LEFT = 499  # nobody reads it: the caller has left


@cache
def page() -> tuple[str, str]:
    """The web page and the policy that allows its own script and style, by their digests, and nothing else."""
    html = resources.files("runtime.serve").joinpath("page.html").read_text(encoding="utf-8")
    digests = {}
    for tag in ("script", "style"):
        found = re.search(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        inside = found.group(1) if found else ""
        digests[tag] = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digests['script']}'; style-src 'sha256-{digests['style']}'; "
        "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy


class App(FastAPI):
    """FastAPI with the schemas of the route whose body the service reads itself."""

    def openapi(self) -> dict[str, Any]:
        """The description; made once."""
        made = super().openapi()
        made.setdefault("components", {}).setdefault("schemas", {}).update(components())
        return made


def create_app(open_restorer: OpenRestorer, settings: Settings | None = None) -> FastAPI:
    """The service as an ASGI application; ``app.state.service`` is the `Service`.

    :param open_restorer: called once, in a thread, when the application starts; until it is done `/readyz` says 503.
    :param settings: batching, token and limits; None takes the defaults.
    """
    service = Service(open_restorer, settings or Settings())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.close()

    app = App(
        title="textsr", version="1", docs_url=None, redoc_url=None, lifespan=lifespan,
        description="Restores pictures of text lines: each comes back four times as large, made readable again.",
    )  # fmt: skip
    app.state.service = service
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_middleware(Guarding, service=service)
    _add_routes(app, service)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/restore", **RESTORE)
    async def restore(request: Request) -> Response:
        """Restores pictures of text lines, one or many; a picture that cannot be used has its own error."""
        return await _restore(request, service)

    @app.get("/healthz", summary="The process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="The bundle is open and its executor has restored a line", response_model=None)
    async def readyz() -> Response:
        if not service.ready:
            status = "stopping" if service.stopping else "failed" if service.failure else "opening"
            return JSONResponse({"status": status}, 503, {"Retry-After": str(service.settings.retry_after)})
        assert service.restorer is not None
        restorer = service.restorer
        reader = restorer.reader.name if restorer.reader else None
        told = {"preset": restorer.preset.name, "executor": restorer.executor.name, "reader": reader}
        return JSONResponse({"status": "ready", **told, "guarded": restorer.guard is not None})

    @app.get("/metrics", summary="Figures for Prometheus", response_model=None)
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False, response_model=None)
    async def front() -> Response:
        html, policy = page()
        return HTMLResponse(html, headers={"content-security-policy": policy})


async def _restore(request: Request, service: Service) -> Response:
    begin = time.perf_counter()
    kind = choose(request.headers.get("accept"), (JSON, PNG))
    if kind is None:
        raise Problem(406, "not-acceptable", "Answers are application/json or image/png.")
    try:
        async with asyncio.timeout(service.settings.upload_seconds):
            items, choices = await parse(request, service.settings.limits)
    except TimeoutError as error:
        raise Problem(408, "slow", "The request took too long to arrive.", {"Connection": "close"}) from error
    if kind == PNG and len(items) > 1:
        raise Problem(406, "not-acceptable", "image/png is for one picture: ask for application/json.")

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    try:
        found = await service.restore(items, choices, gone)
    except asyncio.CancelledError:
        if await request.is_disconnected():
            return Response(status_code=LEFT)
        raise
    if len(found) == 1 and isinstance(found[0], Problem):
        raise found[0]
    if kind == PNG and isinstance(found[0], Outcome):
        return _picture(found[0])
    results = [record(item, outcome) for item, outcome in zip(items, found, strict=True)]
    return JSONResponse({"results": results, "seconds": round(time.perf_counter() - begin, 4)})


def _picture(found: Outcome) -> Response:
    """The picture alone; the headers say the least that one must know of it. The text is percent-encoded UTF-8."""
    assert found.result is not None
    result = found.result
    headers = {
        "X-Textsr-Applied": "true" if result.applied else "false",
        "X-Textsr-Cause": result.cause,
        "X-Textsr-Reason": quote(result.reason, safe=" ,;:()"),
        "X-Textsr-Text": quote(result.text),
        "X-Textsr-Confidence": f"{result.confidence:.4f}",
        "Vary": "Accept",
    }
    return Response(found.png, media_type=PNG, headers=headers)


async def _problem(_: Request, error: Any) -> Response:
    response: Response = error.response()
    return response


async def _http_problem(_: Request, error: Any) -> Response:
    """No such path, no such method: as the other problems look."""
    kind = {404: "not-found", 405: "method"}.get(error.status_code, "request")
    return Problem(error.status_code, kind, str(error.detail), dict(error.headers or {})).response()
