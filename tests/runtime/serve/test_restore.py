"""Restoring over HTTP: what comes back, batches, errors of one and of all."""

from __future__ import annotations

import base64
import io
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the service needs the extra [serve]")

from runtime import Gate, Restorer
from runtime.serve import Limits, Settings
from tests.runtime.helpers import KnowingReader, StubExecutor, draw_line, stub_bundle, stub_restorer
from tests.runtime.serve.helpers import Client, line, pixels, png, service_of, serving, slow
from textsr.images import decode_image

PROBLEM = "application/problem+json"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ask(client: Client, *pictures: bytes, **choices: Any) -> Any:
    body = {"images": [{"image": b64(data)} for data in pictures], **choices}
    return client.post("/v1/restore", json=body)


def test_json_and_form_give_what_the_restorer_gives() -> None:
    restorer = stub_restorer(KnowingReader())
    alone = restorer([decode_image(line(0))], seed=3, steps=2, strength=0.6, paint=0.5)[0]
    how = {"seed": 3, "steps": 2, "strength": 0.6, "paint": 0.5}
    with serving(restorer) as client:
        first = ask(client, line(0), **how, reread=True, show_input=True).json()["results"][0]
        words = {name: str(value) for name, value in how.items()} | {"text": "Hello 42"}
        form = client.post("/v1/restore", files=[("file", ("a.png", line(0)))], data=words)
        second = form.json()["results"][0]
    assert (pixels(base64.b64decode(first["image"])) == alone.image).all()
    assert (first["width"], first["height"]) == alone.image.shape[1::-1]
    assert (first["strength"], first["paint"]) == (0.6, 0.5)
    assert (first["text"], first["applied"], first["cause"], first["seed"], first["steps"]) == (
        "Hello 42",
        True,
        "",
        3,
        2,
    )
    assert first["after"] == {"text": "Hello 42", "confidence": 0.9, "confidences": [0.9] * 8}
    assert (pixels(base64.b64decode(first["input"])) == decode_image(line(0))).all()
    assert set(first["timings"]) == {"read", "restore", "finish"}
    assert (second["name"], second["reader"], second["after"], second["input"]) == ("a.png", "given", None, None)


