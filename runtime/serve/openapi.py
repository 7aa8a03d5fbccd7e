"""What OpenAPI says of ``POST /v1/restore``, whose body the service reads itself."""

from __future__ import annotations

from typing import Any

from runtime.serve.schema import Choices, ProblemBody, RestoreAnswer, RestoreRequest

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


RESTORE: dict[str, Any] = {
    "response_model": None,
    "summary": "Restore pictures of text lines",
    "responses": {
        200: {
            "description": "One result a picture, in order. With `Accept: image/png` the picture, for one item.",
            "content": {
                "application/json": {
                    "schema": RestoreAnswer.model_json_schema(ref_template="#/components/schemas/{model}"),
                    "example": EXAMPLE,
                },
                "image/png": {"schema": {"type": "string", "format": "binary"}},
            },
        },
        **{status: _problem(detail) for status, detail in PROBLEMS.items()},
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": FORM},
                "application/json": {
                    "schema": RestoreRequest.model_json_schema(ref_template="#/components/schemas/{model}")
                },
            },
        }
    },
}
"""Keyword arguments of the route."""


def components() -> dict[str, Any]:
    """The schemas that `RESTORE` refers to."""
    found: dict[str, Any] = {}
    for model in (RestoreAnswer, RestoreRequest):
        found |= model.model_json_schema(ref_template="#/components/schemas/{model}").get("$defs", {})
    return found
