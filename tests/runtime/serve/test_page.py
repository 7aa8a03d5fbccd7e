"""Pages over HTTP: what comes back, their own limits and queue, and that they keep no line waiting."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("fastapi", reason="the service needs the extra [serve]")

from runtime import EngineError, Gate
from runtime.pages import PageOptions, Pages
from runtime.serve import Limits, Settings
from runtime.serve.parse import Item
from runtime.serve.schema import PageAnswer, PageChoices
from runtime.serve.service import Service
from tests.runtime.helpers import KnowingReader, stub_restorer
from tests.runtime.serve.helpers import (
    PLACES,
    Knowing,
    draw_page,
    line,
    pixels,
    png,
    post,
    service_of,
    serving,
    slow,
)


def send(client: Any, picture: bytes | None = None, headers: dict[str, str] | None = None, **data: str) -> Any:
    return client.post("/v1/page", files={"file": ("p.png", picture or png(draw_page()))}, data=data, headers=headers)


class Held:
    """A detector that finds lines only when let."""

    def __init__(self) -> None:
        self.begun, self.let = threading.Event(), threading.Event()

    def detect(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        self.begun.set()
        assert self.let.wait(30)
        return Knowing().detect(image)


def figure(client: Any, name: str, **labels: str) -> float | None:
    found: float | None = service_of(client).metrics.registry.get_sample_value(name, labels)
    return found


def test_json_and_form_give_what_pages_give() -> None:
    restorer, page = stub_restorer(KnowingReader()), draw_page()
    alone = Pages(restorer, Knowing())(page, PageOptions(2.0), seed=3, steps=2)
    body = {"image": base64.b64encode(png(page)).decode(), "name": "a", "seed": 3, "steps": 2, "scale": 2}
    with serving(restorer, detector=Knowing()) as client:
        first = client.post("/v1/page", json={**body, "show_input": True}).json()
        second = send(client, seed="3", steps="2", scale="2").json()
        ready = client.get("/readyz").json()
        metrics = client.get("/metrics").text
    assert ready["pages"] is True
    assert (pixels(base64.b64decode(first["image"])) == alone.image).all()
    assert (pixels(base64.b64decode(first["input"])) == page).all()
    assert (first["width"], first["height"], first["scale"], first["name"]) == (600, 300, 2.0, "a")
    assert (second["image"], second["input"], second["name"]) == (first["image"], None, "p.png")
    assert (first["applied"], first["text"]) == (True, "Hello 42\nHello 42\nHello 42")
    assert [tuple(told["box"][0]) for told in first["lines"]] == list(PLACES)
    for told, known in zip(first["lines"], alone.lines, strict=True):
        assert (told["text"], told["applied"], told["placed"]) == ("Hello 42", True, known.placed)
        assert told["after"] == {"text": "Hello 42", "confidence": 0.9, "confidences": []}
        assert (told["seed"], told["steps"]) == (3, 2)
    assert set(first) == set(PageAnswer.model_fields)
    assert PageAnswer.model_validate(first).lines[0].reader == "knowing"
    assert 'textsr_pages_total{cause="applied"} 2.0' in metrics
    assert 'textsr_lines_total{cause="applied"} 6.0' in metrics
    assert 'textsr_page_seconds_count{stage="detect"} 2.0' in metrics
    assert 'textsr_requests_total{method="POST",route="/v1/page",status="200"} 2.0' in metrics
    assert "textsr_batch_lines_count 0.0" in metrics  # those are the queue's for lines


def test_a_page_as_a_picture_and_pages_without_text() -> None:
    class Blind:
        def detect(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
            return []

    wanted = {"accept": "image/png"}
    with serving(stub_restorer(KnowingReader("Grüße 世")), detector=Knowing()) as client:
        answer = send(client, headers=wanted)
    assert pixels(answer.content).shape == (600, 1200, 3)
    told = {name: answer.headers[f"x-textsr-{name}"] for name in ("applied", "cause", "scale", "lines", "placed")}
    assert told == {"applied": "true", "cause": "", "scale": "4", "lines": "3", "placed": "3"}
    assert unquote(answer.headers["x-textsr-text"]).splitlines()[0] == "Grüße 世"
    with serving(detector=Blind()) as client:
        empty = send(client).json()
        assert (empty["lines"], empty["applied"], empty["cause"]) == ([], False, "no_text")
        assert figure(client, "textsr_pages_total", cause="no_text") == 1


def test_what_is_wrong_with_a_page_is_said() -> None:
    limits = Limits(page=6000, page_pixels=50_000, page_answer=50_000, pixels=10_000, body=20_000)
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    with serving(settings=Settings(limits=limits), detector=Knowing()) as client:

        def told(answer: Any) -> tuple[int, str]:
            return answer.status_code, answer.json()["type"].split(":")[-1]

        good = send(client)
        assert (good.status_code, good.json()["scale"]) == (200, 1.05)  # as large as the limit lets it be
        assert "1.05 times" in good.json()["reason"]
        assert told(send(client, scale="2")) == (422, "unusable")
        assert told(send(client, scale="5")) == told(send(client, steps="1000")) == (422, "invalid")
        assert told(send(client, text="abc")) == told(send(client, reread="true")) == (422, "invalid")
        assert told(send(client, png(np.zeros((200, 300, 3), np.uint8)))) == (413, "too-many-pixels")
        assert told(send(client, png(noise))) == (413, "file-too-large")
        assert told(send(client, b"x" * 30_000)) == (413, "body-too-large")
        assert told(send(client, b"hello")) == (415, "not-a-picture")
        assert told(send(client, png(draw_page())[:-60])) == (422, "unusable")
        assert told(send(client, headers={"accept": "text/html"})) == (406, "not-acceptable")
        two = [("file", png(draw_page()))] * 2
        assert told(client.post("/v1/page", files=two)) == (413, "too-many-items")
        assert told(client.post("/v1/page", json={"images": []})) == (422, "invalid")
        assert told(client.post("/v1/page", json={"image": "no base64!"})) == (422, "not-base64")
        assert figure(client, "textsr_pages_total", cause="input") == 2


def test_without_a_detector_there_are_no_pages() -> None:
    with serving() as client:
        answer = send(client)
        assert (answer.status_code, answer.json()["type"]) == (501, "urn:textsr:problem:no-pages")
        assert "[ocr]" in answer.json()["detail"]
        assert client.get("/readyz").json()["pages"] is False
        assert post(client).status_code == 200


def test_a_page_that_fails_tells_nothing_of_the_inside() -> None:
    class Failing:
        def detect(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
            raise EngineError("/secret/path failed")

    with serving(detector=Failing()) as client:
        answer = send(client)
        assert (answer.status_code, answer.json()["type"]) == (500, "urn:textsr:problem:failed")
        assert "secret" not in answer.text
        assert post(client).status_code == 200


def test_what_is_over_time_is_only_enlarged() -> None:
    with serving(detector=Knowing()) as client:
        answer = send(client, deadline_ms="0.001").json()
    assert (answer["cause"], {told["cause"] for told in answer["lines"]}) == ("deadline", {"deadline"})


def test_pages_have_places_of_their_own_and_lines_go_past_them() -> None:
    detector = Held()
    settings = Settings(max_wait=0.0, retry_after=7, limits=Limits(queue=1, pages=1))
    with serving(settings=settings, detector=detector) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(send, client)
        assert detector.begun.wait(30)
        second = pool.submit(send, client)
        while figure(client, "textsr_page_queue_length") != 1:
            assert not second.done()
        full = send(client)
        assert (full.status_code, full.headers["retry-after"]) == (429, "7")
        assert post(client).status_code == 200  # a line, though one page is under way and their queue is full
        service = service_of(client)
        service.stopping = True
        assert send(client).json()["type"] == "urn:textsr:problem:stopping"
        detector.let.set()
        assert [future.result().status_code for future in (first, second)] == [200, 200]


@pytest.mark.parametrize("stop", [False, True])
def test_a_page_whose_caller_leaves_ends_and_stopping_finishes_the_rest(stop: bool) -> None:
    executor, restorer = slow()

    async def scenario() -> None:
        settings = Settings(max_wait=0.0, limits=Limits(pages=2))
        service = Service(lambda: restorer, settings, lambda opened: Pages(opened, Knowing()))
        await service.start()
        while not service.ready:
            await asyncio.sleep(0.001)
        executor.armed.set()
        executor.runs.clear()
        left, stays = asyncio.Event(), asyncio.Event()
        item, choices = Item("p", png(draw_page())), PageChoices.model_validate({"steps": 4})
        under_way = asyncio.create_task(service.restore_page(item, choices, left.wait))
        while not executor.begun.is_set():
            await asyncio.sleep(0.001)
        waiting = asyncio.create_task(service.restore_page(item, choices, left.wait))
        kept = asyncio.create_task(service.restore_page(item, choices, stays.wait))
        while service.metrics.registry.get_sample_value("textsr_page_queue_length") != 2:
            await asyncio.sleep(0.001)
        left.set()
        for task in (under_way, waiting):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert service.metrics.registry.get_sample_value("textsr_page_queue_length") == 1
        stopping = asyncio.create_task(service.stop()) if stop else None
        await asyncio.sleep(0)
        executor.let.set()
        found = await kept
        assert found.result is not None
        assert found.result.applied
        if stopping is not None:
            await stopping
        await service.close()

    asyncio.run(scenario())
    ran = [graph for graph, _ in executor.runs]
    assert ran.count("vqgan_decoder") == 1, "the page that was left was restored to its end"
    assert ran.count("unet_step") < 8


def test_a_page_and_lines_at_the_same_time_give_what_they_give_alone() -> None:
    restorer = stub_restorer(KnowingReader("a"))
    page = draw_page()
    alone = Pages(restorer, Knowing())(page, seed=1, steps=2).image
    single = restorer([pixels(line(0))], seed=0, steps=1, gate=Gate())[0].image
    with serving(restorer, detector=Knowing()) as client, ThreadPoolExecutor(4) as pool:
        pages = [pool.submit(send, client, seed="1", steps="2") for _ in range(3)]
        lines = [pool.submit(post, client, 0) for _ in range(6)]
        for future in pages:
            assert (pixels(base64.b64decode(future.result().json()["image"])) == alone).all()
        for future in lines:
            assert (pixels(base64.b64decode(future.result().json()["results"][0]["image"])) == single).all()
