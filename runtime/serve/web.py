"""The web page at ``/``: files of the package, which need nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from importlib import resources
from pathlib import PurePath

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
INDEX = "index.html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: its own files, which say nothing inline, and the pictures that it makes."""


@cache
def files() -> dict[str, bytes]:
    """The page's files by their paths on the service."""
    found = [file for file in resources.files("runtime.serve").joinpath("web").iterdir() if _kind(file.name)]
    return {"/" if file.name == INDEX else f"/web/{file.name}": file.read_bytes() for file in found}


def _kind(name: str) -> str | None:
    return KINDS.get(PurePath(name).suffix)


def add_web(app: Starlette) -> None:
    """Adds the page's routes."""
    for path, content in files().items():
        app.add_route(path, _giving(content, _kind(path) or KINDS[".html"]), ["GET"], include_in_schema=False)


def _giving(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def give(_: Request) -> Response:
        return Response(content, media_type=kind, headers={"content-security-policy": POLICY})

    return give
