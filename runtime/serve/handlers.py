"""From a request to its answer: what is asked, what was done, as JSON or as a picture."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from runtime.pages import PageResult
from runtime.result import Result
from runtime.serve import answers
from runtime.serve.accept import choose
from runtime.serve.pagework import PageOutcome
from runtime.serve.parse import LINES, PAGE, Asking, Chosen, Item, parse
from runtime.serve.problems import Problem
from runtime.serve.service import Service
from runtime.serve.settings import Limits
from runtime.serve.work import Outcome

Done = TypeVar("Done")
JSON, PNG = "application/json", "image/png"
MOST_TEXT = 400  # characters in a header: the JSON has a page's whole text
LEFT = 499  # nobody reads it: the caller has left


async def restore(request: Request, service: Service) -> Response:
    """Lines: ``POST /v1/restore``."""
    begin = time.perf_counter()
    kind, items, choices = await _asked(request, service, LINES, service.settings.limits)
    if kind == PNG and len(items) > 1:
        raise Problem(406, "not-acceptable", "image/png is for one picture: ask for application/json.")
    found = await _unless_left(request, lambda gone: service.restore(items, choices, gone))
    if found is None:
        return Response(status_code=LEFT)
    if len(found) == 1 and isinstance(found[0], Problem):
        raise found[0]
    if kind == PNG and isinstance(found[0], Outcome):
        return _line_picture(found[0])
    results = [answers.restored(item, outcome) for item, outcome in zip(items, found, strict=True)]
    return JSONResponse({"results": results, "seconds": round(time.perf_counter() - begin, 4)})


async def restore_page(request: Request, service: Service) -> Response:
    """A page: ``POST /v1/page``."""
    begin = time.perf_counter()
    kind, (item,), choices = await _asked(request, service, PAGE, service.settings.limits.of_page())
    found = await _unless_left(request, lambda gone: service.restore_page(item, choices, gone))
    if found is None:
        return Response(status_code=LEFT)
    if kind == PNG:
        return _page_picture(found)

    def answer() -> Response:
        return JSONResponse({**answers.page(item, found), "seconds": round(time.perf_counter() - begin, 4)})

    return await asyncio.to_thread(answer)  # tens of megabytes: others are not kept waiting


async def _asked(
    request: Request, service: Service, asking: Asking[Chosen], limits: Limits
) -> tuple[str, list[Item], Chosen]:
    """Which kind of answer is wanted, pictures, options. Raises Problem where the request cannot be served."""
    kind = choose(request.headers.get("accept"), (JSON, PNG))
    if kind is None:
        raise Problem(406, "not-acceptable", "Answers are application/json or image/png.")
    try:
        async with asyncio.timeout(service.settings.upload_seconds):
            items, choices = await parse(request, asking, limits)
    except TimeoutError as error:
        raise Problem(408, "slow", "The request took too long to arrive.", {"Connection": "close"}) from error
    return kind, items, choices


async def _unless_left(
    request: Request, work: Callable[[Callable[[], Awaitable[None]]], Awaitable[Done]]
) -> Done | None:
    """What the work gives, which is told when the caller has left; None where he has."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    try:
        return await work(gone)
    except asyncio.CancelledError:
        if await request.is_disconnected():
            return None
        raise


def _line_picture(found: Outcome) -> Response:
    """The picture alone; the headers say the least that one must know of it. The text is percent-encoded UTF-8."""
    assert found.result is not None
    result = found.result
    return _picture(found.png, result, {"Confidence": f"{result.confidence:.4f}"})


def _page_picture(found: PageOutcome) -> Response:
    assert found.result is not None
    result = found.result
    placed = sum(line.placed for line in result.lines)
    told = {"Scale": f"{result.scale:g}", "Lines": str(len(result.lines)), "Placed": str(placed)}
    return _picture(found.png, result, told)


def _picture(png: bytes, result: Result | PageResult, more: dict[str, str]) -> Response:
    told = {
        "Applied": "true" if result.applied else "false",
        "Cause": result.cause,
        "Reason": quote(result.reason, safe=" ,;:()"),
        "Text": quote(result.text[:MOST_TEXT]),
        **more,
    }
    headers = {f"X-Textsr-{name}": value for name, value in told.items()}
    return Response(png, media_type=PNG, headers={**headers, "Vary": "Accept"})
