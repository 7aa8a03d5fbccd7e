"""The service on odd pictures, texts, names and numbers: a problem of that picture or request, never a failure."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra [serve]")

from tests import odd_pictures
from tests.runtime.serve.helpers import line, serving


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_every_odd_picture() -> None:
    refused, read, every = odd_pictures.refused(), odd_pictures.read(), odd_pictures.every()
    with serving() as client:
        for names, wanted in ((list(refused), "error"), (list(read), "image")):
            for start in range(0, len(names), 10):
                part = names[start : start + 10]
                body = {"images": [{"image": b64(every[name])} for name in part]}
                answer = client.post("/v1/restore", json=body)
                assert answer.status_code == 200
                for name, result in zip(part, answer.json()["results"], strict=True):
                    assert result.get(wanted), name
                    assert wanted == "image" or result["error"]["status"] in (413, 415, 422), name


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"text": "a\ud800"}, 422),
        ({"name": "a\ud800"}, 422),
        ({"text": "ab", "confidences": [1]}, 422),
        ({"text": "a", "confidences": [float("nan")]}, 422),
        ({"text": "a\0b"}, 200),
        ({"text": "x" * 401}, 422),
        ({"text": "👩‍👩‍👧 e\u0301 龘"}, 200),
        ({"name": "\x1b[2J\n"}, 200),
        ({"text": 5}, 422),
        ({"confidences": [1]}, 422),
    ],
    ids=repr,
)
def test_texts_and_names(more: dict[str, Any], status: int) -> None:
    body = json.dumps({"images": [{"image": b64(line(0)), **more}]})
    with serving() as client:
        answer = client.post("/v1/restore", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "number",
    [
        '"deadline_ms": Infinity',
        '"deadline_ms": 1e300',
        '"deadline_ms": NaN',
        '"scale": NaN',
        '"scale": -1',
        '"seed": 1e30',
        '"seed": ' + "9" * 5000,
        '"steps": 1e9',
        '"paint": 2.5',
        '"batch_size": 1',
        '"\\ud800": 1',
    ],
    ids=lambda number: number[:20],
)
def test_numbers_out_of_reason(number: str) -> None:
    body = f'{{"images": [{{"image": "{b64(line(0))}"}}], {number}}}'
    with serving() as client:
        answer = client.post("/v1/restore", content=body.encode(), headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("charset", ["unicode_escape", "utf-7", "idna", "undefined", "zip", "\xff"])
def test_a_form_in_another_codec_is_refused(charset: str) -> None:
    with serving() as client:
        answer = client.post("/v1/restore", content=form(b"\\ud800"), headers=kind(f"; charset={charset}"))
        named = client.post("/v1/restore", content=form(b"\xff"), headers=kind("; charset=UTF-8"))
    assert (answer.status_code, answer.json()["type"]) == (415, "urn:textsr:problem:media-type")
    assert named.status_code == 200


def kind(more: str) -> dict[bytes, bytes]:
    return {b"content-type": f"multipart/form-data; boundary=x{more}".encode("latin-1")}


def form(name: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
    return head + line(0) + b"\r\n--x--\r\n"
