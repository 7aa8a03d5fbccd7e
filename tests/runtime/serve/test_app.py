"""Around restoring: token, headers, health, limits of the queue, stopping, leaving, the page."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service needs the extra [serve]")

from starlette.testclient import TestClient

from runtime import BundleError, InputError, LineText, Restorer
from runtime.plain import plain
from runtime.serve import Limits, Settings
from runtime.serve.accept import choose
from runtime.serve.app import create_app
from runtime.serve.parse import Item
from runtime.serve.schema import Choices
from runtime.serve.service import Service
from runtime.serve.settings import find_token
from runtime.serve.web import POLICY, files
from tests.runtime.serve.helpers import line, no_pages, post, service_of, serving, slow

TOKEN = "correct horse battery"


def test_the_token_is_asked_for() -> None:
    with serving(settings=Settings(token=TOKEN)) as client:
        for given in (None, "Bearer", "Bearer wrong horse battery", f"Basic {TOKEN}", "Bearer é"):
            headers = {} if given is None else {b"authorization": given.encode("latin-1")}
            answer = client.post("/v1/restore", files={"file": line(0)}, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert TOKEN not in answer.text
        assert client.get("/metrics").status_code == client.get("/openapi.json").status_code == 401
        assert {client.get(path).status_code for path in (*files(), "/healthz", "/readyz")} == {200}
        assert client.post("/v1/page", files={"file": line(0)}).status_code == 401
        right = {"authorization": f"bearer {TOKEN}"}
        assert client.post("/v1/restore", files={"file": line(0)}, headers=right).status_code == 200
    assert TOKEN not in repr(Settings(token=TOKEN))


def test_where_the_token_is_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text(f" {TOKEN}\n")
    monkeypatch.setenv("TEXTSR_TOKEN", "of the environment")
    assert find_token(file) == TOKEN
    assert find_token(None) == "of the environment"
    monkeypatch.delenv("TEXTSR_TOKEN")
    assert find_token(None) is None
    with pytest.raises(InputError, match="No such file"):
        find_token(tmp_path / "none")
    for bad in ("", "short", "tab\tin the token", "schlüssel aus wörtern"):
        with pytest.raises(InputError, match="8 printable"):
            Settings(token=bad)
    for wrong in (
        {"max_batch": 0},
        {"max_wait": -1.0},
        {"max_wait": float("nan")},
        {"workers": 0},
        {"page_workers": 0},
    ):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Settings(**wrong)
    with pytest.raises(InputError, match="queue"):
        Limits(queue=0)
    with pytest.raises(InputError, match="no smaller than it came"):
        Limits(page_pixels=1000, page_answer=999)


def test_headers_and_problems_of_every_answer() -> None:
    with serving() as client:
        for method, path, status in (("GET", "/", 200), ("GET", "/nowhere", 404), ("PUT", "/v1/restore", 405)):
            answer = client.request(method, path)
            assert answer.status_code == status
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
            if status != 200:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["status"] == status
        assert 'route="other"' in client.get("/metrics").text


def test_ready_only_when_open() -> None:
    let = threading.Event()
    _, restorer = slow()

    def open_restorer() -> Restorer:
        assert let.wait(30)
        return restorer

    with TestClient(create_app(open_restorer, open_pages=no_pages)) as client:
        assert client.get("/healthz").json() == {"status": "alive"}
        assert client.get("/readyz").json() == {"status": "opening"}
        early = post(client)
        assert (early.status_code, early.headers["retry-after"]) == (503, "1")
        let.set()


def test_a_bundle_that_cannot_be_opened() -> None:
    def open_restorer() -> Restorer:
        raise BundleError("no such bundle")

    with TestClient(create_app(open_restorer, open_pages=no_pages)) as client:
        while client.get("/readyz").json()["status"] == "opening":
            pass
        assert client.get("/readyz").json() == {"status": "failed"}
        assert "no such bundle" in str(service_of(client).failure)


def test_a_full_queue_and_stopping() -> None:
    executor, restorer = slow()
    settings = Settings(max_batch=1, max_wait=0.0, retry_after=7, limits=Limits(queue=1))
    with serving(restorer, settings) as client, ThreadPoolExecutor(2) as pool:
        service = service_of(client)
        executor.armed.set()
        first = pool.submit(post, client, 0)
        assert executor.begun.wait(30)
        second = pool.submit(post, client, 1)
        while service.metrics.registry.get_sample_value("textsr_queue_length") != 1:
            assert not second.done()
        full = post(client, 2)
        assert (full.status_code, full.headers["retry-after"]) == (429, "7")
        assert full.json()["type"] == "urn:textsr:problem:busy"
        service.stopping = True
        late = post(client, 3)
        assert (late.status_code, late.json()["type"]) == (503, "urn:textsr:problem:stopping")
        assert late.headers["connection"] == "close"
        assert client.get("/readyz").json() == {"status": "stopping"}
        executor.let.set()
        assert [future.result().status_code for future in (first, second)] == [200, 200]


def test_who_leaves_is_not_worked_for() -> None:
    executor, restorer = slow()

    async def scenario() -> None:
        service = Service(lambda: restorer, Settings(max_batch=1, max_wait=0.0), no_pages)
        await service.start()
        while not service.ready:
            await asyncio.sleep(0.001)
        executor.armed.set()
        executor.runs.clear()

        async def stays() -> None:
            await asyncio.Event().wait()

        left = asyncio.Event()
        first = asyncio.create_task(service.restore([Item("a", line(0))], Choices.model_validate({"steps": 1}), stays))
        while not executor.begun.is_set():
            await asyncio.sleep(0.001)
        items = [Item("b", line(1)), Item("c", line(2))]
        second = asyncio.create_task(service.restore(items, Choices.model_validate({"steps": 1}), left.wait))
        while service.metrics.registry.get_sample_value("textsr_queue_length") != 2:
            await asyncio.sleep(0.001)
        left.set()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert service.metrics.registry.get_sample_value("textsr_queue_length") == 0
        executor.let.set()
        assert len(await first) == 1
        await service.close()

    asyncio.run(scenario())
    assert [graph for graph, _ in executor.runs].count("vqgan_encoder") == 1


def test_a_request_that_does_not_arrive() -> None:
    _, restorer = slow()
    sent: list[Any] = []

    async def scenario() -> None:
        app = create_app(lambda: restorer, Settings(upload_seconds=0.05), no_pages)

        async def receive() -> Any:
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/v1/restore", "raw_path": b"/v1/restore", "query_string": b"",
            "headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
        }  # fmt: skip
        await app(scope, receive, send)

    asyncio.run(scenario())
    assert sent[0]["status"] == 408


def test_evidence_as_json_takes_it() -> None:
    found = plain(
        {"a": np.float32(0.5), 1: (np.int64(3), float("nan")), "b": np.array([[True]]), "c": {"x"}, "d": Path("p")}
    )
    assert json.loads(json.dumps(found)) == {"a": 0.5, "1": [3, None], "b": [[True]], "c": ["x"], "d": "p"}
    assert plain(LineText("a", (1.0,))) == {"text": "a", "confidences": [1.0], "centres": None}


def test_openapi_has_the_routes_with_examples_and_no_loose_ends() -> None:
    with serving() as client:
        told = client.get("/openapi.json").json()
    asked = told["paths"]["/v1/restore"]["post"]
    page = told["paths"]["/v1/page"]["post"]
    content = asked["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    assert content["application/json"]["schema"]["example"]["images"][0]["text"] == "Hello 42"
    assert set(asked["responses"]) >= {"200", "400", "401", "406", "413", "415", "422", "429", "503"}
    assert asked["responses"]["200"]["content"]["application/json"]["example"]["results"][0]["applied"] is True
    assert set(page["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert page["responses"]["200"]["content"]["application/json"]["example"]["lines"][0]["placed"] is True
    assert "501" in page["responses"]
    names = set(re.findall(r"#/components/schemas/(\w+)", str(told)))
    assert names
    assert names <= set(told["components"]["schemas"])


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """Its own files, none of them said inline, and no others."""
    told = {path: content.decode() for path, content in files().items()}
    for text in told.values():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|\son\w+=|\sstyle=|@import|url\(", text)
    asked = re.findall(r"(?:src|href)=\"(?!data:,)([^\"]+)", told["/"])
    assert not re.search(r"<script>|<style", told["/"])
    for path, text in told.items():
        asked += [f"web/{name}" for name in re.findall(r"from \"\./([^\"]+)", text) if path.endswith(".js")]
    assert {f"/{name}" for name in asked} == set(told) - {"/"}
    assert "'self'" in POLICY
    assert "unsafe" not in POLICY
    with serving() as client:
        for path, text in told.items():
            answer = client.get(path)
            assert (answer.text, answer.headers["content-security-policy"]) == (text, POLICY)
            assert answer.headers["content-type"].startswith("text/")
        assert client.get("/web/../app.py").status_code == client.get("/web/").status_code == 404


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("image/*", "image/png"),
        ("image/png, */*", "image/png"),
        ("image/png;q=0.5, application/json", "application/json"),
        ("image/png;q=0, */*;q=0.1", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("image/png;q=much", None),
        ("text/html", None),
    ],
)
def test_which_kind_of_answer(accept: str | None, kind: str | None) -> None:
    assert choose(accept, ("application/json", "image/png")) == kind
