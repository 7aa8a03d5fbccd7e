"""The routes: restoring, health, figures, the web page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.pages import Pages
from runtime.serve import handlers
from runtime.serve.guarding import Guarding
from runtime.serve.openapi import PAGE_ROUTE, RESTORE, components
from runtime.serve.opening import OpenPages, OpenRestorer
from runtime.serve.problems import Problem
from runtime.serve.service import Service
from runtime.serve.settings import Settings
from runtime.serve.web import add_web


class App(FastAPI):
    """FastAPI with the schemas of the route whose body the service reads itself."""

    def openapi(self) -> dict[str, Any]:
        """The description; made once."""
        made = super().openapi()
        made.setdefault("components", {}).setdefault("schemas", {}).update(components())
        return made


def create_app(
    open_restorer: OpenRestorer, settings: Settings | None = None, open_pages: OpenPages = Pages
) -> FastAPI:  # fmt: skip
    """The service as an ASGI application; ``app.state.service`` is the `Service`.

    :param open_restorer: called once, in a thread, when the application starts; until it is done `/readyz` says 503.
    :param settings: batching, token and limits; None takes the defaults.
    :param open_pages: called with the restorer; where it raises InputError `/v1/page` says 501.
    """
    service = Service(open_restorer, settings or Settings(), open_pages)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.close()

    app = App(
        title="textsr", version="1", docs_url=None, redoc_url=None, lifespan=lifespan,
        description="Restores pictures of text lines, and of pages: they come back larger, made readable again.",
    )  # fmt: skip
    app.state.service = service
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_middleware(Guarding, service=service)
    _add_routes(app, service)
    add_web(app)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/restore", **RESTORE)
    async def restore(request: Request) -> Response:
        """Restores pictures of text lines, one or many; a picture that cannot be used has its own error."""
        return await handlers.restore(request, service)

    @app.post("/v1/page", **PAGE_ROUTE)
    async def page(request: Request) -> Response:
        """Restores the lines of a page or photo where they are."""
        return await handlers.restore_page(request, service)

    @app.get("/healthz", summary="The process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", summary="The bundle is open and its executor has restored a line", response_model=None)
    async def readyz() -> Response:
        if not service.ready:
            status = "stopping" if service.stopping else "failed" if service.failure else "opening"
            return JSONResponse({"status": status}, 503, {"Retry-After": str(service.settings.retry_after)})
        assert service.opened is not None
        restorer, pages = service.opened.restorer, service.opened.pages is not None
        reader = restorer.reader.name if restorer.reader else None
        told = {"preset": restorer.preset.name, "executor": restorer.executor.name, "reader": reader}
        return JSONResponse({"status": "ready", **told, "guarded": restorer.guard is not None, "pages": pages})

    @app.get("/metrics", summary="Figures for Prometheus", response_model=None)
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)


async def _problem(_: Request, error: Any) -> Response:
    response: Response = error.response()
    return response


async def _http_problem(_: Request, error: Any) -> Response:
    """No such path, no such method: as the other problems look."""
    kind = {404: "not-found", 405: "method"}.get(error.status_code, "request")
    return Problem(error.status_code, kind, str(error.detail), dict(error.headers or {})).response()
