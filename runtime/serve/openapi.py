"""What OpenAPI says of the routes whose bodies the service reads itself."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from runtime.serve.schema import (
    Choices,
    PageAnswer,
    PageChoices,
    PageRequest,
    ProblemBody,
    RestoreAnswer,
    RestoreRequest,
)

FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "One or more pictures: PNG, JPEG, WebP, BMP or TIFF.",
        },
        "text": {
            "type": "array",
            "items": {"type": "string"},
            "description": "What each says, in the same order; leave it out to have it read.",
        },
        **Choices.model_json_schema()["properties"],
    },
}
PAGE_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "A page: PNG, JPEG, WebP, BMP or TIFF."},
        **PageChoices.model_json_schema()["properties"],
    },
}
EXAMPLE: dict[str, Any] = {
    "results": [
        {
            "name": "line.png", "image": "iVBORw0KGgo...", "width": 512, "height": 128, "applied": True, "cause": "",
            "reason": "", "text": "Hello 42", "confidence": 0.97,
            "confidences": [0.99, 0.98, 0.97, 0.99, 0.98, 0.9, 0.97, 0.98],
            "timings": {"read": 0.01, "restore": 0.2, "finish": 0.002}, "executor": "onnxruntime cpu",
        },
        {
            "name": "notes.txt", "cause": "input",
            "error": {
                "type": "urn:textsr:problem:not-a-picture", "title": "Unsupported Media Type", "status": 415,
                "detail": "The file is no picture in a known format (PNG, JPEG, WEBP, BMP, DIB, TIFF).",
            },
        },
    ],
    "seconds": 0.23,
}  # fmt: skip
PAGE_EXAMPLE: dict[str, Any] = {
    "name": "sign.jpg", "image": "iVBORw0KGgo...", "width": 2560, "height": 1920, "scale": 4.0, "applied": True,
    "cause": "", "reason": "1 of 2 lines are only enlarged: sharp 1", "text": "Hello 42\nOpen",
    "lines": [
        {
            "box": [[12.0, 8.0], [140.0, 10.0], [139.5, 34.0], [11.5, 32.0]], "placed": True, "applied": True,
            "cause": "", "reason": "", "text": "Hello 42", "confidence": 0.81,
            "after": {"text": "Hello 42", "confidence": 0.97, "confidences": []}, "evidence": {"agreement": 1.0},
        },
        {
            "box": [[12.0, 60.0], [160.0, 60.0], [160.0, 120.0], [12.0, 120.0]], "placed": False, "applied": False,
            "cause": "sharp", "reason": "sharper than what restoring would give back", "text": "Open",
            "confidence": 0.99, "after": None, "evidence": {},
        },
    ],
    "timings": {"detect": 0.4, "restore": 0.3, "read": 0.0, "place": 0.1}, "seconds": 1.1,
}  # fmt: skip
PROBLEMS = {
    400: "The body is no JSON or form.",
    401: "The token is missing or wrong.",
    406: "No such kind of answer, or a picture was asked for several.",
    408: "The request took too long to arrive.",
    413: "Too many bytes, pixels or pictures.",
    415: "No such kind of request, or the only file is no picture.",
    422: "A field is wrong, or the only picture cannot be used.",
    429: "Too much is waiting: try again after Retry-After seconds.",
    503: "Not ready yet, or stopping.",
}


def _problem(detail: str) -> dict[str, Any]:
    return {"description": detail, "content": {"application/problem+json": {"schema": ProblemBody.model_json_schema()}}}


def _refer(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(ref_template="#/components/schemas/{model}")


def _route(
    summary: str, gives: str, answer: type[BaseModel], example: Any, form: dict[str, Any], asks: type[BaseModel],
    problems: dict[int, str],
) -> dict[str, Any]:  # fmt: skip
    """Keyword arguments of a route."""
    found = {
        "description": gives,
        "content": {
            "application/json": {"schema": _refer(answer), "example": example},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
        },
    }
    body = {"multipart/form-data": {"schema": form}, "application/json": {"schema": _refer(asks)}}
    return {
        "response_model": None,
        "summary": summary,
        "responses": {200: found, **{status: _problem(detail) for status, detail in problems.items()}},
        "openapi_extra": {"requestBody": {"required": True, "content": body}},
    }


RESTORE = _route(
    "Restore pictures of text lines",
    "One result a picture, in order. With `Accept: image/png` the picture, for one item.",
    RestoreAnswer, EXAMPLE, FORM, RestoreRequest, PROBLEMS,
)  # fmt: skip
PAGE_ROUTE = _route(
    "Restore the lines of a page or photo",
    "The page with the lines that could be restored, and what became of each. With `Accept: image/png` the picture.",
    PageAnswer, PAGE_EXAMPLE, PAGE_FORM, PageRequest,
    {**PROBLEMS, 501: "This service takes lines only: what finds the lines of a page is not installed."},
)  # fmt: skip


def components() -> dict[str, Any]:
    """The schemas that the routes refer to."""
    found: dict[str, Any] = {}
    for model in (RestoreAnswer, RestoreRequest, PageAnswer, PageRequest):
        found |= _refer(model).get("$defs", {})
    return found