def test_an_upload_never_touches_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file was opened")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)  # what a SpooledTemporaryFile grows into
    noise = np.random.default_rng(0).integers(0, 255, (500, 800, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "BMP")  # 1.2 MB
    with serving(stub_restorer(KnowingReader())) as client:
        answer = client.post("/v1/restore", files=[("file", ("a.bmp", stream.getvalue()))], data={"steps": "1"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["name"] == "a.bmp"


def test_a_picture_alone_with_its_evidence_in_the_headers() -> None:
    with serving(stub_restorer(KnowingReader("Grüße 世"))) as client:
        answer = client.post("/v1/restore", files={"file": line(1)}, headers={"accept": "image/png"})
        blank = client.post(
            "/v1/restore", files={"file": png(np.full((20, 60, 3), 9, np.uint8))}, headers={"accept": "image/*"}
        )
    assert answer.headers["content-type"] == "image/png"
    assert pixels(answer.content).shape[0] == 4 * 21
    assert unquote(answer.headers["x-textsr-text"]) == "Grüße 世"
    assert answer.headers["x-textsr-applied"] == "true"
    assert (blank.headers["x-textsr-applied"], blank.headers["x-textsr-cause"]) == ("false", "blank")


def test_one_items_failure_is_its_own() -> None:
    damaged = line(1)[:-40]
    wide = png(np.zeros((40, 400, 3), np.uint8))
    settings = Settings(max_wait=0.0, limits=Limits(pixels=12000))
    with serving(settings=settings) as client:
        body = {
            "images": [
                {"image": b64(line(0)), "name": "good"},
                {"image": "no base64!"},
                {"image": b64(b"hello")},
                {"image": b64(damaged)},
                {"image": b64(wide)},
                {"image": b64(line(2)), "text": "abc", "confidences": [1, 1]},
                {"image": b64(line(2)), "name": "also good"},
            ]
        }
        answer = client.post("/v1/restore", json=body)
    found = answer.json()["results"]
    assert answer.status_code == 200
    assert [entry.get("error", {}).get("status") for entry in found] == [None, 422, 415, 422, 413, 422, None]
    assert [entry["name"] for entry in found if not entry.get("error")] == ["good", "also good"]
    assert "cut short" in found[3]["error"]["detail"]
    assert "400 x 40 pixels" in found[4]["error"]["detail"]


def test_requests_that_come_together_are_batched_and_get_their_own_results() -> None:
    executor, restorer = slow()
    plain = stub_restorer(KnowingReader("a"))
    expected = [plain([decode_image(line(place))], seed=5, steps=2)[0].image for place in range(6)]
    with serving(restorer) as client, ThreadPoolExecutor(6) as pool:
        executor.armed.set()
        asked = [pool.submit(ask, client, line(0), seed=5, steps=2)]
        assert executor.begun.wait(30)  # the first is held until all are in
        asked += [pool.submit(ask, client, line(place), seed=5, steps=2) for place in range(1, 6)]
        while service_of(client).metrics.registry.get_sample_value("textsr_queue_length") != 5:
            assert not asked[0].done()
        executor.let.set()
        answers = [future.result() for future in asked]
        metrics = client.get("/metrics").text
    for answer, picture in zip(answers, expected, strict=True):
        assert (pixels(base64.b64decode(answer.json()["results"][0]["image"])) == picture).all()
    assert 'textsr_batch_lines_bucket{le="4.0"} 1.0' in metrics  # the one that was held,
    assert "textsr_batch_lines_count 2.0" in metrics  # then the other five together
    assert 'textsr_lines_total{cause="applied"} 6.0' in metrics
    assert 'textsr_requests_total{method="POST",route="/v1/restore",status="200"} 6.0' in metrics
    assert 'textsr_stage_seconds_count{stage="call"} 2.0' in metrics


def test_a_batch_that_fails_is_tried_one_by_one() -> None:
    class Fussy(StubExecutor):
        """Fails where a batch holds the dark line."""

        def vqgan_encoder(self, image: Any, noise: Any, constants: Any) -> dict[str, Any]:
            if (image.mean(axis=(1, 2, 3)) < -0.5).any():
                raise RuntimeError("/secret/path failed")
            return super().vqgan_encoder(image, noise, constants)

    dark = draw_line() // 8
    restorer = Restorer(stub_bundle(), Fussy(), KnowingReader("a"))
    with serving(restorer) as client:
        answer = ask(client, line(0), png(dark), line(1))
        alone = ask(client, png(dark))
    errors = [entry.get("error", {}).get("status") for entry in answer.json()["results"]]
    assert errors == [None, 500, None]
    assert alone.status_code == 500
    assert alone.headers["content-type"] == PROBLEM
    assert "secret" not in alone.text + answer.text


def test_what_is_over_time_comes_back_as_it_was() -> None:
    with serving() as client:
        found = ask(client, line(0), deadline_ms=1e-3).json()["results"][0]
    assert (found["applied"], found["cause"]) == (False, "deadline")
    assert found["width"] > 0


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"{", 400, "malformed"),
        (b"[" * 100000, 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (b"[]", 422, "invalid"),
        (b'{"images": []}', 422, "invalid"),
        (b'{"images": [{"image": 3}]}', 422, "invalid"),
        (b'{"images": [{"image": "", "txt": "a"}]}', 422, "invalid"),
        (b'{"images": [{"image": ""}]}', 422, "empty"),
        (b'{"images": [{"image": "aGVsbG8="}]}', 415, "not-a-picture"),
        (b'{"images": [{"image": "aGVsbG8="}, {"image": "aGVsbG8="}, {"image": "aGVsbG8="}]}', 413, "too-many-items"),
        (b'{"images": [{"image": "' + b"A" * 3000 + b'"}]}', 413, "body-too-large"),
        (b'{"images": [{"image": "' + b"A" * 1200 + b'"}]}', 413, "file-too-large"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(body: bytes, status: int, kind: str) -> None:
    limits = Limits(body=200_000 if len(body) > 50_000 else 2000, item=800, items=2)
    with serving(settings=Settings(limits=limits)) as client:
        answer = client.post("/v1/restore", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:textsr:problem:{kind}")
    assert answer.headers["content-type"] == PROBLEM
    assert set(answer.json()) == {"type", "title", "status", "detail"}


def test_forms_that_are_wrong() -> None:
    with serving(settings=Settings(limits=Limits(items=2, body=20_000))) as client:

        def send(**form: Any) -> tuple[int, str]:
            answer = client.post("/v1/restore", **form)
            return answer.status_code, answer.json()["type"].split(":")[-1]

        assert send(files={"other": line(0)}) == (422, "unknown-field")
        assert send(files={"file": line(0)}, data={"seed": "x"}) == (422, "invalid")
        assert send(files={"file": line(0)}, data={"steps": "1000"}) == (422, "invalid")
        assert send(files={"file": line(0)}, data={"sead": "1"}) == (422, "invalid")
        assert send(files={"file": line(0)}, data={"text": ["a", "b"]}) == (422, "texts")
        assert send(files=[("file", line(0))] * 3) == (413, "too-many-items")
        assert send(files={"file": b"x" * 30_000}) == (413, "body-too-large")
        assert send(content=b"x", headers={"content-type": "multipart/form-data"}) == (400, "malformed")
        assert send(content=b"x", headers={"content-type": "text/plain"}) == (415, "media-type")
        assert send(content=b"x") == (415, "media-type")
        png_only = {"accept": "image/png"}
        assert send(files=[("file", line(0))] * 2, headers=png_only) == (406, "not-acceptable")
        assert send(files={"file": line(0)}, headers={"accept": "text/html"}) == (406, "not-acceptable")


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    Image.new("1", (9000, 9000)).save(stream, format="PNG")
    monkeypatch.setattr("runtime.serve.work.decode_image", lambda data: pytest.fail("was decoded"))
    with serving() as client:
        answer = ask(client, stream.getvalue())
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:textsr:problem:too-many-pixels")


def test_the_tiny_bundle_gives_the_same_whatever_the_batch(tiny_bundle: Path) -> None:
    restorer = Restorer.open(tiny_bundle, "cpu", threads=1, read_text=False)
    alone = restorer([decode_image(line(2))], seed=7, steps=1, gate=Gate())[0]
    with serving(restorer) as client:
        answer = ask(client, line(0), line(1), line(2), seed=7, steps=1).json()["results"]
        single = ask(client, line(2), seed=7, steps=1).json()["results"]
        ready = client.get("/readyz").json()
    assert ready["preset"] == "tiny"
    assert all(entry["applied"] for entry in answer)
    assert (pixels(base64.b64decode(single[0]["image"])) == alone.image).all()
    together = pixels(base64.b64decode(answer[2]["image"])).astype(int)
    assert np.abs(together - alone.image).max() <= 1
